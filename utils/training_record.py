"""What a model was trained on, and how well it told apart videos that it had not seen: the entry `record` of
a checkpoint, by train.py.
"""

import math
from collections.abc import Mapping
from typing import Any, TypedDict

Interval = tuple[float, float]  # its lower and its upper end
MAX_NAMES, MAX_LETTERS = 50, 100  # of data sets, and of each name
STREAMS = ("video", "audio")
NOTHING_KNOWN = "Nothing is known of how often this model is right"


class HeadRecord(TypedDict):
    """How well the classifier of one stream told the held-out videos apart."""

    auc: float
    auc_ci95: Interval | None  # None: not defined, as where it says the same of all
    real_p95: float  # p_fake that one in twenty of the real held-out videos exceeds


class HeldOut(TypedDict):
    """How well the MDS told apart held-out videos, those of --val_fraction.

    The best epoch was chosen by these same videos, so the AUC is rather too high.
    """

    n_real: int  # videos
    n_fake: int  # videos; where `is_foreign`, none of them a fake
    is_foreign: bool  # for fakes there are real pictures with the sound of another second
    auc: float
    auc_ci95: Interval | None  # the wider of bootstrap and DeLong's; None: not defined
    mean_mds_real: float
    mean_mds_fake: float
    mds_sd: float | None  # pooled, of real and fake around their means; None: one video each
    heads: dict[str, HeadRecord]  # by `STREAMS`; none of a model of one stream alone


class TrainingRecord(TypedDict):
    """What a model was trained on, and its figures on what was held out."""

    n_real: int  # videos
    n_fake: int
    n_chunks_real: int
    n_chunks_fake: int
    data_sets: list[str]  # the index's column `source`, as far as it says something
    held_out: HeldOut | None  # None: nothing was held out


def checked_record(found: Mapping[str, Any]) -> TrainingRecord:
    """A record out of a file; KeyError, TypeError, ValueError and the like if it is none."""
    names = found["data_sets"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("data sets that are no names")
    held_out = found["held_out"]
    return {
        "n_real": count(found["n_real"]),
        "n_fake": count(found["n_fake"]),
        "n_chunks_real": count(found["n_chunks_real"]),
        "n_chunks_fake": count(found["n_chunks_fake"]),
        "data_sets": [name[:MAX_LETTERS] for name in names[:MAX_NAMES]],
        "held_out": None if held_out is None else checked_held_out(held_out),
    }


def checked_held_out(found: Mapping[str, Any]) -> HeldOut:
    spread = found["mds_sd"]
    checked: HeldOut = {
        "n_real": count(found["n_real"]),
        "n_fake": count(found["n_fake"]),
        "is_foreign": bool(found["is_foreign"]),
        "auc": checked_share(found["auc"]),
        "auc_ci95": checked_interval(found["auc_ci95"]),
        "mean_mds_real": float(found["mean_mds_real"]),
        "mean_mds_fake": float(found["mean_mds_fake"]),
        "mds_sd": None if spread is None else float(spread),
        "heads": {name: checked_head(head) for name, head in found["heads"].items() if name in STREAMS},
    }
    figures = [checked["mean_mds_real"], checked["mean_mds_fake"], checked["mds_sd"] or 0.0]
    if not all(map(math.isfinite, figures)) or (checked["mds_sd"] or 0) < 0:
        raise ValueError("figures of held-out videos that can't be")
    return checked


def checked_head(found: Mapping[str, Any]) -> HeadRecord:
    return {
        "auc": checked_share(found["auc"]),
        "auc_ci95": checked_interval(found["auc_ci95"]),
        "real_p95": checked_share(found["real_p95"]),
    }


def checked_interval(found: Any) -> Interval | None:
    if found is None:
        return None
    low, high = map(checked_share, found)
    if low > high:
        raise ValueError("an interval that ends before it begins")
    return low, high


def checked_share(value: Any) -> float:
    """A number from 0 to 1; ValueError and the like if it is none."""
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{value} is no share")
    return float(value)


def count(value: Any) -> int:
    """A number of videos or chunks; ValueError and the like if it is none."""
    if not 0 <= int(value) <= 2**53:
        raise ValueError(f"{value} is no number of videos")
    return int(value)


def held_out_words(held_out: HeldOut | None) -> list[str]:
    """How well a model told its held-out videos apart, in sentences."""
    if held_out is None:
        return [f"{NOTHING_KNOWN}: no videos were held out of its training (train.py --val_fraction)."]
    if held_out["is_foreign"]:
        videos = (
            f"{videos_words(held_out['n_real'], 0)}, each with its own sound and with that of another second"
        )
        pairs = "a foreign and an own sound"
    else:
        videos, pairs = videos_words(held_out["n_real"], held_out["n_fake"]), "a fake and a real video"
    found = [
        f"It was tested on {videos}, held out of its training: of pairs of {pairs} its score puts "
        f"{right_words(held_out['auc'], held_out['auc_ci95'])} in the right order; guessing puts 50 %."
    ]
    if heads := held_out["heads"]:
        seen = {"video": "picture", "audio": "sound"}
        shown = [
            f"of the {seen[name]} alone {right_words(head['auc'], head['auc_ci95'])}"
            for name, head in heads.items()
        ]
        guess = [head["auc_ci95"] is None or head["auc_ci95"][0] <= 0.5 for head in heads.values()]
        guesses = (
            " Neither was better than guessing, so what they say here means nothing." if all(guess) else ""
        )
        found.append(f"Its classifiers of one stream each there: {', '.join(shown)}.{guesses}")
    found.append(
        "The best state of the training, and its threshold, were chosen with the same videos: it was no "
        "independent test, and the figures are rather too high. For videos of another kind they say little."
    )
    return found


def right_words(auc: float, interval: Interval | None) -> str:
    """An AUC as the share of pairs in the right order, with its interval."""
    known = "unknown" if interval is None else f"{100 * interval[0]:.0f} to {100 * interval[1]:.0f} %"
    return f"{100 * auc:.0f} % (AUC {auc:.2f}; 95 % interval {known})"


def videos_words(n_real: int, n_fake: int) -> str:
    """So many real and fake videos."""
    if not n_fake:
        return f"{n_real} real video{'s' if n_real != 1 else ''} and no fake"
    return f"{n_real} real and {n_fake} fake video{'s' if n_fake != 1 else ''}"
