"""The sound around each chunk through the network, for `verdicts.offsets`: the picture is embedded once, the
sound at every shift.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine import AMP
from model import TwoStreamNet, dissimilarity
from preprocessing.chunking import MAX_MISSING_SAMPLES
from utils.constants import SAMPLES_PER_FRAME, SILENCE_DBFS, ChunkLength
from utils.mfcc import chunk_mfcc
from utils.sound import Sound
from verdicts.offsets import SHIFTS

BLOCK = 6  # windows through the network at a time, at least
SILENT_PEAK = 32768 * 10 ** (SILENCE_DBFS / 20)  # a chunk without a louder sample is silent


def is_silent(samples: np.ndarray) -> bool:
    """Whether in the sound of a chunk, (n,) int16, there is nothing that lips could agree with."""
    return bool(np.abs(samples.astype(np.int32)).max() < SILENT_PEAK)


class SoundEmbedder:
    """The sound of a video as a network sees it, in windows as long as a chunk.

    Args:
        model: in evaluation mode, on `device`. `amp`: a key of `engine.AMP`.
    """

    def __init__(self, model: TwoStreamNet, device: torch.device, amp: str):
        self._model, self._device, self._amp = model, device, amp
        self._length = ChunkLength.of(model.chunk_s)

    @torch.no_grad()
    def embed(self, sound: Sound, first_frames: Sequence[int]) -> dict[int, Tensor | None]:
        """The embedding, (D,) float32, of the window that begins at each frame; None where there is no sound,
        or silence.

        Each window is cut out of the sound by itself, as a chunk's is: of two windows that overlap the MFCC
        are not the same at the ends.
        """
        cut = {first: sound.read(first * SAMPLES_PER_FRAME, self._length.n_samples) for first in first_frames}
        heard = {
            first: torch.from_numpy(chunk_mfcc(samples))  # (1, F, L)
            for first, (samples, n_missing) in cut.items()
            if n_missing <= MAX_MISSING_SAMPLES and not is_silent(samples)
        }
        found: dict[int, Tensor | None] = dict.fromkeys(first_frames)
        if heard:
            audio = torch.stack(list(heard.values())).to(self._device)  # (B, 1, F, L)
            with torch.autocast(self._device.type, AMP[self._amp], enabled=self._amp != "off"):
                embeddings = self._model.embed_sound(audio)
            found |= zip(heard, embeddings.float().cpu(), strict=True)
        return found


def distances_of_shifts(
    embedder: SoundEmbedder,
    sound: Sound,
    first_frames: Sequence[Sequence[int]],
    pictures: Sequence[Tensor],
    block: int = BLOCK,
) -> list[np.ndarray]:
    """How far the picture of each chunk is from the sound at each shift.

    Args:
        first_frames: of the chunks of each track, in the video. `pictures`: their embeddings, (n, D) of each
            track. `block`: how many windows are embedded at a time, all that begin in so many frames.

    Returns:
        Of each track (31, n) float64, at `offsets.SHIFTS`, NaN where there is no sound.
    """
    distances = [np.full((len(SHIFTS), len(firsts)), np.nan) for firsts in first_frames]
    chunks = sorted(
        (first, track, i) for track, own in enumerate(first_frames) for i, first in enumerate(own)
    )
    # by block, those that the chunks at hand need: an hour's would fill the memory
    blocks: dict[int, dict[int, Tensor | None]] = {}
    for first, track, i in chunks:
        needed = (first + SHIFTS).tolist()
        blocks = {
            k: blocks[k] if k in blocks else embedder.embed(sound, range(k * block, (k + 1) * block))
            for k in range(needed[0] // block, needed[-1] // block + 1)
        }
        windows = {frame: window for own in blocks.values() for frame, window in own.items()}
        at = [k for k, frame in enumerate(needed) if windows[frame] is not None]
        if at:
            sounds = torch.stack([window for k in at if (window := windows[needed[k]]) is not None])
            picture = pictures[track][i].expand_as(sounds)
            distances[track][at, i] = dissimilarity(picture, sounds).double().numpy()
    return distances
