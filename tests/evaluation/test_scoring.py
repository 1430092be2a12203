"""Figures by hand, and score files that are wrong."""

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from dataset import read_index
from evaluation.auc import LEVEL, bootstrap_auc, delong_auc, delong_test, delong_variance, placements
from evaluation.figures import FIGURES, Figure, equal_error_rate, tpr_at_fpr
from evaluation.metrics import calls_all_alike, decisions, group_figures, head_scores, video_metrics
from evaluation.plots import plot_roc
from evaluation.report import fpr_note, headline
from evaluation.tables import read_chunk_scores, read_scores, read_summary
from evaluation.versus import compare_scores
from mds import mean_mds, track_scores, video_scores
from tests.conftest import ROOT
from utils.cli import UserError


def table(real, fake) -> pd.DataFrame:
    mds = [*real, *fake]
    label = [1] * len(real) + [0] * len(fake)
    return pd.DataFrame(
        {
            "video": [f"v{i}" for i in range(len(mds))],
            "label": label,
            "n_chunks": 1,
            "dissimilarity_sum": mds,
            "mds": mds,
        }
    )


def test_chunks_become_videos():
    chunks = pd.DataFrame(
        {
            "video": ["b", "a", "b", "b"],
            "label": [0, 1, 0, 0],
            "dissimilarity": [1.0, 0.25, 2.0, 6.0],
            "track": 0,
        }
    )
    assert video_scores(chunks).to_dict("records") == [
        {"video": "a", "label": 1, "track": 0, "n_chunks": 1, "dissimilarity_sum": 0.25, "mds": 0.25},
        {"video": "b", "label": 0, "track": 0, "n_chunks": 3, "dissimilarity_sum": 9.0, "mds": 3.0},
    ]
    assert mean_mds(video_scores(chunks)) == {"mean_mds_real": 0.25, "mean_mds_fake": 3.0, "threshold": 1.625}


def test_a_video_scores_as_its_most_dissonant_track():
    chunks = pd.DataFrame(
        {
            "video": ["a"] * 5,
            "label": [0] * 5,
            "track": [0, 0, 0, 1, 1],
            "dissimilarity": [1.0, 2.0, 9.0, 4.0, 5.0],
        }
    )
    assert list(track_scores(chunks).mds) == [4.0, 4.5]
    (video,) = video_scores(chunks).to_dict("records")
    assert video == {
        "video": "a",
        "label": 0,
        "track": 1,
        "n_chunks": 2,
        "dissimilarity_sum": 9.0,
        "mds": 4.5,
    }


def test_figures_by_hand():
    metrics = video_metrics(table(real=[0.1, 0.2, 0.5], fake=[0.4, 0.7, 0.9, 0.8]), threshold=0.45)
    assert metrics["auc"] == pytest.approx(11 / 12)  # of 12 pairs only (0.5, 0.4) is in the wrong order
    assert metrics["accuracy"] == pytest.approx(5 / 7)
    assert metrics["authors_auc"] == pytest.approx((3 / 3 + 3 / 4) / 2)  # balanced accuracy at 0.6
    assert metrics["figures"]["average_precision"] == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)
    assert metrics["n_real"] == 3 and metrics["n_fake"] == 4
    perfect = video_metrics(table(real=[1, 2], fake=[3, 4]), threshold=None)
    assert (perfect["auc"], perfect["figures"]["eer"], perfect["accuracy"]) == (1.0, 0.0, None)


def test_the_authors_figure_depends_on_the_scale_and_the_auc_does_not():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(0.5, 0.1, 300), rng.normal(0.7, 0.1, 300)
    figures = [video_metrics(table(real * scale, fake * scale), None) for scale in (1, 3)]
    assert figures[0]["auc"] == pytest.approx(figures[1]["auc"]) and figures[0]["auc"] > 0.9
    assert figures[0]["authors_auc"] < 0.9 and figures[1]["authors_auc"] == pytest.approx(0.5, abs=0.01)


