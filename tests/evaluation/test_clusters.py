"""Intervals and tests where videos are not independent: against the paper's formulae, and the truth."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from benchmarks import coverage
from benchmarks.coverage import TRUTH, simulated
from evaluation.auc import LEVEL, delong_auc, delong_test, delong_variance, placements
from evaluation.clusters import (
    CODE,
    bootstrap_clusters,
    cluster_column,
    cluster_figures,
    clustered_delong,
    clustered_test,
    clustered_variance,
    with_clusters,
)
from utils.cli import UserError


def covers(interval) -> bool:
    return interval[0] <= TRUTH <= interval[1]


def chance(n: int, share: float = LEVEL) -> tuple[float, float]:
    """Between which shares of n tries, each right with the probability `share`, lie 999 of 1000 times."""
    low, high = binom.interval(0.999, n, share)
    return low / n, high / n


@pytest.mark.parametrize("people", [(20, 10, 10, 0.25, 0.25), (40, 5, 10, 0, 0.5)])
def test_naive_intervals_cover_too_little_and_clustered_ones_as_they_should(people):
    rng, n = np.random.default_rng(7), 300
    found = []
    for _ in range(n):
        is_fake, score, code = simulated(rng, *people)
        naive, clustered = delong_auc(is_fake, score)[1], clustered_delong(is_fake, score, code)[1]
        found.append((covers(naive), covers(clustered)))
    naive, clustered = np.mean(found, axis=0)
    low, high = chance(n)
    assert low <= clustered <= high
    assert naive < low


def test_the_cluster_bootstrap_covers_nearly_as_it_should():
    """Percentiles fall a little short with 20 people, which is why the report takes the wider interval."""
    rng, n = np.random.default_rng(8), 150
    found = []
    for _ in range(n):
        is_fake, score, code = simulated(rng, 20, 5, 5, 0.25, 0.5)
        by_clusters = bootstrap_clusters(is_fake, score, code, n_resamples=200)
        by_videos = bootstrap_clusters(is_fake, score, np.arange(len(code)), n_resamples=200)
        found.append((covers(by_videos), covers(by_clusters)))
    by_videos, by_clusters = np.mean(found, axis=0)
    low, high = chance(n, 0.93)
    assert low <= by_clusters <= high and by_videos < low


def test_the_paired_test_by_clusters_finds_no_difference_where_there_is_none():
    rng, n = np.random.default_rng(9), 200
    found = []
    for _ in range(n):
        is_fake, first, code = simulated(rng, 20, 5, 10, 0, 0.6)
        second = simulated(rng, 20, 5, 10, 0, 0.6)[1]
        tests = delong_test(is_fake, first, second), clustered_test(is_fake, first, second, code)
        found.append([test["p"] < 0.05 for test in tests])
    naive, clustered = np.mean(found, axis=0)
    low, high = chance(n, 0.05)
    assert low <= clustered <= high < naive


@pytest.mark.parametrize("decimals", [0, 9])  # with many ties and none
def test_the_variance_is_that_of_the_paper(decimals):
    """Obuchowski's S10, S01 and S11, term by term."""
    rng = np.random.default_rng(decimals)
    is_fake, score, code = simulated(rng, 12, 2, 3, 0.3, 0.3)
    keep = rng.random(len(code)) < 0.7  # clusters of different sizes, some with one class
    is_fake, score, code = is_fake[keep], np.round(score[keep], decimals), code[keep]
    fakes, reals = score[is_fake], score[~is_fake]
    pairs = (fakes[:, None] > reals) + 0.5 * (fakes[:, None] == reals)
    v10, v01, auc, m, n = pairs.mean(1), pairs.mean(0), pairs.mean(), len(fakes), len(reals)
    names = sorted(set(code))
    of_fakes = [sum(v - auc for v, c in zip(v10, code[is_fake], strict=True) if c == name) for name in names]
    of_reals = [sum(v - auc for v, c in zip(v01, code[~is_fake], strict=True) if c == name) for name in names]
    n10, n01, n_all = len(set(code[is_fake])), len(set(code[~is_fake])), len(names)
    s10 = n10 / ((n10 - 1) * m) * sum(x * x for x in of_fakes)
    s01 = n01 / ((n01 - 1) * n) * sum(x * x for x in of_reals)
    s11 = n_all / (n_all - 1) * sum(x * y for x, y in zip(of_fakes, of_reals, strict=True))
    variance = clustered_variance(*placements(fakes, reals), np.concatenate([code[is_fake], code[~is_fake]]))
    assert variance == pytest.approx(s10 / m + s01 / n + 2 / (m * n) * s11)


