"""Two ways of training, each with several seeds: is one better on these videos?

    python experiments/pool.py --first a0/scores.csv a1/scores.csv --second b0/scores.csv b1/scores.csv

The difference of the mean AUCs, with the interval and test of DeLong for means over seeds: of each video the
components of the AUC are averaged over the seeds, by clusters where the scores say which videos belong
together. That is how far other videos would change it; how far other seeds would, the standard deviation over
them says.
Goes to <to>/seeds_pooled.json.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import numpy as np
import pandas as pd
from scipy.stats import norm, t

from evaluation.auc import PairedTest, paired_test, placements
from evaluation.clusters import CODE, cluster_counts, clustered_variance, why_no_clusters, with_clusters
from evaluation.tables import read_scores
from utils.cli import HelpFormatter, UserError, run, to_path
from utils.constants import LABELS
from utils.jsonfiles import write_json


class Pooled(PairedTest):
    """What seeds_pooled.json holds: `auc` and `auc_versus` are means over the seeds."""

    n_seeds: int
    n_videos: int
    n_clusters: int
    differences: list[float]  # of each seed


def pool(first: list[pd.DataFrame], second: list[pd.DataFrame]) -> Pooled:
    """Hold score tables of the same videos against each other, of one seed each first with first and so on.

    Raises:
        UserError: lists of different lengths, or tables of other videos.
    """
    if len(first) != len(second):
        raise UserError(f"{len(first)} score files against {len(second)}, expected as many of both.")
    videos = with_clusters(first[0], None).sort_values("video").reset_index(drop=True)
    tables = [table.sort_values("video").reset_index(drop=True) for table in [*first, *second]]
    if not all(table[["video", "label"]].equals(videos[["video", "label"]]) for table in tables):
        raise UserError("the score files are not all of the same videos; score all on the same test split.")
    is_fake = (videos.label == LABELS["fake"]).to_numpy()
    code = videos[CODE].to_numpy() if CODE in videos else np.arange(len(videos))
    scores = np.stack([table.mds.to_numpy(np.float64) for table in tables])
    below, above = zip(*(placements(score[is_fake], score[~is_fake]) for score in scores), strict=True)
    n = len(first)
    below, above = (np.stack(parts) for parts in (below, above))  # (2 n, fake videos), (2 n, real videos)
    aucs = below.mean(1) / above.shape[1]
    differences = [part[:n].mean(0) - part[n:].mean(0) for part in (below, above)]
    n_clusters, *counts = cluster_counts(is_fake, code)
    variance, errors = clustered_variance(*differences, np.concatenate([code[is_fake], code[~is_fake]])), norm
    if CODE in videos:
        errors = t(min(counts) - 1)
        variance = None if why_no_clusters(is_fake, code) else variance
    return {
        **paired_test(float(aucs[:n].mean()), float(aucs[n:].mean()), variance, errors),
        "n_seeds": n,
        "n_videos": len(videos),
        "n_clusters": n_clusters,
        "differences": (aucs[:n] - aucs[n:]).tolist(),
    }


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    for name in ("first", "second"):
        add(f"--{name}", type=to_path, nargs="+", required=True, help="score files, one for each seed")
    add("--to", type=to_path, default=Path(__file__).parent / "results", help="folder of the results")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    result = pool(*([read_scores(path) for path in paths] for paths in (args.first, args.second)))
    write_json(args.to / "seeds_pooled.json", dict(result))
    print(f"difference of the mean AUCs over {result['n_seeds']} seeds: {result['difference']:+.4f}")


if __name__ == "__main__":
    run(main)
