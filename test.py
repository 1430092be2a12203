"""Turn the scores of the test split into figures: the video-wise AUC and what belongs beside it.

    python test.py                                     # scores.csv -> figures, plot, page
    python test.py --scores a.csv --versus b.csv       # is one model better than another on the same videos?
    python test.py --clusters identity                 # intervals that hold where videos share people
    python test.py --shortcuts --out_dir .             # what trivial cues of the videos give away
    python test.py --proposals p.json --labels l.json  # are the fake spans found? AP and AR
    python test.py --robustness test_perturbed         # how AUC and coverage fall where videos are perturbed

Reads scores.csv as `train.py --test` writes it, and beside it, if they are there, scores.json (threshold,
probabilities) and chunk_scores.csv.  Prints the figures and writes metrics.json, roc.png and report.html;
--versus writes versus.json; --shortcuts reads the index, the videos and their chunks, and writes
shortcuts.csv and shortcuts.json; --proposals writes metrics.json; --robustness reads the scores of what
perturb.py wrote, and writes robustness.json, .md and .png.  Fake is the positive class, MDS the score: higher
is more fake.
"""

import argparse
from functools import partial
from pathlib import Path

from utils.cli import HelpFormatter, legible, number, run, stop_quietly, to_path
from utils.constants import SCORE_NAMES, SPLITS

# Libraries that compute are imported by the function that needs them: --help must not wait for them.
SCORE_FILE = "scores.csv"


def mistakes(args: argparse.Namespace) -> list[str]:
    """What is wrong with a command line whose flags are right one by one: those that don't go together."""
    of_scores = args.scores or args.versus or args.threshold is not None
    checks = (
        (
            args.robustness
            and (args.versus or args.threshold is not None or args.shortcuts or args.proposals),
            "--robustness goes without --versus, --threshold, --shortcuts and --proposals",
        ),
        (
            args.proposals and (of_scores or args.shortcuts),
            "--proposals are scored alone: without --scores, --versus, --shortcuts and --threshold",
        ),
        (
            bool(args.proposals) != bool(args.labels) or (args.official and not args.proposals),
            "--proposals and --labels go together, --official with both",
        ),
        (
            args.shortcuts and of_scores,
            "--shortcuts looks at videos, not at scores: it goes without --scores, --versus and --threshold",
        ),
        (
            args.shortcuts and not args.out_dir,
            "--shortcuts needs --out_dir, the folder with train/ and test/ in it",
        ),
        (
            args.shortcuts and args.split not in (None, *SPLITS),
            f"--split {args.split}: --shortcuts knows {' and '.join(SPLITS)}",
        ),
        (
            not args.shortcuts and (args.out_dir or (args.split and not args.proposals)),
            "--out_dir and --split go with --shortcuts; the figures of scores need --scores or --scores_dir",
        ),
        (
            args.clusters and (args.proposals or args.shortcuts or args.robustness),
            "--clusters is about one score table: it goes without --proposals, --shortcuts and --robustness",
        ),
        (
            args.versus and args.threshold is not None,
            "--versus compares scores over all thresholds: it goes without --threshold",
        ),
    )
    return [words for is_wrong, words in checks if is_wrong]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    add, add_path = parser.add_argument, partial(parser.add_argument, type=to_path)
    companions = "under another name its companions are not read"
    other = "compare with another model's score table of the same videos, and stop"
    threshold = "MDS from which on a video is called fake, besides that in scores.json"
    clusters = (
        "which videos are not independent, for intervals that hold: original (a real video with the fakes "
        "made from it), identity, another column of the scores, or none (default: original, if it is known)"
    )
    split = "train or test (default: test); with --proposals: take the labels of this split alone"
    proposals = "score proposals {file: [[score, begin_s, end_s], ...]} of anybody's localization, and stop"
    truth = "the truth, a list of records with file and fake_periods or fake_segments"
    shortcuts = "measure what trivial cues of the videos give away, and stop"
    perturbed = (
        "tell AUC and coverage of each kind and level that perturb.py wrote to this folder, and stop; "
        "--scores are then those of the videos as they are"
    )
    official = "with --proposals: as the published evaluators, whose AP stays below 1"
    add_path(
        "--scores",
        metavar="FILE",
        help=f"the score table (default: {SCORE_FILE} in --scores_dir; {companions})",
    )
    add_path("--scores_dir", help="folder to write to (default: that of --scores, else --out_dir, else .)")
    add("--threshold", type=number(float, 0), help=threshold)
    add_path("--versus", metavar="FILE", help=other)
    add("--clusters", metavar="COLUMN", help=clusters)
    add("--shortcuts", action="store_true", help=shortcuts)
    add_path("--out_dir", help="with --shortcuts: folder with the index and with train/ and test/ in it")
    add("--split", help=f"with --shortcuts: {split}")
    add_path("--proposals", metavar="JSON", help=proposals)
    add_path("--labels", metavar="JSON", help=f"with --proposals: {truth}")
    add("--official", action="store_true", help=official)
    add_path("--robustness", metavar="FOLDER", help=perturbed)
    args = parser.parse_args(argv)
    for words in mistakes(args)[:1]:
        parser.error(words)
    return args


