"""Print the tables of README.md and docs/ from experiments/results/, or write them there.

python experiments/table.py                # all of them
python experiments/table.py ablation       # one experiment
python experiments/table.py --write        # into the documents, between <!-- table: NAME --> and <!-- end -->
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import numpy as np
import pandas as pd

from experiments.record import GENERATED
from utils.cli import HelpFormatter, UserError, run, to_path
from utils.jsonfiles import read_json

PROJECT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).parent / "results"
DOCUMENTS = ("README.md", "docs/experiments.md", "docs/robustness.md", "benchmarks/RESULTS.md")
PLACE = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
NONE = "–"

Row = dict  # of a results file, see record.py


def result_rows(results: Path, name: str) -> list[Row]:
    """The rows of an experiment; none if it was not run."""
    file = results / f"{name}.json"
    return read_json(file, "rows of results")["rows"] if file.exists() else []


def by_name(rows: list[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each name on the same videos, in order: the seeds of one training."""
    for key in dict.fromkeys(map(name_and_videos, rows)):
        yield key[0], [row for row in rows if name_and_videos(row) == key]


def name_and_videos(row: Row) -> tuple[str, str, str]:
    return row["row"], row["data"], row.get("tested_on", "")


def mean_and_spread(values: list[float]) -> str:
    """One value, or the mean of several ± their standard deviation."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def interval_of(figures: dict) -> list[float] | None:
    """The interval to go by: by clusters, if there is one."""
    clusters = figures.get("clusters") or {}
    return clusters.get("auc_ci95_wider") or figures.get("auc_ci95_wider")


def auc_text(rows: list[Row]) -> str:
    """The AUC with its interval, or over several seeds."""
    text = mean_and_spread([row["figures"]["auc"] for row in rows])
    interval = interval_of(rows[0]["figures"]) if len(rows) == 1 else None
    return f"{text} ({interval[0]:.2f} to {interval[1]:.2f})" if interval else text


def head_text(rows: list[Row], head: str) -> str:
    heads = [row["figures"].get("heads", {}).get(head) for row in rows]
    return mean_and_spread([h["auc"] for h in heads]) if all(heads) else NONE


def hardware(row: Row) -> str:
    words = re.sub(r"\b(NVIDIA|AMD|Intel|Processor|\d+-Core)\b ?", "", row["environment"]["device"]).strip()
    return re.sub(r"\b1 threads", "1 thread", re.sub(r" +,", ",", words))


def data_text(row: Row) -> str:
    """What was tested on."""
    data = "generated videos" if row["data"] == GENERATED else row["data"] or "videos"
    return f"{row['figures']['n_videos']} {data}"


def duration_text(rows: list[Row]) -> str:
    return f"{np.mean([row['training_s'] for row in rows]) / 60:.1f} min"


def markdown(head: Sequence[str], cells: list[list[str]]) -> str:
    """A table, or a word if it is empty."""
    if not cells:
        return "Not run yet.\n"
    lines = [f"| {' | '.join(row)} |" for row in [list(head), ["---"] * len(head), *cells]]
    return "\n".join(lines) + "\n"


def plain_table(results: Path, name: str) -> str:
    """The usual table: a line for each training, or for its seeds."""
    head = (
        "training",
        "tested on",
        "AUC",
        "head on pictures",
        "head on sound",
        "training took",
        "hardware",
        "runs",
    )
    cells = [
        [
            row_name,
            data_text(rows[0]),
            auc_text(rows),
            head_text(rows, "video"),
            head_text(rows, "audio"),
            duration_text(rows),
            hardware(rows[0]),
            str(len(rows)),
        ]
        for row_name, rows in by_name(result_rows(results, name))
    ]
    return markdown(head, cells)


def learning_table(results: Path, _: str) -> str:
    """What benchmarks/learning.py wrote, a line for each recipe: means over the seeds."""
    cells = []
    for file in sorted(results.glob("learning_*.csv"), key=learning_settings):
        img_dim, width, batch_size = learning_settings(file)
        for (recipe, pairs), rows in pd.read_csv(file).groupby(["recipe", "pairs"], sort=False):
            by_steps = [(steps, own) for steps, own in rows.groupby("steps")]
            last = by_steps[-1][1]
            aucs = [f"{own.test_auc.mean():.3f}" for _, own in by_steps[:-1]] + [spread(last.test_auc)]
            cells.append(
                [
                    recipe,
                    f"{img_dim} px, {width:g}, {batch_size}",
                    str(pairs),
                    " / ".join(str(steps) for steps, _ in by_steps),
                    " / ".join(aucs),
                    spread(last.test_chunk_auc),
                    f"{last.control_auc.mean():.2f}",
                    f"{last.distance_real.mean():.2f} and {last.distance_fake.mean():.2f}",
                    f"{last.seconds.mean():.0f} s",
                    str(len(last)),
                ]
            )
    figures = (
        "steps",
        "AUC by video then",
        "by chunk at the end",
        "control",
        "distance of own and foreign sound",
    )
    return markdown(("recipe", "frames, width, batch", "pairs", *figures, "training took", "seeds"), cells)


def learning_settings(file: Path) -> tuple[int, float, int]:
    """Side of the frames in pixels, width of the network and batch size, by the name of a file."""
    found = re.fullmatch(r"learning_(\d+)px_w([\d.]+)_bs(\d+)_.*", file.stem)
    if not found:
        raise UserError(f"{file}: expected a name as benchmarks/learning.py gives it.")
    return int(found[1]), float(found[2]), int(found[3])


def spread(values: pd.Series) -> str:
    """One value, or the lowest and the highest of several."""
    low, high = f"{values.min():.3f}", f"{values.max():.3f}"
    return low if low == high else f"{low} to {high}"


def seeds_table(results: Path, name: str) -> str:
    """The usual table, and the two trainings against each other if there are two."""
    file = results / "seeds_pooled.json"
    if not file.exists():
        return plain_table(results, name)
    pooled = read_json(file, "what pool.py writes")
    interval = pooled["difference_ci95"]
    how = f"{interval[0]:+.3f} to {interval[1]:+.3f}" if interval else "none: too few"
    words = (
        f"The first less the second: {pooled['difference']:+.3f} (95 % interval over {pooled['n_clusters']} "
        f"clusters of videos: {how}); by seed {', '.join(f'{x:+.3f}' for x in pooled['differences'])}."
    )
    return f"{plain_table(results, name)}\n{words}\n"


def readme_table(results: Path, _: str) -> str:
    """What the README promises: the paper's figures beside ours."""
    cells = []
    for command, paper, name, row_name in README_ROWS:
        rows = [row for row in result_rows(results, name) if row["row"] == row_name]
        ours = f"{auc_text(rows)} on {data_text(rows[0])}" if rows else "not yet"
        cells.append([command, paper, ours, hardware(rows[0]) if rows else NONE, str(len(rows))])
    cells += [learning_line(results, *row) for row in LEARNING_ROWS]
    cells += [real_clips_line(results, *row) for row in REAL_CLIPS_ROWS]
    return markdown(("command", "the paper", "ours", "hardware", "runs"), cells)