def test_equal_error_rate():
    is_fake = np.array([False] * 4 + [True] * 4)
    assert equal_error_rate(is_fake, np.array([1, 2, 3, 6, 4, 5, 7, 8.0])) == pytest.approx(0.25)
    assert equal_error_rate(is_fake, np.arange(8.0)) == 0
    assert equal_error_rate(is_fake, np.zeros(8)) == pytest.approx(0.5)
    assert equal_error_rate(is_fake, -np.arange(8.0)) == 1


def test_bootstrap_interval():
    rng = np.random.default_rng(1)
    is_fake = np.repeat([True, False], 40)
    score = rng.standard_normal(80) + 1.0 * is_fake
    low, high = bootstrap_auc(is_fake, score)
    auc = video_metrics(table(score[~is_fake], score[is_fake]), None)["auc"]
    assert low < auc < high and 0.1 < high - low < 0.3
    assert bootstrap_auc(is_fake, score) == (low, high)  # reproducible
    chance = [bootstrap_auc(is_fake, rng.standard_normal(80), n_resamples=100) for _ in range(20)]
    assert sum(low <= 0.5 <= high for low, high in chance) >= 16  # nominally 19 of 20 cover the truth


def components(fake, real) -> tuple[np.ndarray, np.ndarray]:
    """V10 and V01 of DeLong et al. 1988, equations 4 and 5, by all pairs."""
    pairs = np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in real] for x in fake])
    return pairs.mean(1), pairs.mean(0)


def test_placements_by_hand():
    below, above = placements(np.array([3.0, 5.0]), np.array([1.0, 4.0]))
    assert list(below) == [1, 2] and list(above) == [
        2,
        1,
    ]  # V10 is 1/2, 1; V01 is 1, 1/2; each has a variance of 1/8
    assert delong_variance(below, above) == pytest.approx(1 / 8 / 2 + 1 / 8 / 2)
    auc, (low, high) = delong_auc(np.array([True, True, False, False]), np.array([3.0, 5.0, 1.0, 4.0]))
    spread = 1.959964 * np.sqrt(1 / 8) / (3 / 4 * 1 / 4)
    assert (
        auc == 0.75
        and low == pytest.approx(1 / (1 + np.exp(spread) / 3))
        and high == pytest.approx(1 / (1 + np.exp(-spread) / 3))
    )
    below, above = placements(np.array([1.0, 2.0, 2.0]), np.array([2.0, 0.0]))
    assert list(below) == [1, 1.5, 1.5] and list(above) == [1, 3]  # ties count one half


@pytest.mark.parametrize("decimals", [0, 1, 9])  # with many ties, some and none
def test_variance_is_that_of_the_papers_structural_components(decimals):
    rng = np.random.default_rng(decimals)
    is_fake = rng.permutation(np.repeat([True, False], [37, 23]))
    scores = [np.round(rng.standard_normal(60) + shift * is_fake, decimals) for shift in (0.8, 0.5)]
    v10, v01 = zip(*(components(score[is_fake], score[~is_fake]) for score in scores), strict=True)
    covariance = np.cov(v10) / 37 + np.cov(v01) / 23  # equation 6 of the paper, over the two scores
    for i, score in enumerate(scores):
        assert delong_variance(*placements(score[is_fake], score[~is_fake])) == pytest.approx(
            covariance[i, i]
        )
    result = delong_test(is_fake, *scores)
    assert result["auc"] == pytest.approx(np.mean(v10[0])) and result["auc_versus"] == pytest.approx(
        np.mean(v01[1])
    )
    spread = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert result["z"] == pytest.approx((np.mean(v10[0]) - np.mean(v10[1])) / spread)
    assert result["difference_ci95"] == pytest.approx(
        [result["difference"] + side * 1.959964 * spread for side in (-1, 1)]
    )
    assert result["p"] == pytest.approx(2 * norm.sf(abs(result["z"])))


def test_delong_agrees_with_the_bootstrap():
    rng = np.random.default_rng(3)
    is_fake = np.repeat([True, False], [150, 100])
    score = rng.standard_normal(250) + 0.9 * is_fake
    auc, interval = delong_auc(is_fake, score)
    assert auc == pytest.approx(roc_auc_score(is_fake, score))
    assert interval == pytest.approx(bootstrap_auc(is_fake, score), abs=0.01)