def report_scores(scores_path: Path, folder: Path, threshold: float | None, by: str | None) -> None:
    """Print and write the figures of a score table; `threshold` is one besides that in scores.json, `by` says
    what makes a cluster.
    """
    from evaluation.metrics import as_json, report_figures
    from evaluation.page import write_test_page
    from evaluation.plots import plot_roc
    from evaluation.report import metric_lines
    from evaluation.tables import read_chunk_scores, read_scores, read_summary, unknown_summary
    from utils.files import replacing
    from utils.jsonfiles import write_json

    scores = read_scores(scores_path)
    chunks, summary = None, unknown_summary(f"{scores_path.name} has no scores.json of its own")
    if scores_path.name == SCORE_FILE:  # else its companions may be another model's
        chunks = read_chunk_scores(scores_path.with_name("chunk_scores.csv"), scores)
        summary = read_summary(scores_path.with_name("scores.json"))
    thresholds = {} if threshold is None else {"given on the command line": threshold}
    if summary["threshold"] is not None:
        thresholds[summary["threshold_origin"]] = summary["threshold"]
    report = report_figures(scores, chunks, thresholds, summary, by)
    figures, plot, page = folder / "metrics.json", folder / "roc.png", folder / "report.html"
    write_json(figures, as_json(report))
    with replacing(plot) as path:
        plot_roc(scores, report, path, report["calibration"])
    write_test_page(page, report, scores, scores_path, summary["checkpoint"])
    if report["score"] != SCORE_NAMES["both"]:
        print(f"the MDS of these videos is the mean {legible(report['score'])}")
    print(*metric_lines(report), sep="\n")
    print(f"written: {figures}, {plot}, {page}")


def report_versus(scores_path: Path, versus: Path, folder: Path, by: str | None) -> None:
    """Print and write which of two score tables of the same videos is better."""
    from evaluation.versus import compare_scores, versus_lines
    from utils.jsonfiles import write_json

    result = compare_scores(scores_path, versus, by)
    write_json(folder / "versus.json", dict(result))
    print(*versus_lines(result), sep="\n")
    print(f"written: {folder / 'versus.json'}")


def report_shortcuts(out_dir: Path, split: str, folder: Path) -> None:
    """Print and write what trivial cues of a split's videos give away."""
    from dataset import read_index
    from evaluation.shortcuts import measure_cues, shortcut_figures, shortcut_lines
    from utils.jsonfiles import write_json
    from utils.tables import write_frame

    cues = measure_cues(read_index(out_dir, split), out_dir, split)
    result = shortcut_figures(cues, split)
    path = folder / ("shortcuts.csv" if split == "test" else f"shortcuts_{split}.csv")
    write_frame(path, cues)
    write_json(path.with_suffix(".json"), dict(result))
    print(*shortcut_lines(result), sep="\n")
    print(f"written: {path}, {path.with_suffix('.json')}")


def report_proposals(proposals: Path, labels: Path, split: str | None, official: bool, folder: Path) -> None:
    """Print and write how well proposed spans meet the true ones, beside the figures of scores, if they are
    there.
    """
    from evaluation.span_files import read_labels, read_proposals
    from evaluation.spans import localization_lines, score_proposals
    from utils.jsonfiles import read_json, write_json

    metrics = score_proposals(read_proposals(proposals), read_labels(labels, split), official)
    path = folder / "metrics.json"
    known = read_json(path, "figures") if path.exists() else {}
    write_json(path, {**(known if isinstance(known, dict) else {}), **metrics})
    print(*localization_lines(metrics), sep="\n")
    print(f"written: {path}")


def report_robustness(perturbed: Path, unperturbed: Path | None, folder: Path) -> None:
    """Print and write how AUC and coverage fall with each kind and level of perturbation."""
    from evaluation.robustness import (
        measure_robustness,
        plot_robustness,
        robustness_lines,
        robustness_markdown,
    )
    from utils.files import replacing
    from utils.jsonfiles import write_json

    result, without = measure_robustness(perturbed, unperturbed)
    figures, table, plot = (folder / f"robustness.{suffix}" for suffix in ("json", "md", "png"))
    write_json(figures, dict(result))
    with replacing(table) as path:
        path.write_text(robustness_markdown(result), encoding="utf-8")
    with replacing(plot) as path:
        plot_robustness(result, path)
    print(*robustness_lines(result, without), sep="\n")
    print(f"written: {figures}, {table}, {plot}")


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    folder = args.scores_dir
    if args.proposals:
        report_proposals(args.proposals, args.labels, args.split, args.official, folder or Path("."))
        return
    if args.shortcuts:
        report_shortcuts(args.out_dir, args.split or "test", folder or args.out_dir)
        return
    if args.robustness:
        report_robustness(args.robustness, args.scores, folder or args.robustness)
        return
    scores = args.scores or (folder or Path(".")) / SCORE_FILE
    if args.versus:
        report_versus(scores, args.versus, folder or scores.parent, args.clusters)
    else:
        report_scores(scores, folder or scores.parent, args.threshold, args.clusters)


if __name__ == "__main__":
    stop_quietly()
    parse_args()  # --help and mistakes end here, at once
    import evaluation.page  # noqa: F401  # the libraries of all figures, while Ctrl-C still ends this quietly

    run(main)
