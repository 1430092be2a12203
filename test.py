"""Turn the scores of the test split into figures: the video-wise AUC and what belongs beside it.

    python test.py

Reads scores.csv (and scores.json, the threshold) as `train.py --test` writes them.  Prints the figures and writes
metrics.json and roc.png.  Fake is the positive class, MDS the score: higher is more fake.
"""

import argparse
import json
from pathlib import Path

from utils.cli import UserError, number, run
from utils.files import replacing
from utils.report import plot_roc
from utils.scoring import read_scores, video_metrics


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--scores_dir", type=Path, default=Path("."), help="folder with scores.csv (default: .)")
    parser.add_argument(
        "--threshold", type=number(float, 0), help="MDS from which on a video is called fake (default: scores.json)"
    )
    return parser.parse_args(argv)


def stored_threshold(path: Path) -> tuple[float | None, str]:
    """The threshold in scores.json and where it comes from; None if there is no such file."""
    if not path.is_file():
        return None, f"none: {path} does not exist"
    try:
        stored = json.loads(path.read_text())
        threshold = None if stored["threshold"] is None else float(stored["threshold"])
        return threshold, stored["threshold_origin"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not what train.py --test writes ({error}); score again or give --threshold.") from error


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    scores = read_scores(args.scores_dir / "scores.csv")
    threshold, origin = args.threshold, "given on the command line"
    if threshold is None:
        threshold, origin = stored_threshold(args.scores_dir / "scores.json")
    metrics = video_metrics(scores, threshold) | {"threshold_origin": origin}
    with replacing(args.scores_dir / "metrics.json") as path:
        path.write_text(json.dumps(metrics, indent=1) + "\n")
    with replacing(args.scores_dir / "roc.png") as path:
        plot_roc(scores, metrics, path)

    low, high = metrics["auc_ci95"]
    print(f"{metrics['n_videos']} videos: {metrics['n_real']} real, {metrics['n_fake']} fake")
    print(f"AUC (video-wise)                  {metrics['auc']:.4f}   95 % interval {low:.4f} to {high:.4f}")
    print(f"average precision                 {metrics['average_precision']:.4f}")
    print(f"equal error rate                  {metrics['eer']:.4f}")
    if threshold is None:
        print(f"accuracy                          no threshold ({origin}); give one with --threshold")
    else:
        print(f"accuracy at MDS >= {threshold:<8.4f}       {metrics['accuracy']:.4f}   threshold: {origin}")
    print(f"authors' thresholded AUC          {metrics['authors_auc']:.4f}   decisions at their fixed MDS >= 0.6")
    print(f"written: {args.scores_dir / 'metrics.json'}, {args.scores_dir / 'roc.png'}")


if __name__ == "__main__":
    run(main)