def test_delong_intervals_cover_the_truth():
    rng = np.random.default_rng(4)
    is_fake = np.repeat([True, False], 60)
    truth = norm.cdf(1 / np.sqrt(2))  # of two normal distributions one standard deviation apart
    intervals = [delong_auc(is_fake, rng.standard_normal(120) + is_fake)[1] for _ in range(400)]
    assert np.mean([low <= truth <= high for low, high in intervals]) == pytest.approx(LEVEL, abs=0.025)
    tests = [delong_test(is_fake, *(rng.standard_normal((2, 120)) + is_fake)) for _ in range(400)]
    assert np.mean([test["p"] < 0.05 for test in tests]) == pytest.approx(0.05, abs=0.025)  # equal AUCs


def test_intervals_where_the_variance_says_nothing():
    is_fake = np.array([True] * 8 + [False] * 5)
    auc, (low, high) = delong_auc(is_fake, is_fake * 1.0)
    assert (auc, high) == (1, 1) and low**5 == pytest.approx(0.025)  # five pairs, all in order
    assert delong_auc(is_fake, -1.0 * is_fake) == (0, (0.0, pytest.approx(1 - low)))
    assert delong_auc(is_fake, np.ones(13)) == (0.5, None)
    assert delong_auc(np.array([True, False, False, False]), np.array([2.0, 1, 2, 3])) == (0.5, None)
    assert delong_test(is_fake, np.arange(13.0), np.ones(13))["p"] is None  # 0 for each pair against one half


@pytest.mark.filterwarnings("error")
def test_the_same_order_twice_is_no_difference():
    rng = np.random.default_rng(5)
    is_fake = np.repeat([True, False], [9, 7])
    score = rng.standard_normal(16)
    for other in (score, np.exp(score)):
        result = delong_test(is_fake, score, other)
        assert result["auc"] == result["auc_versus"] == pytest.approx(roc_auc_score(is_fake, score))
        assert (result["difference"], result["difference_ci95"], result["z"], result["p"]) == (
            0,
            (0, 0),
            0,
            1,
        )
    swapped = delong_test(is_fake, score, -score)
    assert swapped["difference"] == pytest.approx(2 * swapped["auc"] - 1)


def test_true_positive_rates_by_hand():
    is_fake = np.repeat([False, True], [200, 4])
    score = np.concatenate([np.arange(200.0), [199.5, 197.5, 180.5, 50]])
    assert tpr_at_fpr(is_fake, score, 0.01) == 0.5  # 2 false alarms are allowed
    assert tpr_at_fpr(is_fake, score, 0.004) == 0.25  # none is
    assert tpr_at_fpr(is_fake, score, 0.1) == 0.75
    assert tpr_at_fpr(is_fake, np.zeros(204), 0.1) == 0
    assert "no false alarm at all: of 99 real videos 1 %" in fpr_note(0.01, 99) and fpr_note(0.01, 100) == ""


def test_decisions_by_hand():
    row = decisions(table(real=[0.1, 0.2, 0.5], fake=[0.4, 0.7, 0.5, 0.8]), 0.5, "here")
    assert (row["tp"], row["fn"], row["fp"], row["tn"]) == (3, 1, 1, 2)  # from the threshold on
    assert row["accuracy"] == pytest.approx(5 / 7) and row["balanced_accuracy"] == pytest.approx(
        (3 / 4 + 2 / 3) / 2
    )
    assert (row["tpr"], row["fpr"], row["origin"]) == (0.75, pytest.approx(1 / 3), "here")


