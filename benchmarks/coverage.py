"""How often do 95 % intervals of the AUC hold the truth where videos share people? On scores drawn at random.

    python benchmarks/coverage.py --tries 1000

Each person has real and fake videos, whose scores are normal with a variance of 1, the fakes' higher by
`SHIFT`.  Prints a Markdown table: the share of the tries whose interval holds the AUC that follows from this,
with the videos taken for independent and by clusters.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.stats import norm
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from evaluation.auc import bootstrap_auc, delong_auc, wider
from evaluation.clusters import bootstrap_clusters, clustered_delong

SHIFT = 1.2  # of the fakes, in standard deviations
TRUTH = float(norm.cdf(SHIFT / np.sqrt(2)))
N_RESAMPLES = 500
PEOPLE = (  # their number; real and fake videos of each; see `simulated`
    (20, 1, 8, 0.0, 0.6),
    (40, 1, 8, 0.0, 0.6),
    (100, 1, 8, 0.0, 0.6),
    (40, 1, 8, 0.25, 0.5),
    (20, 10, 10, 0.25, 0.25),
    (40, 5, 10, 0.0, 0.5),
    (40, 1, 1, 0.5, 0.0),
)


def simulated(
    rng: np.random.Generator, n: int, n_real: int, n_fake: int, shared: float, of_fakes: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """is_fake, score and cluster of the videos of n people, each with so many real and fake ones.

    Args:
        shared: share of the variance that all videos of a person have in common.
        of_fakes: and the share that the fakes have in common besides.
    """
    code = np.concatenate([np.repeat(np.arange(n), n_real), np.repeat(np.arange(n), n_fake)])
    is_fake = np.repeat([False, True], [n * n_real, n * n_fake])
    person, forger = np.sqrt(shared) * rng.standard_normal(n), np.sqrt(of_fakes) * rng.standard_normal(n)
    own = np.sqrt(1 - shared - of_fakes * is_fake) * rng.standard_normal(len(code))
    return is_fake, SHIFT * is_fake + person[code] + forger[code] * is_fake + own, code


def covered_shares(people: tuple[int, int, int, float, float], n_tries: int) -> list[float]:
    """The shares of the tries that hold the truth: DeLong's interval, the bootstrap's and the wider of both,
    over videos and then over clusters.
    """
    rng, n_held = np.random.default_rng(0), np.zeros(6)
    for seed in tqdm(range(n_tries), desc=f"{people[0]} people", leave=False):
        is_fake, score, code = simulated(rng, *people)
        by_delong = delong_auc(is_fake, score)[1], clustered_delong(is_fake, score, code)[1]
        by_bootstrap = (
            bootstrap_auc(is_fake, score, N_RESAMPLES, seed),
            bootstrap_clusters(is_fake, score, code, N_RESAMPLES, seed),
        )
        intervals = []
        for delong, bootstrap in zip(by_delong, by_bootstrap, strict=True):
            assert delong is not None  # scores of this many people are neither alike nor in order
            intervals += [delong, bootstrap, wider(delong, bootstrap)]
        n_held += [low <= TRUTH <= high for low, high in intervals]
    return (n_held / n_tries).tolist()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--tries", type=int, default=1000, help="of each row (default: 1000)")
    args = parser.parse_args(argv)
    how = ("DeLong", "bootstrap", "wider")
    columns = [f"{name}, {whose}" for whose in ("videos", "clusters") for name in how]
    print(f"| people | real, fake of each | shared | of fakes | {' | '.join(columns)} |")
    print(f"|{'---|' * (4 + len(columns))}")
    for people in PEOPLE:
        n, n_real, n_fake, shared, of_fakes = people
        cells = [f"{100 * share:.1f} %" for share in covered_shares(people, args.tries)]
        print(f"| {n} | {n_real}, {n_fake} | {shared} | {of_fakes} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
