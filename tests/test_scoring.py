"""Figures by hand, and score files that are wrong."""

import json

import numpy as np
import pandas as pd
import pytest

from utils.cli import UserError
from utils.scoring import bootstrap_auc, equal_error_rate, mean_mds, read_scores, track_scores, video_metrics, video_scores


def table(real, fake) -> pd.DataFrame:
    mds = [*real, *fake]
    label = [1] * len(real) + [0] * len(fake)
    return pd.DataFrame({"video": [f"v{i}" for i in range(len(mds))], "label": label, "n_chunks": 1,
                         "dissimilarity_sum": mds, "mds": mds})  # fmt: skip


def test_chunks_become_videos():
    chunks = pd.DataFrame(
        {"video": ["b", "a", "b", "b"], "label": [0, 1, 0, 0], "dissimilarity": [1.0, 0.25, 2.0, 6.0], "track": 0}
    )
    assert video_scores(chunks).to_dict("records") == [
        {"video": "a", "label": 1, "track": 0, "n_chunks": 1, "dissimilarity_sum": 0.25, "mds": 0.25},
        {"video": "b", "label": 0, "track": 0, "n_chunks": 3, "dissimilarity_sum": 9.0, "mds": 3.0},
    ]
    assert mean_mds(video_scores(chunks)) == {"mean_mds_real": 0.25, "mean_mds_fake": 3.0, "threshold": 1.625}


def test_a_video_scores_as_its_most_dissonant_track():
    chunks = pd.DataFrame(
        {"video": ["a"] * 5, "label": [0] * 5, "track": [0, 0, 0, 1, 1], "dissimilarity": [1.0, 2.0, 9.0, 4.0, 5.0]}
    )
    assert list(track_scores(chunks).mds) == [4.0, 4.5]
    (video,) = video_scores(chunks).to_dict("records")
    assert video == {"video": "a", "label": 0, "track": 1, "n_chunks": 2, "dissimilarity_sum": 9.0, "mds": 4.5}


def test_figures_by_hand():
    metrics = video_metrics(table(real=[0.1, 0.2, 0.5], fake=[0.4, 0.7, 0.9, 0.8]), threshold=0.45)
    assert metrics["auc"] == pytest.approx(11 / 12)  # of 12 pairs only (0.5, 0.4) is in the wrong order
    assert metrics["accuracy"] == pytest.approx(5 / 7)
    assert metrics["authors_auc"] == pytest.approx((3 / 3 + 3 / 4) / 2)  # balanced accuracy at 0.6
    assert metrics["average_precision"] == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)
    assert metrics["n_real"] == 3 and metrics["n_fake"] == 4
    perfect = video_metrics(table(real=[1, 2], fake=[3, 4]), threshold=None)
    assert (perfect["auc"], perfect["eer"], perfect["accuracy"]) == (1.0, 0.0, None)


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
    (tmp_path / "scores.json").write_text(json.dumps({"threshold": 0.3, "threshold_origin": "training videos"}))
    scripts["test"].main(["--scores_dir", str(tmp_path)])
    assert "accuracy at MDS >= 0.3000         0.8333   threshold: training videos" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["auc"] == pytest.approx(8 / 9) and metrics["threshold"] == 0.3
    assert (tmp_path / "roc.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "scores.json").write_text("{}")
    with pytest.raises(UserError, match="scores.json is not what"):
        scripts["test"].main(["--scores_dir", str(tmp_path)])
