"""Grad-CAM: where in the face, and when within a second, the network sees dissonance, or a fake.

from verdicts.gradcam import explain    (localize.py does)

The layer is the last of the visual stream, whose maps have 8 steps in time and, for frames of 224 pixels, 7x7
places.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from augmentation import normalize
from engine import AMP, chunk_values
from model import TwoStreamNet, dissimilarity
from utils.constants import LABELS

# what raises the dissimilarity; what raises the video head's score for fake
MAPS = ("dissonance", "video head")


class Explained(NamedTuple):
    """What `explain` gives, on the CPU."""

    scores: Tensor  # (3, B), what `engine.chunk_values` gives
    # (2, B, 8, h, w) float32, at least 0, in the order of `MAPS`, in an arbitrary unit, the same for all
    # chunks; None if they were not asked for
    maps: Tensor | None
    video_emb: Tensor  # (B, D) float32, of the pictures


def explain(
    model: TwoStreamNet, video: Tensor, audio: Tensor, device: torch.device, amp: str, with_maps: bool = True
) -> Explained:
    """Score chunks and map what raised the scores (Grad-CAM: Selvaraju et al., ICCV 2017; paper, section 4).

    Args:
        model: in evaluation mode.
        video: (B, T=30, H, W, 3) uint8 RGB. `audio`: (B, 1, F=13, L=99) float32 MFCC.
        amp: a key of `engine.AMP`.
        with_maps: else the scores alone, the same ones in less time.
    """
    with torch.autocast(device.type, AMP[amp], enabled=amp != "off"):
        with torch.no_grad():
            features = model.netcnnlip(normalize(video.to(device)))  # (B, C, 8, h, w)
        features = features.float().requires_grad_(with_maps)
        out = {name: values.float() for name, values in model.compare(features, audio.to(device)).items()}
        scores, video_emb = chunk_values(out).detach().cpu(), out["video_emb"].detach().cpu()
        if not with_maps:
            return Explained(scores, None, video_emb)
        logits = out["video_logits"]
        targets = (
            dissimilarity(out["video_emb"], out["audio_emb"]),
            logits[:, LABELS["fake"]] - logits[:, LABELS["real"]],
        )
        # a chunk's score depends on that chunk alone, so the gradient of the sum holds every chunk's own
        gradients = [torch.autograd.grad(target.sum(), features, retain_graph=True)[0] for target in targets]
    with torch.no_grad():
        maps = [(g.mean((2, 3, 4), keepdim=True) * features).sum(1).relu() for g in gradients]
        return Explained(scores, torch.stack(maps).float().cpu(), video_emb)


def likeness(maps: Tensor, others: Tensor) -> float:
    """Mean rank correlation of maps with others of the same chunks, -1..1; maps without contrast are left out
    (NaN if all).
    """
    pairs = zip(maps.flatten(0, 1).flatten(1).numpy(), others.flatten(0, 1).flatten(1).numpy(), strict=True)
    values = [spearmanr(a, b).statistic for a, b in pairs if np.ptp(a) > 0 and np.ptp(b) > 0]
    return float(np.mean(values)) if values else float("nan")


def check_maps(
    config: dict, maps: Tensor, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device, amp: str
) -> dict[str, float]:
    """How like the maps are to what they would be if the network had learnt nothing (Adebayo et al., NeurIPS
    2018).

    Args:
        config: the network's, of which another is made with random weights.
        maps: (2, N, 8, h, w), what `explain` gives for the chunks of all `batches`, which are its video and
            audio.

    Returns:
        The mean rank correlation of the maps with those of random weights, and with the distance from the
        middle of the picture, the nearest first; -1..1, each far from 1 if the maps show something learnt.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        random_net = TwoStreamNet(**config).to(device).eval().requires_grad_(False)
    maps_of_batches = [explain(random_net, video, audio, device, amp).maps for video, audio in batches]
    random_maps = torch.cat([own for own in maps_of_batches if own is not None], 1)
    y, x = (torch.linspace(-1, 1, n) for n in maps.shape[3:])
    centre = -torch.hypot(y[:, None], x[None]).expand_as(maps)
    return {"random weights": likeness(maps, random_maps), "middle of the picture": likeness(maps, centre)}
