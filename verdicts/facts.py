"""What is known of a model: its network, its threshold and where that is from, its training."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.calibration import Calibration, calibrated
from utils.checkpoint import FOREIGN, Checkpoint, stored_threshold, threshold_videos
from utils.cli import UserError
from utils.files import file_digest
from utils.training_record import NOTHING_KNOWN, TrainingRecord, held_out_words, videos_words

GIVEN = "given on the command line"
GENERATED = "generated"  # what demo/make_videos.py calls its videos in the column `source`
NOT_CHECKED = "Whether this video is one of them is not checked."


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model."""

    config: dict  # arguments of `TwoStreamNet`
    sha256: str  # of its file
    threshold: float  # dissimilarity from which on a video, or a moment, counts as fake
    own_threshold: float | None  # the model's, also where another one is given; None: it has none
    threshold_origin: str  # in words
    known_videos: str  # those that the means below are of, in words
    epochs: int | None  # of its training
    mean_mds_real: float | None
    mean_mds_fake: float | None
    record: TrainingRecord | None  # None: a checkpoint of an older version, or of a training not finished
    calibration: Calibration | None

    def written(self) -> dict:
        """As verdict.json has it."""
        return {
            "threshold_origin": self.threshold_origin,
            **self.config,
            "epochs": self.epochs,
            "mean_mds_real": self.mean_mds_real,
            "mean_mds_fake": self.mean_mds_fake,
            "record": self.record,
        }

    def p_fake(self, mds: float) -> float | None:
        """The probability that a video with this score is fake, if it is like the held-out ones; None if the
        model has no calibration.
        """
        return float(calibrated(np.array(mds), self.calibration)) if self.calibration else None

    def grounds(self, mds: float) -> list[str]:
        """What the model was trained on, how well it told its held-out videos apart, and what follows for a
        score, in sentences.
        """
        if self.record is None:
            return [f"{NOTHING_KNOWN}: its file does not say what it was trained and tested on."]
        held_out = self.record["held_out"]
        found = [f"{trained_on(self.record)} {NOT_CHECKED}", *held_out_words(held_out)]
        if held_out and (p_fake := self.p_fake(mds)) is not None:
            found.append(
                f"A rough estimate from these videos: of such ones with this score, as many fake as real, "
                f"{100 * p_fake:.0f} % are fake. It is not the chance that this video is fake."
            )
        return found

    def training(self) -> str:
        """What is known of its training, in words."""
        known = [] if self.epochs is None else [f"{self.epochs} epochs"]
        if self.mean_mds_real is not None and self.mean_mds_fake is not None:
            means = f"real {self.mean_mds_real:.4g}, fake {self.mean_mds_fake:.4g}"
            known.append(f"mean MDS of its {self.known_videos}: {means}")
        return "; ".join(known) or "unknown"

    def warnings(self) -> list[str]:
        """What makes each of its verdicts doubtful, in sentences."""
        real, fake, found = self.mean_mds_real, self.mean_mds_fake, []
        if self.threshold_origin != GIVEN and real is None:
            doubt = f"The threshold is an estimate ({self.threshold_origin}), so the verdict is one"
            found.append(f"{doubt}; --threshold sets another.")
        if real is not None and fake is not None and real >= fake:
            found.append(
                f"This model gave real {self.known_videos} a mean score of {real:.4g} and the fake ones "
                f"{fake:.4g}: it has not learnt to tell them apart."
            )
        if FOREIGN in self.known_videos:
            found.append(
                "This model was trained on real videos alone: its classifiers of picture and sound have seen "
                "no fake, so what they say means nothing."
            )
        return found


def read_facts(checkpoint: Checkpoint, path: Path, threshold: float | None) -> ModelFacts:
    """The facts of the checkpoint that was read from `path`, with another threshold if one is given.

    Raises:
        UserError: there is none.
    """
    own, origin = stored_threshold(checkpoint)
    used = own if threshold is None else threshold
    if used is None:
        raise UserError(
            f"{path} holds no threshold; give one with --threshold, for example of a test on known videos."
        )
    return ModelFacts(
        config=checkpoint["config"],
        sha256=file_digest(path),
        threshold=used,
        own_threshold=own,
        threshold_origin=origin if threshold is None else GIVEN,
        known_videos=threshold_videos(checkpoint).split(",")[0],
        epochs=checkpoint.get("epoch"),
        mean_mds_real=checkpoint.get("mean_mds_real"),
        mean_mds_fake=checkpoint.get("mean_mds_fake"),
        record=checkpoint.get("record"),
        calibration=checkpoint.get("calibration"),
    )


def trained_on(record: TrainingRecord) -> str:
    """The videos of a training, in a sentence."""
    names = record["data_sets"]
    of = f" of {', '.join(names)}" if names else ""
    if names == [GENERATED]:
        of = ", all of them, also those called real, made by a program"
    return f"The model was trained on {videos_words(record['n_real'], record['n_fake'])}{of}."
