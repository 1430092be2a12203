"""Probabilities out of scores: fitted as the paper says, and stored so that they can be used."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from sklearn.metrics import brier_score_loss

from evaluation.calibration import calibration_figures, fit_calibration, reliability
from evaluation.tables import read_summary
from utils.calibration import MIN_VIDEOS, calibrated, calibration_words, checked_calibration
from utils.checkpoint import stored_calibration
from utils.cli import UserError

GIVEN = {"slope": 8.0, "intercept": -4.0, "n_real": 20, "n_fake": 40}


def drawn(n: int, seed: int = 0) -> pd.DataFrame:
    """Scores of n videos whose probabilities are those of `GIVEN`."""
    rng = np.random.default_rng(seed)
    mds = rng.uniform(0, 1, n)
    is_fake = rng.random(n) < 1 / (1 + np.exp(4 - 8 * mds))
    return pd.DataFrame({"video": [f"v{i}" for i in range(n)], "label": 1 - is_fake, "mds": mds})


def test_the_fit_is_platts():
    table = drawn(60)
    found = fit_calibration(table)
    is_fake, n_fake, n_real = table.label == 0, (table.label == 0).sum(), (table.label == 1).sum()
    target = np.where(is_fake, (n_fake + 1) / (n_fake + 2), 1 / (n_real + 2))

    def loss(parts):  # the cross entropy that he minimizes
        p = np.clip(1 / (1 + np.exp(-(parts[0] * table.mds + parts[1]))), 1e-12, 1 - 1e-12)
        return -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum()

    best = minimize(loss, [1.0, 0.0], tol=1e-10).x
    assert (found["slope"], found["intercept"]) == pytest.approx(best, rel=1e-3)
    assert (found["n_real"], found["n_fake"]) == (n_real, n_fake)


def test_many_videos_give_the_true_probabilities():
    found = fit_calibration(drawn(20_000))
    mds = np.linspace(0, 1, 11)
    assert calibrated(mds, found) == pytest.approx(1 / (1 + np.exp(4 - 8 * mds)), abs=0.02)
    parted = pd.DataFrame({"label": [1] * 10 + [0] * 10, "mds": [0.1] * 10 + [0.9] * 10})  # without a mistake
    assert calibrated(np.array([0.1, 0.9]), fit_calibration(parted)) == pytest.approx([1 / 12, 11 / 12])
    alike = fit_calibration(parted.assign(mds=0.5))
    assert calibrated(np.array([0.5]), alike) == pytest.approx([0.5], abs=1e-6)


def test_too_few_videos_give_none():
    table = pd.DataFrame({"label": [1] * 40 + [0] * MIN_VIDEOS, "mds": range(40 + MIN_VIDEOS)})
    assert fit_calibration(table) and fit_calibration(table[:-1]) is None
    assert fit_calibration(table.assign(label=1 - table.label)[:-1]) is None


@pytest.mark.filterwarnings("error")
def test_extreme_scores_give_probabilities():
    assert calibrated(np.array([-1e9, 0.5, 1e9]), GIVEN) == pytest.approx([0, 0.5, 1])


def test_figures_of_the_probabilities():
    table = drawn(200, seed=1)
    found, p_fake = calibration_figures(table, GIVEN), calibrated(table.mds.to_numpy(), GIVEN)
    assert found["brier"] == pytest.approx(brier_score_loss(table.label == 0, p_fake))
    share = (table.label == 0).mean()
    assert found["brier_of_share"] == pytest.approx(brier_score_loss(table.label == 0, np.full(200, share)))
    assert (len(found["bins"]), {of_bin["n"] for of_bin in found["bins"]}) == (10, {20})
    order = np.argsort(p_fake)
    assert found["bins"][0]["p_fake"] == pytest.approx(p_fake[order[:20]].mean())
    assert found["bins"][-1]["fake_share"] == pytest.approx((table.label.to_numpy() == 0)[order[-20:]].mean())
    assert all(
        low < of_bin["fake_share"] + 1e-9 < high + 2e-9
        for of_bin in found["bins"]
        for low, high in [of_bin["fake_share_ci95"]]
    )
    assert reliability(np.ones(29, bool), np.ones(29)) == []


@pytest.mark.parametrize("damage", [{"slope": "x"}, {"slope": float("nan")}, {"n_fake": 0}, {"n_real": None}])
def test_what_is_no_calibration_is_refused(tmp_path, damage):
    with pytest.raises((TypeError, ValueError)):
        checked_calibration(GIVEN | damage)
    stored = {"threshold": None, "threshold_origin": "none", "calibration": GIVEN | damage}
    (tmp_path / "scores.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="scores.json is not what train.py --test writes"):
        read_summary(tmp_path / "scores.json")


def test_a_checkpoint_says_for_which_videos_they_hold():
    assert stored_calibration({"calibration": GIVEN}) == (GIVEN, calibration_words(GIVEN))
    assert "20 real and 40 fake held-out" in calibration_words(GIVEN)
    assert "did not have the higher scores" in calibration_words(GIVEN | {"slope": -1.0})
    for stored, words in (
        ({}, "--val_fraction"),
        ({"threshold_from": "held-out"}, f"fewer than {MIN_VIDEOS}"),
    ):
        found, why = stored_calibration(stored)
        assert found is None and why.startswith("none: ") and words in why


def test_the_report_says_how_right_they_are(tmp_path, scripts, capsys):
    drawn(100).to_csv(tmp_path / "scores.csv", index=False)
    stored = {
        "threshold": None,
        "threshold_origin": "none",
        "calibration": GIVEN,
        "calibration_origin": "held",
    }
    for known, words in (
        (stored, "Brier score (probability of fake) "),
        (
            stored | {"calibration": None, "calibration_origin": "none: why"},
            "probability of fake               none: why",
        ),
    ):
        (tmp_path / "scores.json").write_text(json.dumps(known))
        scripts["test"].main(["--scores_dir", str(tmp_path)])
        assert words in capsys.readouterr().out
        page = (tmp_path / "report.html").read_text()
        has = known["calibration"] is not None
        assert ("Brier score" in page) == has and ("Probability of fake: none: why" in page) != has
        assert ('alt="reliability of the probabilities"' in page) == has
        metrics = json.loads((tmp_path / "metrics.json").read_text())
        assert (metrics["calibration"] is not None) == has