def test_groups_by_hand():
    scores = table(real=[1, 3, 10], fake=[2, 4, 0, 11, 5]).assign(
        category=["A", "A", "A", "B", "C", "B", "C", ""],
        source=["x", "x", "y", "x", "x", "x", "y", "z"],
        unknown="u",
    )
    found = {(group["column"], group["value"]): group for group in group_figures(scores)}
    assert list(found) == [
        ("category", "B"),
        ("category", "C"),
        ("source", "x"),
        ("source", "z"),
        ("source", "y"),
    ]
    assert found["category", "B"]["auc"] == pytest.approx(1 / 6) and found["category", "B"]["real"] == "all"
    assert found["category", "C"]["auc"] == pytest.approx(5 / 6) and found["category", "C"]["n_real"] == 3
    x = found["source", "x"]
    assert (x["auc"], x["real"], x["n_fake"], x["n_real"]) == (pytest.approx(3 / 6), "same", 3, 2)
    assert (
        found["source", "y"]["auc"] == 1
        and found["source", "z"]["auc"] == pytest.approx(2 / 3)
        and x["small"]
    )
    assert found["source", "y"]["auc_ci95_delong"] == (pytest.approx(0.025), 1)
    large = table(real=range(30), fake=range(30)).assign(method="m")
    assert [group["small"] for group in group_figures(large)] == [False]
    assert group_figures(large.assign(method=[""] * 30 + ["m"] * 29 + [""]))[0]["small"]


def write_scored(folder, n: int = 40, **groups) -> pd.DataFrame:
    """Write scores.csv and chunk_scores.csv of n real and n fake videos, three chunks each; only the sound of
    a fake tells.
    """
    rng = np.random.default_rng(0)
    chunks = pd.DataFrame(
        [
            {
                "video": f"{name}/v{i}",
                "label": code,
                "track": 0,
                "chunk": f"{c:05d}",
                "dissimilarity": rng.uniform(0, 1),
                "p_fake_video": rng.uniform(),
                "p_fake_audio": rng.uniform(0, 0.5) + 0.5 * (name == "fake"),
            }
            for name, code in (("fake", 0), ("real", 1))
            for i in range(n)
            for c in range(3)
        ]
    )
    scores = video_scores(chunks).assign(**groups)
    scores.to_csv(folder / "scores.csv", index=False, errors="surrogateescape")
    chunks.to_csv(folder / "chunk_scores.csv", index=False)
    return chunks


def test_heads_say_which_modality_looks_fake(tmp_path):
    chunks = write_scored(tmp_path)
    scores = read_scores(tmp_path / "scores.csv")
    metrics = video_metrics(scores, None, read_chunk_scores(tmp_path / "chunk_scores.csv", scores))
    assert metrics["heads"]["audio"]["auc"] == 1
    assert metrics["heads"]["video"]["auc"] == pytest.approx(0.5, abs=0.2)
    assert metrics["heads"]["dissonance"]["auc"] == pytest.approx(metrics["auc"])
    assert metrics["chunk_auc"] == pytest.approx(roc_auc_score(chunks.label == 0, chunks.dissimilarity))
    two = pd.DataFrame(
        {"video": ["a"] * 4, "track": [0, 0, 0, 1], "p_fake_video": [0.1, 0.2, 0.3, 0.9], "p_fake_audio": 0.5}
    )
    assert (
        head_scores(table([1], [2]).assign(video=["a", "b"]), two).p_fake_video[0] == 0.9
    )  # as a video's MDS, of its tracks


def test_groups_of_the_index_come_into_the_scores(tmp_path, scripts):
    index = pd.DataFrame(
        {
            "video": ["fake/a", "fake/a", "fake/b", "real/c"],
            "label": [0, 0, 0, 1],
            "track": 0,
            "chunk": "00000",
            "path": "p",
            "start_s": 0.0,
            "category": ["007", "007", "NA", ""],
            "race": "x",
        }
    )
    index.to_csv(tmp_path / "test_split.csv", index=False)
    index = read_index(tmp_path, "test")
    chunks = index[["video", "label", "track"]].assign(dissimilarity=1.0)[:3]
    scripts["train"].write_scores(tmp_path, tmp_path / "model", {}, index, chunks)
    scores = pd.read_csv(tmp_path / "scores.csv", dtype=str, keep_default_na=False)
    assert (
        list(scores.video) == ["fake/a", "fake/b"]
        and list(scores.category) == ["007", "NA"]
        and "race" not in scores
    )
    assert "category" not in pd.read_csv(tmp_path / "track_scores.csv")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda chunks: chunks.drop(columns="p_fake_audio"), "no column p_fake_audio"),
        (
            lambda chunks: chunks.assign(p_fake_video=np.nan),
            "240 rows hold no finite number, the first of fake/v0",
        ),
        (
            lambda chunks: chunks.assign(dissimilarity=1 - chunks.dissimilarity),
            "another scoring than the videos' scores: fake/v0",
        ),
        (
            lambda chunks: chunks[chunks.video != "real/v3"],
            "another scoring than the videos' scores: real/v3",
        ),
        (lambda chunks: chunks[:0], "lists no chunk"),
    ],
)
def test_chunk_scores_that_do_not_belong(tmp_path, damage, words):
    damage(write_scored(tmp_path)).to_csv(tmp_path / "chunk_scores.csv", index=False)
    with pytest.raises(UserError, match=words):
        read_chunk_scores(tmp_path / "chunk_scores.csv", read_scores(tmp_path / "scores.csv"))