def test_clusters_of_one_video_change_nothing():
    rng = np.random.default_rng(1)
    is_fake, score, code = simulated(rng, 15, 1, 2, 0.5, 0)
    alone = np.arange(len(code))
    parts = placements(score[is_fake], score[~is_fake])
    assert clustered_variance(*parts, alone) == pytest.approx(delong_variance(*parts))
    assert clustered_variance(*parts, code) != pytest.approx(delong_variance(*parts), rel=0.01)


def named(**columns) -> pd.DataFrame:
    return pd.DataFrame({"video": ["real/a", "real/b", "fake/c", "fake/d", "fake/e"]} | columns)


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("original", ["real/a fake/c fake/d", "real/b", "fake/e"]),
        ("identity", ["real/a real/b fake/d", "fake/c", "fake/e"]),  # of a and b by way of d
        ("site", ["real/a fake/d fake/e", "real/b", "fake/c"]),
    ],
)
def test_which_videos_belong_together(by, groups):
    table = named(
        original=["", "", "real/a", "real/a", "real/gone"],
        identity=["Ann", "Bob;Cid", "", "Cid; Ann", "Eve"],
        site=[1.0, np.nan, np.nan, 1.0, 1.0],
    )
    found = with_clusters(table, by).groupby(CODE, sort=False).video.agg(" ".join)
    assert sorted(found) == sorted(groups)


def test_what_makes_a_cluster_if_nobody_says():
    assert cluster_column(named(original=["", "", "real/a", "", ""]), None) == "original"
    assert cluster_column(named(original=""), None) is cluster_column(named(), None) is None
    assert cluster_column(named(original="x"), "none") is None
    with pytest.raises(UserError, match=r"--clusters person: the scores have no such column, only video;"):
        cluster_column(named(), "person")


def scored(n: int, seed: int = 0) -> pd.DataFrame:
    """Scores of n originals with three fakes each."""
    is_fake, score, code = simulated(np.random.default_rng(seed), n, 1, 3, 0.3, 0.4)
    video = [f"{'fake' if fake else 'real'}/{i}" for i, fake in enumerate(is_fake)]
    origin = np.where(is_fake, [f"real/{c}" for c in code], "")
    return pd.DataFrame({"video": video, "label": 1 - is_fake, "mds": score, "original": origin})


@pytest.mark.parametrize("n", [9, 10])
def test_none_below_ten_clusters(tmp_path, scripts, capsys, n):
    scored(n).to_csv(tmp_path / "scores.csv", index=False)
    scripts["test"].main(["--scores_dir", str(tmp_path)])
    printed = capsys.readouterr().out
    clusters = json.loads((tmp_path / "metrics.json").read_text())["clusters"]
    assert (clusters["n_clusters"], clusters["n_with_real"], clusters["n_with_fake"]) == (n, n, n)
    assert clusters["largest"] == 4 and (clusters["auc_ci95_wider"] is None) == (n < 10)
    page = (tmp_path / "report.html").read_text()
    if n < 10:
        why = "of 9 clusters 9 have a real video and 9 a fake one; it takes 10 of both"
        assert f"no interval by clusters of original: {why}\n" in printed and why in page
    else:
        low, high = clusters["auc_ci95_wider"]
        interval = f"95 % interval {low:.4f} to {high:.4f} (10 clusters by original: the wider"
        assert interval in printed and f"95 % interval {low:.3f} to {high:.3f}" in page
        assert "as if videos were independent" in printed and "as if videos were independent" in page