def learning_line(results: Path, command: str, name: str, recipe: str, pairs: int) -> list[str]:
    """A line of the README out of what benchmarks/learning.py wrote: the last scoring of each training."""
    file = results / f"{name}.csv"
    table = pd.read_csv(file) if file.exists() else pd.DataFrame({"recipe": [], "pairs": []})
    own = table[(table.recipe == recipe) & (table.pairs == pairs)]
    if own.empty:
        return [command, NONE, "not yet", NONE, "0"]
    last = own[own.steps == own.steps.max()]
    ours = f"{spread(last.test_auc)} on unseen generated videos, {spread(last.test_chunk_auc)} by second"
    return [command, NONE, ours, "a CPU", str(len(last))]


def real_clips_line(results: Path, command: str, setup: str, comparison: str, words: str) -> list[str]:
    """A line of the README out of what benchmarks/real_clips.py wrote."""
    file = results / "real_clips.json"
    found = read_json(file, "what benchmarks/real_clips.py writes") if file.exists() else {"results": []}
    for row in found["results"]:
        if (row["setup"], row["comparison"]) == (setup, comparison):
            auc, low, high = row["auc"]
            ours = f"{auc:.3f} ({low:.2f} to {high:.2f}) {words}"
            return [command, NONE, ours, "a CPU", str(found["seeds"])]
    return [command, NONE, "not yet", NONE, "0"]


def cross_table(results: Path, name: str) -> str:
    """A line for each model, a column for each data set: the AUC, and the balanced accuracy at the model's
    threshold and at the best one for those videos.
    """
    rows = result_rows(results, name)
    sets = list(dict.fromkeys(row["tested_on"] for row in rows))
    cells = []
    for model in dict.fromkeys(row["row"] for row in rows):
        own = [row for row in rows if row["row"] == model]
        by_set = {row["tested_on"]: row for row in own}
        cells.append([model, *(cross_cell(by_set[data]) if data in by_set else NONE for data in sets)])
    return markdown(("model", *sets), cells)


