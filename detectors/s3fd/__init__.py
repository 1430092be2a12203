"""S3FD, the detector of the paper: accurate, made for a GPU (over a second per 480x270 frame on two CPU
cores).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torchvision.ops import nms

from detectors.download import WeightsError, WeightsFile, fetch
from detectors.s3fd.network import S3FDNet, decode
from utils.weights import read_weights

WEIGHTS = WeightsFile(
    "sfd_face.pth",
    (
        "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/sfd_face.pth",
        "https://raw.githubusercontent.com/abhinavdhall/deepfake/06434bf3e0cfbbaaf168faaab5ab2351486db0c2"
        "/ACM_MM_2020/detectors/s3fd/weights/sfd_face.pth",
    ),
    "git:2bdf053a994371d57f6f535cb2682dc3e2990e89",
)
RGB_MEANS = (123.0, 117.0, 104.0)
MIN_SCORE = 0.9
NMS_IOU = 0.1


class S3FD:
    """S3FD on a torch device, `half` in half precision; arguments and results as in `detectors`."""

    is_shared = True

    def __init__(self, weights: Path | None = None, device: str = "cpu", half: bool = False):
        self.device = torch.device(device)
        self.half_type = (torch.float16 if self.device.type == "cuda" else torch.bfloat16) if half else None
        self.batch_size = 32 if self.device.type == "cuda" else 4
        path = weights or fetch(WEIGHTS)
        self.net = S3FDNet()
        try:
            self.net.load_state_dict(cast(Mapping[str, Any], read_weights(path)))
        except (OSError, RuntimeError, AttributeError, TypeError, ValueError) as error:
            cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise WeightsError(
                f"{path} holds no S3FD weights ({cause[:120]}); expected {WEIGHTS.name}."
            ) from error
        self.net.eval().to(self.device)
        self.means = torch.tensor(RGB_MEANS, device=self.device)[:, None, None]

    def detect(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        try:
            return self._detect(frames)
        except torch.OutOfMemoryError:
            if len(frames) == 1:
                raise
        # out of `except`: the error keeps alive what the pass that failed has taken
        middle = len(frames) // 2
        return self.detect(frames[:middle]) + self.detect(frames[middle:])

    @torch.inference_mode()
    def _detect(self, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
        height, width = frames[0].shape[:2]
        pixels = torch.from_numpy(np.stack(frames)).to(self.device)
        images = pixels.permute(0, 3, 1, 2) - self.means  # (B, 3, H, W)
        with torch.autocast(self.device.type, self.half_type, enabled=self.half_type is not None):
            heads = self.net(images)
        to_pixels = np.array([width, height, width, height, 1], np.float32)
        faces = []
        for found in decode(*heads):
            found = found[found[:, 4] > MIN_SCORE]
            found = found[nms(found[:, :4], found[:, 4], NMS_IOU)]
            faces.append(found.cpu().numpy() * to_pixels)
        return faces