def test_clusters_that_are_asked_for(tmp_path, scripts, capsys):
    table = scored(12).assign(identity=[f"id{i % 3}" for i in range(48)])
    table.to_csv(tmp_path / "scores.csv", index=False)
    for flags, words in (
        (["--clusters", "identity"], "no interval by clusters of identity: of 3 clusters 3 have"),
        (["--clusters", "video"], "no interval by clusters of video: no two of the videos belong together"),
        (["--clusters", "none"], "(the wider of the next two)"),
    ):
        scripts["test"].main(["--scores_dir", str(tmp_path), *flags])
        assert words in capsys.readouterr().out
    with pytest.raises(UserError, match="--clusters person: the scores have no such column"):
        scripts["test"].main(["--scores_dir", str(tmp_path), "--clusters", "person"])


def test_two_models_by_clusters(tmp_path, scripts, capsys):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    scored(12).to_csv(first, index=False)
    scored(12).assign(mds=scored(12, seed=1).mds).to_csv(second, index=False)
    scripts["test"].main(["--scores", str(first), "--versus", str(second)])
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "versus.json").read_text())
    clustered = result["clustered"]
    assert (clustered["by"], clustered["n_clusters"], clustered["why_none"]) == ("original", 12, "")
    assert clustered["difference"] == pytest.approx(result["difference"]) and clustered["p"] != result["p"]
    assert printed.index("12 clusters by original, paired") < printed.index("(DeLong, paired)")
    scored(12)[:34].to_csv(first, index=False)  # all real videos, and fakes of 8 originals
    table = pd.read_csv(first)[lambda t: (t.label == 1) | t.original.isin([f"real/{i}" for i in range(7)])]
    table.to_csv(first, index=False)
    scripts["test"].main(["--scores", str(first), "--versus", str(second)])
    assert "no test by clusters of original: of 12 clusters 12 have" in capsys.readouterr().out
    assert json.loads((tmp_path / "versus.json").read_text())["clustered"]["p"] is None


def test_intervals_where_the_score_is_sure_or_says_nothing():
    table = with_clusters(scored(30), None)
    is_fake, code = table.label.to_numpy() == 0, table[CODE].to_numpy()
    found = cluster_figures(is_fake, table.mds.to_numpy(), code, "original")
    assert found["auc_ci95_delong"] == clustered_delong(is_fake, table.mds.to_numpy(), code)[1]
    sure = cluster_figures(is_fake, is_fake * 1.0, code, "original")  # 15 pairs of clusters, all in order
    assert sure["auc_ci95_delong"] == (pytest.approx(0.025 ** (1 / 15)), 1)
    alike = cluster_figures(is_fake, np.ones(len(table)), code, "original")
    assert alike["auc_ci95_wider"] is None and alike["why_none"] == "the score is the same for all"


def test_an_identity_of_separators_is_no_person():
    table = pd.DataFrame({"video": list("abcd"), "label": [1, 1, 0, 0], "identity": ["x;", "y; ", " x", ";"]})
    code = with_clusters(table, "identity")[CODE].tolist()
    assert code[0] == code[2] and len(set(code)) == 3


def test_the_table_of_coverage_in_miniature(monkeypatch, capsys):
    monkeypatch.setattr(coverage, "PEOPLE", ((12, 2, 4, 0.2, 0.6),))
    coverage.main(["--tries", "20"])
    head, _, row = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines())
    assert len(head) == len(row) == 10 and row[:4] == ["12", "2, 4", "0.2", "0.6"]
    by_videos, by_clusters = float(row[6].split()[0]), float(row[9].split()[0])  # the wider ones
    assert by_videos < by_clusters and by_clusters >= 80
