"""Put the figures of a training into experiments/results/<name>.json, from where table.py takes them.

    python experiments/record.py demo --scores demo/data --run demo/data/log_tmp --row demo \\
        --command "bash demo/run.sh"

A row's name, a seed and a test split stand for one result; what is recorded again replaces it.
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from utils.claims import claimed
from utils.cli import HelpFormatter, UserError, run, to_path
from utils.constants import LABELS
from utils.jsonfiles import read_json, write_json

KEYS = ("row", "seed", "data", "tested_on")  # what tells the rows of an experiment apart
PATHS = ("out_dir", "log_dir", "scores_dir", "resume", "test", "export")  # of this machine
GENERATED = "generated"  # what demo/make_videos.py calls its videos in the column `source`


def found_run(folder: Path) -> Path:
    """The only run in a --log_dir; UserError if there are none or several."""
    runs = sorted(path.parent for path in folder.glob("*/args.json"))
    if len(runs) != 1:
        raise UserError(f"{folder} holds {len(runs)} runs with args.json, expected one.")
    return runs[0]


def of_the_method(flags: dict) -> dict:
    """The flags without paths."""
    return {name: value for name, value in flags.items() if name not in PATHS}


def describe_run(folder: Path) -> dict:
    """What is known of a training: flags, surroundings, how long it took."""
    flags = read_json(folder / "args.json", "flags of train.py")
    lines = (folder / "log.jsonl").read_text().splitlines()
    log = pd.DataFrame(json.loads(line) for line in lines)
    environment = read_json(folder / "env.json", "what surrounds the run")
    of_step = flags["batch_size"] * flags.get("accumulate", 1) * environment["processes"]
    n_chunks = log.iteration.diff().fillna(log.iteration) * of_step
    return {
        "flags": of_the_method(flags),
        "environment": environment,
        "steps": int(log.iteration.iloc[-1]),
        "training_s": round(float((n_chunks / log.chunks_per_s).sum()), 1),
    }


def describe_model(path: Path) -> dict:
    """What is known of a checkpoint or exported model."""
    from utils.checkpoint import load_checkpoint  # PyTorch takes seconds to import

    checkpoint = load_checkpoint(path, {})
    flags = checkpoint.get("args", {})
    return {"flags": of_the_method(flags), "environment": checkpoint.get("env", {})}


def best_balanced_accuracy(scores: Path) -> float:
    """At the threshold that parts these very videos best: what one of their own could give at most."""
    table = pd.read_csv(scores / "scores.csv")
    fpr, tpr, _ = roc_curve(table.label == LABELS["fake"], table.mds)
    return float(np.max((tpr + 1 - fpr) / 2))


def sources(table: Path) -> str:
    """The data sets of some videos, by the column `source` of a table; empty if it says nothing."""
    rows = pd.read_csv(table, keep_default_na=False, dtype=str) if table.exists() else pd.DataFrame()
    return ", ".join(sorted(set(rows.source) - {""})) if "source" in rows else ""


def figures_of(args: argparse.Namespace) -> tuple[dict, str]:
    """The figures, and the data sets of the videos that they are of."""
    if args.robustness:
        return read_json(args.robustness, "what test.py --robustness writes"), sources(args.index)
    figures = read_json(args.scores / "metrics.json", "what test.py writes")
    figures["best_balanced_accuracy"] = best_balanced_accuracy(args.scores)
    if args.spans:
        spans = read_json(args.spans / "metrics.json", "what test.py --proposals writes")
        figures |= {key: spans[key] for key in ("ap", "ar", "n_files", "n_spans")}
    return figures, sources(args.scores / "scores.csv")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("name", help="of the experiment")
    add("--to", type=to_path, default=Path(__file__).parent / "results", help="folder of the results")
    made = parser.add_mutually_exclusive_group(required=True)
    made.add_argument("--scores", type=to_path, help="folder with scores.csv and metrics.json")
    made.add_argument("--robustness", type=to_path, help="robustness.json")
    add("--index", type=to_path, help="index.csv of the videos, with --robustness")
    trained = parser.add_mutually_exclusive_group(required=True)
    trained.add_argument("--run", type=to_path, help="--log_dir of the training")
    trained.add_argument("--model", type=to_path, help="checkpoint or exported model")
    add("--row", required=True, help="what distinguishes the training within the experiment")
    add("--spans", type=to_path, help="folder with the metrics.json of test.py --proposals")
    add("--command", required=True, help="that made the figures")
    add("--tested_on", default="", help="name of the test split, where a training has several")
    add("--generated", action="store_true", help="the videos are generated, whatever the tables say")
    args = parser.parse_args(argv)
    if args.robustness and not args.index:
        parser.error("--robustness takes --index, too")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    told = describe_run(found_run(args.run)) if args.run else describe_model(args.model)
    figures, data = figures_of(args)
    row = {
        "row": args.row,
        "seed": told["flags"].get("seed"),
        "data": GENERATED if args.generated else data,
        "command": args.command,
        "recorded": datetime.now(UTC).date().isoformat(),
        "tested_on": args.tested_on,
        "figures": figures,
        **told,
    }
    file = args.to / f"{args.name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with claimed(file, wait=True):  # another experiment may end at the same time
        rows = read_json(file, "rows of results")["rows"] if file.exists() else []
        same = [all(old[key] == row[key] for key in KEYS) for old in rows]
        rows = [row if replaced else old for old, replaced in zip(rows, same, strict=True)]
        write_json(file, {"experiment": args.name, "rows": rows if any(same) else [*rows, row]})


if __name__ == "__main__":
    run(main)