def test_the_report(tmp_path, scripts, capsys):
    method = (
        ["<script>alert(1)</script>"] * 39 + [b"caf\xe9".decode(errors="surrogateescape")] + ["real"] * 40
    )
    write_scored(tmp_path, method=method)
    scripts["test"].main(["--scores_dir", str(tmp_path), "--threshold", "0.5"])
    printed = capsys.readouterr().out
    for words in (
        "accuracy at MDS >= 0.5000 ",
        "accuracy at MDS >= 0.6000 ",
        "audio head                      1.0000",
        "by method ",
    ):
        assert words in printed
    (line,) = [line for line in printed.splitlines() if "caf" in line]
    assert line.endswith("1     40 (all)  few: read with care")
    metrics = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert [row["threshold"] for row in metrics["thresholds"]] == [0.5, 0.6] and metrics["threshold"] == 0.5
    assert metrics["thresholds"][1]["balanced_accuracy"] == pytest.approx(metrics["authors_auc"])
    assert metrics["thresholds"][0]["accuracy"] == metrics["accuracy"]
    assert metrics["tpr_at_fpr"].keys() == {"0.01", "0.1"}
    page = (tmp_path / "report.html").read_text()
    assert (
        "&lt;script&gt;alert(1)" in page and "<script" not in page and "caf\N{REPLACEMENT CHARACTER}" in page
    )
    assert (
        f"AUC {metrics['auc']:.3f}" in page
        and "data:image/png;base64," in page
        and "no false alarm at all" in page
    )
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    (tmp_path / "scores.json").write_text(
        json.dumps({"threshold": 0.4, "threshold_origin": "training videos"})
    )
    scripts["test"].main(["--scores_dir", str(tmp_path), "--threshold", "0.5"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert [row["threshold"] for row in metrics["thresholds"]] == [0.5, 0.4, 0.6]


def test_another_models_companions_are_left_alone(tmp_path, scripts, capsys):
    write_scored(tmp_path)
    (tmp_path / "scores.csv").rename(tmp_path / "other.csv")
    (tmp_path / "scores.json").write_text("{}")
    scripts["test"].main(["--scores", str(tmp_path / "other.csv")])
    assert "other.csv has no scores.json of its own" in capsys.readouterr().out
    assert json.loads((tmp_path / "metrics.json").read_text())["chunk_auc"] is None
    assert (tmp_path / "report.html").is_file()


@pytest.mark.filterwarnings("error")
def test_two_models_on_the_same_videos(tmp_path, scripts, capsys):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    scores = table(real=[1, 2, 3, 4], fake=[3.5, 5, 6, 0.5])
    scores.to_csv(first, index=False)
    scores.assign(mds=[1, 5, 2, 3, 4, 5, 0, 6])[::-1].to_csv(second, index=False)  # rows in another order
    scripts["test"].main(["--scores", str(first), "--versus", str(second)])
    result = json.loads((tmp_path / "versus.json").read_text())
    assert result["auc"] == pytest.approx(11 / 16) and result["auc_versus"] == pytest.approx(10.5 / 16)
    assert f"difference                        +{0.5 / 16:.4f}" in capsys.readouterr().out
    scores[1:].assign(video=[f"v{i}" for i in range(1, 7)] + ["new"]).to_csv(second, index=False)
    scripts["test"].main(["--scores", str(first), "--versus", str(second)])
    printed = capsys.readouterr().out
    assert (
        f"2 only in {first}, left out: v0, v7" in printed and f"1 only in {second}, left out: new" in printed
    )
    assert (
        "p (two-sided, of equal AUCs)      1\n" in printed and "6 videos in both: 3 real, 3 fake" in printed
    )


def test_two_models_that_can_not_be_compared(tmp_path):
    scores = table(real=[1, 2], fake=[3, 4])
    scores.to_csv(tmp_path / "a.csv", index=False)
    for other, words in (
        (scores.assign(video=["a", "b", "c", "d"]), "share no video; theirs begin with v0 and a"),
        (scores.assign(label=[1, 0, 0, 0]), "give 1 videos different labels, the first v1"),
        (scores.assign(video=["v0", "v1", "c", "d"]), r"share only real videos \(2\)"),
    ):
        other.to_csv(tmp_path / "b.csv", index=False)
        with pytest.raises(UserError, match=words):
            compare_scores(tmp_path / "a.csv", tmp_path / "b.csv")


def test_names_that_look_like_missing_values(tmp_path):
    table([1, 2], [3, 4]).assign(video=["NA", "nan", "null", "1"], method=["", "", "None", "7"]).to_csv(
        tmp_path / "scores.csv", index=False
    )
    scores = read_scores(tmp_path / "scores.csv")
    assert list(scores.video) == ["NA", "nan", "null", "1"] and list(scores.method) == ["", "", "None", "7"]


@pytest.mark.parametrize(
    "content", ["[]", "{}", "x", '{"threshold": NaN, "threshold_origin": ""}', '{"threshold": "a"}']
)
def test_bad_thresholds(tmp_path, content):
    (tmp_path / "scores.json").write_text(content)
    with pytest.raises(UserError, match="is not what train.py --test writes"):
        read_summary(tmp_path / "scores.json")


HEADER = "video,label,n_chunks,dissimilarity_sum,mds\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        ("", "is empty"),
        (HEADER, "lists no video"),
        ("video,score\na,1\n", "no column label, mds"),
        (HEADER + "a,1,1,1,1\nb,1,1,2,2\n", r"has only real videos \(2\)"),
        (HEADER + "a,1,1,1,1\nb,0,1,,\n", "score of 1 of 2 videos is not a finite number, the first b"),
        (HEADER + "a,1,1,1,1\nb,0,1,nan,nan\n", "the first b"),
        (HEADER + "a,1,1,1,1\nb,0,1,x,inf\n", "the first b"),
        (HEADER + "a,1,1,1,1\nb,3,1,1,1\n", "expected 0"),
        (HEADER + "a,1,1,1,1\na,0,1,1,1\n", "lists a twice"),
    ],
)
def test_bad_scores_give_one_line(tmp_path, content, words):
    if content is not None:
        (tmp_path / "scores.csv").write_text(content)
    with pytest.raises(UserError, match=words) as caught:
        read_scores(tmp_path / "scores.csv")
    assert "\n" not in str(caught.value)


