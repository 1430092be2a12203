"""The answer for a video: what keeps it from being decided, at the borders of every rule, and its words."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from evaluation.auc import binomial_interval
from tests.conftest import ROOT
from utils.training_record import checked_record
from verdicts.answer import CODES, USUAL, Evidence, Rules, answer, margin
from verdicts.facts import ModelFacts
from verdicts.verdict import TrackScores, give_verdict
from verdicts.words import CAVEATS, in_capitals, in_words, reason_words

GOOD_FACE = {"size_px": 150.0, "turned": 5.0, "sharpness": 200.0, "brightness": 100.0, "contrast": 35.0}
HEAD = {"auc": 0.5, "auc_ci95": (0.4, 0.6), "real_p95": 0.8}  # at chance
GOOD_HEAD = {"auc": 0.9, "auc_ci95": (0.8, 0.97), "real_p95": 0.8}


def record(**changes):
    """What a good model holds: real 0.3, fake 0.9, threshold 0.6."""
    held_out = {
        "n_real": 20,
        "n_fake": 20,
        "is_foreign": False,
        "auc": 0.95,
        "auc_ci95": (0.9, 0.98),
        "interval_by": "original",  # which older ones have
        "mean_mds_real": 0.3,
        "mean_mds_fake": 0.9,
        "mds_sd": 0.15,
        "heads": {"video": HEAD, "audio": HEAD},
    }
    return checked_record(
        {
            "n_real": 100,
            "n_fake": 100,
            "n_chunks_real": 500,
            "n_chunks_fake": 500,
            "data_sets": ["DFDC"],
            "held_out": held_out | changes,
        }
    )


def evidence(
    mds=0.2, judged_s=10.0, duration_s=10.0, track_s=None, heads=(0.1, 0.1), threshold=0.6, **face
) -> Evidence:
    side = "above the threshold" if mds >= threshold else "below the threshold"
    track = {
        "track": 0,
        "start_s": 0.0,
        "end_s": 10.0,
        "side": side,
        "mds": mds,
        "p_fake_video": heads[0],
        "p_fake_audio": heads[1],
        "n_seconds": 10,
        "judged_s": judged_s if track_s is None else track_s,
        "face": GOOD_FACE | face,
        "speech": 0.5,
        "speaks": True,
        "offset": None,
    }
    return Evidence(decisive=track, threshold=threshold, judged_s=judged_s, duration_s=duration_s)


def codes(asked: Evidence, known=None, rules=USUAL) -> list[str]:
    called, reasons = answer(asked, record() if known is None else known, rules)
    found = [reason["code"] for reason in reasons]
    assert (called == "undecided") == (found not in (["above"], ["below"]))
    assert called == "undecided" or called.startswith(found[0])
    assert all(reason["text"].endswith(".") for reason in reasons)
    return found


def test_a_good_video_by_a_good_model_gets_an_answer():
    assert codes(evidence(0.2)) == ["below"] and codes(evidence(1.0)) == ["above"]


# the cases that were tried


def test_a_profile_is_undecided():
    assert codes(evidence(turned=61.0)) == ["turned_face"]


def test_a_tiny_face_is_undecided():
    assert codes(evidence(size_px=52.0)) == ["small_face"]


def test_a_model_of_six_videos_is_undecided():
    """Three real and three fake held-out videos, told apart without a mistake, prove nothing."""
    held_out = {"n_real": 3, "n_fake": 3, "auc": 1.0, "auc_ci95": binomial_interval(1.0, 3)}
    assert codes(evidence(), record(**held_out)) == ["at_chance"]
    none = record()
    none["held_out"] = None
    assert codes(evidence(), none) == ["no_held_out"]
    called, reasons = answer(evidence(), None, Rules())  # an old checkpoint
    assert (called, reasons[0]["code"]) == ("undecided", "no_held_out")


def test_a_head_that_contradicts_leaves_it_undecided():
    known = record(heads={"video": GOOD_HEAD, "audio": HEAD})
    assert codes(evidence(heads=(0.95, 0.1)), known) == ["heads_contradict"]
    assert codes(evidence(heads=(0.8, 0.99)), known) == ["below"]  # as 19 of 20 real; the other is at chance
    assert codes(evidence(1.0, heads=(0.01, 0.01)), known) == ["above"]  # what the score is there for
    assert codes(evidence(heads=(0.95, 0.95)), record(heads={})) == ["below"]
    shy = record(heads={"video": GOOD_HEAD | {"real_p95": 0.1}})
    assert codes(evidence(heads=(0.4, 0.1)), shy) == ["below"]  # it says real
    blind = record(heads={"video": GOOD_HEAD}, is_foreign=True)
    assert codes(evidence(heads=(0.95, 0.1)), blind) == ["below"]  # it has seen no fake


# borders


def test_near_the_threshold():
    near = 0.15**2 * math.log(9) / 0.6
    assert margin(0.6, record()["held_out"]) == pytest.approx(near) and near > 0.05 * 0.6
    for side in (-1, 1):
        assert codes(evidence(0.6 + side * near * 1.001)) == ["above" if side > 0 else "below"]
        assert codes(evidence(0.6 + side * near * 0.999)) == ["near_threshold"]


def test_the_margin_is_where_the_classes_are_nine_to_one():
    """Against the densities of two normal distributions."""
    x = 0.6 + margin(0.6, record()["held_out"])

    def density(mean):
        return math.exp(-(((x - mean) / 0.15) ** 2) / 2)

    assert density(0.9) / density(0.3) == pytest.approx(9)


@pytest.mark.parametrize("change", [{"mds_sd": 0.0}, {"mds_sd": None}, {"mean_mds_fake": 0.2}])
def test_five_percent_where_no_more_is_known(change):
    known = record(**change)
    assert margin(0.6, known["held_out"]) == margin(0.6, None) == pytest.approx(0.03)
    assert codes(evidence(0.571), known) == ["near_threshold"] and codes(evidence(0.569), known) == ["below"]


def test_another_threshold_does_not_change_what_is_hard_to_tell_apart():
    near = margin(0.9, record()["held_out"])
    for mds in (0.6, 0.6 - 0.99 * near, 0.6 + 0.99 * near):  # far below 0.9, between real and fake
        asked = evidence(mds, threshold=0.9)
        assert codes(asked) == ["near_threshold"]
        _, (reason,) = answer(asked, record(), USUAL)
        assert "of 0.6, the middle of the held-out scores, too near" in reason["text"]
    assert codes(evidence(0.6 - 1.01 * near, threshold=0.9)) == ["below"]
    asked = evidence(0.89, threshold=0.9)
    assert codes(asked) == ["near_threshold"]
    _, (reason,) = answer(asked, record(), USUAL)
    assert "of the threshold, too near" in reason["text"]
    assert codes(evidence(0.75, threshold=0.9)) == ["below"]
    _, (reason,) = answer(evidence(0.75, threshold=0.9), record(), USUAL)
    assert "around it and of 0.6, the middle of the held-out scores that count" in reason["text"]
    _, (reason,) = answer(evidence(0.6), record(), USUAL)
    assert "of the threshold, too near" in reason["text"]


def test_no_better_than_chance():
    for low, expected in ((0.5, ["at_chance"]), (0.501, ["below"])):
        assert codes(evidence(), record(auc_ci95=(low, 0.98))) == expected
    assert codes(evidence(), record(auc_ci95=None)) == ["at_chance"]


def test_judged_seconds():
    assert codes(evidence(judged_s=2.9, duration_s=3)) == ["few_seconds"]
    assert codes(evidence(judged_s=3.0, duration_s=3)) == ["below"]
    assert codes(evidence(judged_s=2.0, duration_s=3), rules=Rules(min_judged_s=2)) == ["below"]
    # a score above the threshold is of one track, one below of all
    assert codes(evidence(1.0, track_s=1.0)) == ["few_seconds"] and codes(evidence(track_s=1.0)) == ["below"]


def test_judged_share():
    assert codes(evidence(judged_s=4.9, duration_s=20)) == ["small_share"]
    assert codes(evidence(judged_s=5.0, duration_s=20)) == ["below"]
    assert codes(evidence(judged_s=4.0, duration_s=20), rules=Rules(min_share=0.2)) == ["below"]
    asked = evidence(judged_s=2.0, duration_s=20)
    assert codes(asked) == ["few_seconds", "small_share"]
    texts = [reason["text"] for reason in answer(asked, record(), USUAL)[1]]
    assert texts[0].startswith("Only 2.0 s show a judged face that speaks, expected")
    assert texts[1].startswith("Only 10 % of the video shows a judged face that speaks, expected")


def test_the_seconds_below_are_not_of_one_face():
    _, (reason,) = answer(evidence(judged_s=12.0, duration_s=12, track_s=4.0), record(), USUAL)
    assert "12.0 s were judged; the face that decides is 150 pixels large" in reason["text"]


@pytest.mark.parametrize(
    ("figure", "good", "bad", "code"),
    [
        ("size_px", 80, 79.9, "small_face"),
        ("turned", 55, 55.1, "turned_face"),
        ("turned", None, 90, "turned_face"),
        ("sharpness", 30, 29.9, "blurred_face"),
        ("brightness", 25, 24.9, "badly_lit_face"),
        ("brightness", 225, 225.1, "badly_lit_face"),
        ("contrast", 8, 7.9, "badly_lit_face"),
    ],
)
def test_faces(figure, good, bad, code):
    assert codes(evidence(**{figure: good})) == ["below"]
    assert codes(evidence(**{figure: bad})) == [code]


def test_all_that_speaks_against_an_answer_is_named():
    face = {"size_px": 52, "turned": 61, "sharpness": 10, "brightness": 5}
    asked = evidence(0.59, judged_s=1.0, duration_s=10, heads=(0.99, 0.1), **face)
    known = record(heads={"video": GOOD_HEAD}, auc_ci95=(0.3, 0.9))
    found = codes(replace(asked, someone_speaks=False), known)
    elsewhere = ("above", "below", "no_held_out", "sound_moved", "stress")
    assert found == [code for code in CODES if code not in elsewhere]


def test_late_sound_and_a_voice_of_nobody_are_undecided():
    moved = {"offset_ms": 133.3, "distance": 0.2, "distance_unmoved": 0.9, "judged_s": 5.0}
    late = {**moved, "stands_out": True, "agrees_if_moved": True}
    assert codes(replace(evidence(1.0), offset=late)) == ["sound_moved"]
    _, (reason,) = answer(replace(evidence(1.0), offset=late), record(), USUAL)
    assert reason["text"].startswith(
        "The sound lags behind the picture by 133 ms; so moved, lips and sound agree"
    )
    assert codes(replace(evidence(1.0), offset={**late, "agrees_if_moved": False})) == ["above"]
    assert codes(replace(evidence(0.2), offset=late)) == ["below"]
    for mds in (0.2, 1.0):
        assert codes(replace(evidence(mds), someone_speaks=False)) == ["nobody_speaks"]


def test_the_codes_stand_in_the_documentation():
    text = (ROOT / "docs" / "verdicts.md").read_text().partition("| code |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([a-z_]+)`", text, re.MULTILINE) == list(CODES)


# a verdict


def scored(*scores: float) -> TrackScores:
    starts = np.arange(len(scores)) * 1.0
    values = np.array([[score, 0.1, 0.1] for score in scores])
    boxes = np.zeros((30 * len(scores), 4))
    return TrackScores(0, 0, boxes, starts, values, np.ones(len(scores), bool), face=GOOD_FACE)


def test_a_verdict_without_a_record_shows_its_side_and_spans():
    verdict = give_verdict([scored(0.2, 0.2, 0.9, 0.9, 0.2)], 150, 0.6)
    assert verdict["verdict"] == "undecided" and verdict["side"] == "below the threshold"
    assert [(span["start_s"], span["end_s"]) for span in verdict["spans"]] == [(2.0, 4.0)]
    assert in_capitals(verdict) == "UNDECIDED (score below, with parts above the threshold)"


def test_a_verdict_with_a_record():
    for score, called in ((0.2, "below the threshold"), (1.0, "above the threshold")):
        verdict = give_verdict([scored(*[score] * 5)], 150, 0.6, record())
        assert verdict["verdict"] == called and in_capitals(verdict) == called.upper()
        (reason,) = verdict["reasons"]
        assert reason["code"] == called.split()[0]
    json.dumps(verdict)
    verdict = give_verdict([scored(0.1, 0.1, 0.9, 0.9, 0.1)], 150, 0.6, record())
    assert in_capitals(verdict) == "BELOW THE THRESHOLD, with parts above it"


def facts(known, calibration=None) -> ModelFacts:
    return ModelFacts({}, "", 0.6, 0.6, "", "held-out videos", 1, 0.3, 0.9, known, calibration)


def test_no_sentence_takes_a_video_for_real():
    verdict = give_verdict([scored(*[0.2] * 5)], 150, 0.6, record())
    said = [*in_words(verdict), *reason_words(verdict), *facts(record()).grounds(0.2), *CAVEATS]
    assert not re.search(r"\b(REAL|authentic|genuine)\b|video [^.]*for (real|fake)\b", " ".join(said))


def test_the_caveats_stand_in_the_documentation():
    text = " ".join((ROOT / "docs" / "verdicts.md").read_text().split())
    for caveat in CAVEATS:
        assert re.split(r"[,:.;]", caveat)[0] in text, caveat


def test_grounds():
    trained, tested, heads, limits = facts(record()).grounds(0.2)
    assert trained == (
        "The model was trained on 100 real and 100 fake videos of DFDC. "
        "Whether this video is one of them is not checked."
    )
    assert "20 real and 20 fake videos" in tested and "95 % (AUC 0.95; 95 % interval 90 to 98 %)" in tested
    assert "the picture alone 50 % (AUC 0.50; 95 % interval 40 to 60 %)" in heads and "too high" in limits
    assert "means nothing" in heads
    toys = record() | {"data_sets": ["generated"]}
    assert "also those called real, made by a program" in facts(toys).grounds(0.2)[0]
    foreign = facts(record(is_foreign=True, heads={}, auc_ci95=None)).grounds(0.2)[1]
    assert "20 real videos and no fake" in foreign and "95 % interval unknown" in foreign
    none = record()
    none["held_out"] = None
    for known in (none, None):
        assert "Nothing is known of how often this model is right" in facts(known).grounds(0.2)[-1]
    calibration = {"slope": 10.0, "intercept": -6.0, "n_real": 20, "n_fake": 20}
    assert facts(record(), calibration).p_fake(0.6) == pytest.approx(0.5)
    assert (
        "50 % are fake. It is not the chance that this video is fake"
        in facts(record(), calibration).grounds(0.6)[-1]
    )
    assert facts(record()).p_fake(0.6) is None