def cross_cell(row: Row) -> str:
    thresholds = row["figures"]["thresholds"]
    own = f"{thresholds[0]['balanced_accuracy']:.2f}" if thresholds else NONE
    words = f"{own} / {row['figures']['best_balanced_accuracy']:.2f}"
    return f"{auc_text([row])}; {words}"


def robustness_table(results: Path, name: str) -> str:
    """A line for each kind, a column for each level: AUC, and coverage where it is not 1."""
    levels = [level for row in result_rows(results, name)[-1:] for level in row["figures"]["levels"]]
    columns = sorted({level["level"] for level in levels if level["level"]})
    cells = []
    for kind in dict.fromkeys(level["kind"] for level in levels):
        own = {level["level"]: robustness_cell(level) for level in levels if level["kind"] == kind}
        alone = own.get(0)  # the control has no levels
        cells.append([f"`{kind}`", *(alone or own.get(column, NONE) for column in columns)])
    of_last = "".join(f"\n`{row['row']}` on {data_text(row)}.\n" for row in result_rows(results, name)[-1:])
    return markdown(("kind", *map(str, columns)), cells) + of_last


def robustness_cell(level: dict) -> str:
    auc = NONE if level["auc"] is None else f"{level['auc']:.2f}"
    return auc if level["coverage"] == 1 else f"{auc} ({100 * level['coverage']:.0f} %)"


README_ROWS = (
    ("`bash experiments/dfdc.sh DFDC`", "about 91 %", "dfdc", "DFDC"),
    ("`bash experiments/dftimit.sh TIMIT lq`", "97.92 %", "dftimit", "DF-TIMIT LQ"),
    ("`bash experiments/dftimit.sh TIMIT hq`", "96.87 %", "dftimit", "DF-TIMIT HQ"),
    ("`bash demo/run.sh`", NONE, "demo", "demo"),
    ("`bash demo/run.sh --shuffled`", NONE, "demo", "shuffled labels and sounds"),
)
LEARNING_ROWS = (
    (
        "`benchmarks/learning.py`, `sync` from real videos alone",
        "learning_32px_w1_bs32_bf16",
        "sync, real videos alone",
        450,
    ),
    ("the same with a quarter of the width", "learning_32px_w0.25_bs32_bf16", "sync, real videos alone", 300),
    ("`sync` with fakes, a quarter of the width", "learning_32px_w0.25_bs32_bf16", "sync", 300),
    ("the same with batch norm", "learning_32px_w0.25_bs32_bf16", "sync, batch norm", 300),
)
REAL_CLIPS_ROWS = (
    (
        "`benchmarks/real_clips.py`, another second's sound on 18 real videos",
        "generated",
        "another second's sound, by video",
        "with a network of generated videos",
    ),
    (
        "the same, fakes with synthetic voices",
        "both",
        "fakes",
        "when trained with such fakes; the sound alone is enough for it",
    ),
)
TABLES: dict[str, Callable[[Path, str], str]] = {
    "readme": readme_table,
    "dfdc": plain_table,
    "dftimit": plain_table,
    "fakeavceleb": plain_table,
    "lavdf": plain_table,
    "ablation": plain_table,
    "chunk_length": plain_table,
    "seeds": seeds_table,
    "cross": cross_table,
    "robustness": robustness_table,
    "demo": plain_table,
    "learning": learning_table,
}


def filled(text: str, results: Path) -> str:
    """A document with its tables made anew."""

    def table(match: re.Match) -> str:
        if match[2] not in TABLES:
            raise UserError(f"table {match[2]}: expected one of {', '.join(TABLES)}.")
        return f"{match[1]}{TABLES[match[2]](results, match[2])}{match[4]}"

    return PLACE.sub(table, text)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"of {', '.join(TABLES)} (default: all)")
    add("--results", type=to_path, default=RESULTS, help="folder of the results")
    add("--write", action="store_true", help="write the tables into the documents")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(TABLES):
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(TABLES)}")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.write:
        for name in DOCUMENTS:
            path = PROJECT / name
            path.write_text(filled(path.read_text(), args.results))
        return
    for name in args.names or TABLES:
        print(f"{name}\n\n{TABLES[name](args.results, name)}")


if __name__ == "__main__":
    run(main)
