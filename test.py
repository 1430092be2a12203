"""Turn the scores of the test split into figures: the video-wise AUC and what belongs beside it.

    python test.py                                     # scores.csv -> figures, plot, page
    python test.py --scores a.csv --versus b.csv       # is one model better than another on the same videos?
    python test.py --shortcuts --out_dir .             # what trivial cues of the videos give away
    python test.py --proposals p.json --labels l.json  # are the fake spans found? AP and AR

Reads scores.csv as `train.py --test` writes it, and beside it, if they are there, scores.json (the threshold)
and chunk_scores.csv.  Prints the figures and writes metrics.json, roc.png and report.html; --versus writes
versus.json; --shortcuts reads the index, the videos and their chunks, and writes shortcuts.csv and
shortcuts.json; --proposals writes metrics.json.  Fake is the positive class, MDS the score: higher is more
fake.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils.cli import stop_quietly

    stop_quietly()

import argparse
from pathlib import Path

from evaluation.metrics import AUTHORS_THRESHOLD, compare_scores, decisions, video_metrics
from evaluation.report import metric_lines, plot_roc, versus_lines, write_report
from evaluation.span_files import read_labels, read_proposals
from evaluation.spans import localization_lines, score_proposals
from evaluation.tables import read_chunk_scores, read_scores, read_summary
from utils.cli import number, run, to_path
from utils.constants import SPLITS
from utils.files import replacing
from utils.jsonfiles import read_json, write_json
from utils.tables import write_frame

SCORES = "scores.csv"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add(
        "--scores",
        type=to_path,
        metavar="FILE",
        help=f"the score table (default: {SCORES} in --scores_dir; under another name its companions are not read)",
    )
    add(
        "--scores_dir",
        type=to_path,
        help="folder to write to (default: that of --scores, else --out_dir, else .)",
    )
    add(
        "--threshold",
        type=number(float, 0),
        help="MDS from which on a video is called fake, besides that in scores.json",
    )
    add(
        "--versus",
        type=to_path,
        metavar="FILE",
        help="compare with another model's score table of the same videos, and stop",
    )
    add(
        "--shortcuts", action="store_true", help="measure what trivial cues of the videos give away, and stop"
    )
    add(
        "--out_dir",
        type=to_path,
        help="with --shortcuts: folder with the index and with train/ and test/ in it",
    )
    add(
        "--split",
        help="with --shortcuts: train or test (default: test); with --proposals: take the labels of this split alone",
    )
    add(
        "--proposals",
        type=to_path,
        metavar="JSON",
        help="score proposals {file: [[score, begin_s, end_s], ...]} of anybody's localization, and stop",
    )
    add(
        "--labels",
        type=to_path,
        metavar="JSON",
        help="with --proposals: the truth, a list of records with file and fake_periods or fake_segments",
    )
    add(
        "--official",
        action="store_true",
        help="with --proposals: as the published evaluators, whose AP stays below 1",
    )
    args = parser.parse_args(argv)
    if args.proposals and (args.scores or args.versus or args.shortcuts or args.threshold is not None):
        parser.error("--proposals are scored alone: without --scores, --versus, --shortcuts and --threshold")
    if bool(args.proposals) != bool(args.labels) or (args.official and not args.proposals):
        parser.error("--proposals and --labels go together, --official with both")
    if args.shortcuts and (args.scores or args.versus or args.threshold is not None):
        parser.error(
            "--shortcuts looks at videos, not at scores: it goes without --scores, --versus and --threshold"
        )
    if args.shortcuts and not args.out_dir:
        parser.error("--shortcuts needs --out_dir, the folder with train/ and test/ in it")
    if args.shortcuts and args.split not in (None, *SPLITS):
        parser.error(f"--split {args.split}: --shortcuts knows {' and '.join(SPLITS)}")
    if not args.shortcuts and (args.out_dir or (args.split and not args.proposals)):
        parser.error(
            "--out_dir and --split go with --shortcuts; the figures of scores need --scores or --scores_dir"
        )
    if args.versus and args.threshold is not None:
        parser.error("--versus compares scores over all thresholds: it goes without --threshold")
    return args


def report_scores(scores_path: Path, folder: Path, threshold: float | None) -> None:
    """Print and write the figures of a score table; `threshold` is one besides that in scores.json."""
    scores = read_scores(scores_path)
    chunks, summary = (
        None,
        {"threshold": None, "threshold_origin": f"none: {scores_path.name} has no scores.json of its own"},
    )
    if scores_path.name == SCORES:  # else they may be another model's
        chunks = read_chunk_scores(scores_path.with_name("chunk_scores.csv"), scores)
        summary = read_summary(scores_path.with_name("scores.json"))
    thresholds = {} if threshold is None else {"given on the command line": threshold}
    if summary["threshold"] is not None:
        thresholds[summary["threshold_origin"]] = summary["threshold"]
    origin, threshold = next(iter(thresholds.items()), (summary["threshold_origin"], None))
    metrics = video_metrics(scores, threshold, chunks) | {"threshold_origin": origin}
    thresholds["the authors', fixed"] = AUTHORS_THRESHOLD
    metrics["thresholds"] = [decisions(scores, value, origin) for origin, value in thresholds.items()]
    write_json(folder / "metrics.json", metrics)
    plot = folder / "roc.png"
    with replacing(plot) as path:
        plot_roc(scores, metrics, path)
    write_report(folder / "report.html", metrics, plot, str(scores_path), summary.get("checkpoint"))
    print(*metric_lines(metrics), sep="\n")
    print(f"written: {folder / 'metrics.json'}, {plot}, {folder / 'report.html'}")


def report_shortcuts(out_dir: Path, split: str, folder: Path) -> None:
    """Print and write what trivial cues of a split's videos give away."""
    # here, since only this needs PyTorch
    from dataset import read_index
    from evaluation.shortcuts import measure_cues, shortcut_figures, shortcut_lines

    cues = measure_cues(read_index(out_dir, split), out_dir, split)
    result = {"split": split} | shortcut_figures(cues)
    path = folder / ("shortcuts.csv" if split == "test" else f"shortcuts_{split}.csv")
    write_frame(path, cues)
    write_json(path.with_suffix(".json"), result)
    print(*shortcut_lines(result), sep="\n")
    print(f"written: {path}, {path.with_suffix('.json')}")


def report_proposals(proposals: Path, labels: Path, split: str | None, official: bool, folder: Path) -> None:
    """Print and write how well proposed spans meet the true ones."""
    metrics = score_proposals(read_proposals(proposals), read_labels(labels, split), official)
    path = folder / "metrics.json"
    known = read_json(path, "figures") if path.exists() else {}
    write_json(
        path, (known if isinstance(known, dict) else {}) | metrics
    )  # beside the figures of scores, if they are there
    print(*localization_lines(metrics), sep="\n")
    print(f"written: {folder / 'metrics.json'}")


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.proposals:
        report_proposals(args.proposals, args.labels, args.split, args.official, args.scores_dir or Path("."))
        return
    if args.shortcuts:
        report_shortcuts(args.out_dir, args.split or "test", args.scores_dir or args.out_dir)
        return
    scores = args.scores or (args.scores_dir or Path(".")) / SCORES
    folder = args.scores_dir or scores.parent
    if args.versus:
        result = compare_scores(scores, args.versus)
        write_json(folder / "versus.json", result)
        print(*versus_lines(result), sep="\n")
        print(f"written: {folder / 'versus.json'}")
    else:
        report_scores(scores, folder, args.threshold)


if __name__ == "__main__":
    run(main)