def test_test_script_writes_figures_and_plot(tmp_path, scripts, capsys):
    table([0.1, 0.2, 0.5], [0.4, 0.7, 0.9]).to_csv(tmp_path / "scores.csv", index=False)
    scripts["test"].main(["--scores_dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "AUC (video-wise)                  0.8889" in printed and "no threshold" in printed
    (tmp_path / "scores.json").write_text(
        json.dumps({"threshold": 0.3, "threshold_origin": "training videos"})
    )
    scripts["test"].main(["--scores_dir", str(tmp_path)])
    assert "accuracy at MDS >= 0.3000         0.8333   threshold: training videos" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["auc"] == pytest.approx(8 / 9) and metrics["threshold"] == 0.3
    assert (tmp_path / "roc.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "scores.json").write_text("{}")
    with pytest.raises(UserError, match="scores.json is not what"):
        scripts["test"].main(["--scores_dir", str(tmp_path)])


def test_the_wider_interval_and_too_few_to_conclude(tmp_path, scripts, capsys):
    """Three real and three fake videos in order: the bootstrap is sure of its 1, three pairs are sure of no
    more than 0.29.
    """
    table([1, 2, 3], [4, 5, 6]).to_csv(tmp_path / "scores.csv", index=False)
    scripts["test"].main(["--scores_dir", str(tmp_path)])
    printed = capsys.readouterr().out
    low = 0.025 ** (1 / 3)
    assert "6 videos: 3 real, 3 fake; too few to conclude (under 30 of a class)\n" in printed
    interval = f"95 % interval {low:.4f} to 1.0000 (the wider of the next two)"
    assert f"AUC (video-wise)                  1.0000   {interval}\n" in printed
    page = (tmp_path / "report.html").read_text()
    assert f"AUC 1.000 (95 % interval {low:.3f} to 1.000)" in page and "too few to conclude" in page
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (
        metrics["auc_ci95_wider"] == pytest.approx([low, 1])
        and metrics["auc_ci95"] == [1, 1]
        and metrics["too_few"]
    )
    assert headline(metrics) == f"AUC 1.000 (95 % interval {low:.3f} to 1.000)"  # the plot's
    rng = np.random.default_rng(0)
    many = video_metrics(table(rng.normal(0, 1, 30), rng.normal(1, 1, 30)), None)
    widths = {
        name: many[name][1] - many[name][0] for name in ("auc_ci95", "auc_ci95_delong", "auc_ci95_wider")
    }
    assert (
        not many["too_few"]
        and widths["auc_ci95_wider"] == max(widths.values())
        and len(set(widths.values())) == 2
    )
    assert video_metrics(table(range(30), range(29)), None)["too_few"]
    alike = video_metrics(table([1, 1], [1, 1]), None)
    assert alike["auc_ci95_wider"] is None and headline(alike) == "AUC 0.500 (95 % interval unknown)"
    plot_roc(table([1, 1], [1, 1]), alike, tmp_path / "roc.png")


@pytest.mark.parametrize(
    ("threshold", "words"),
    [(18.95, "calls none of the 6 videos fake"), (0.5, "calls every one of the 6 videos fake")],
)
def test_a_threshold_that_parts_nothing_is_said(tmp_path, scripts, capsys, threshold, words):
    scores = table([1, 2, 3], [13.9, 15, 15.8])
    scores.to_csv(tmp_path / "scores.csv", index=False)
    (tmp_path / "scores.json").write_text(
        json.dumps({"threshold": threshold, "threshold_origin": "training videos"})
    )
    scripts["test"].main(["--scores_dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert f"  this threshold {words}: it says nothing here" in printed
    page = (tmp_path / "report.html").read_text()
    assert f"The threshold {threshold:.4g} {words}</b>" in page and f"training videos; {words}" in page
    assert calls_all_alike(scores.mds, threshold) == words and calls_all_alike(scores.mds, 15.8) == ""
    (tmp_path / "scores.json").write_text(json.dumps({"threshold": 5, "threshold_origin": "training videos"}))
    scripts["test"].main(["--scores_dir", str(tmp_path), "--scores", str(tmp_path / "scores.csv")])
    assert "<b>The threshold" not in (tmp_path / "report.html").read_text()


def test_help_and_mistakes_wait_for_no_library():
    code = (
        "import sys, test\n"
        "for flags in (['--help'], ['--official'], ['--threshold', 'x']):\n"
        "    try: test.parse_args(flags)\n"
        "    except SystemExit: pass\n"
        "slow = {'sklearn', 'scipy', 'pandas', 'matplotlib', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'imported: {slow}' if slow else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--official with both" in done.stderr, done.stderr


def test_a_new_figure_is_one_entry(tmp_path, scripts, monkeypatch, capsys):
    figure = Figure("best", "best of fakes", lambda is_fake, mds: mds[is_fake].max(), "of {fake_share:.2f}")
    for module in ("metrics", "report", "page"):
        monkeypatch.setattr(f"evaluation.{module}.FIGURES", (*FIGURES, figure))
    table([1, 2, 3], [4, 5, 6]).to_csv(tmp_path / "scores.csv", index=False)
    scripts["test"].main(["--scores_dir", str(tmp_path)])
    assert json.loads((tmp_path / "metrics.json").read_text())["best"] == 6
    assert "best of fakes                     6.0000\n" in capsys.readouterr().out
    assert '<td class="note">of 0.50</td>' in (tmp_path / "report.html").read_text()
