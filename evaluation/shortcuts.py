"""What cues that have nothing to do with faces or voices give away about a split: a leak must not be taken
for a detector.

Fakes that begin with silence, are shorter or were encoded otherwise can be told without looking at them, and
a network finds that out as well.  What a video looks like as a file is measured on the file, its loudness on
its chunks, which the network hears.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypedDict

import av
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedGroupKFold
from tqdm import tqdm

from evaluation.auc import Interval, delong_auc, interval_text
from utils.chunkfiles import RECORD, length_of, read_record, read_wav
from utils.cli import legible, n_cores
from utils.constants import LABELS, SECOND, SILENCE_DBFS, ChunkLength
from utils.containers import VideoError, open_container, pick_stream, reason
from utils.sound import decode_sound

FLOOR_DBFS = -120  # of digital silence
CUES = {  # name, and what a fake is if it has more of it, or less
    "leading_silence_s": ("silent for longer at the start", "silent for less long at the start"),
    "duration_s": ("longer", "shorter"),
    "frame_rate_hz": ("of a higher frame rate", "of a lower frame rate"),
    "resolution_px": ("of more pixels", "of fewer pixels"),
    "bit_rate_bps": ("of a higher bit rate", "of a lower bit rate"),
    "loudness_dbfs": ("louder", "softer"),
    "n_chunks": ("of more chunks", "of fewer chunks"),
}
LEAK = 0.55  # a cue whose interval lies above that, or as far below 0.5, is called a leak
MIN_VIDEOS = 20  # of each class, to learn from all cues together
N_FOLDS = 5


class CueFigures(TypedDict):
    """What a cue alone gives away. What needs both classes is None without."""

    auc: float | None  # of the cue as the score, so above 0.5 where the fakes have more of it
    auc_ci95_delong: Interval | None
    strength: float | None  # max(auc, 1 - auc)
    reading: str  # the same in words
    leak: bool  # the interval lies beyond `LEAK`
    n_real: int  # of those whose cue is known
    n_fake: int


class TogetherFigures(TypedDict):
    """What all cues together give away."""

    auc: float | None  # of the pooled predictions
    auc_ci95_delong: Interval | None
    n_real: int  # of those whose cues are all known
    n_fake: int
    why: str | None  # why there is no auc
    leak: bool  # the interval lies above `LEAK`


class Shortcuts(TypedDict):
    """What shortcuts.json holds."""

    split: str
    n_videos: int
    problems: list[tuple[str, str]]  # the videos that lack cues, and why
    cues: dict[str, CueFigures]  # by the names in `CUES`
    together: TogetherFigures
    has_originals: bool  # it is known from which video each fake was made


def leading_silence(container: av.container.InputContainer, stream: av.AudioStream) -> float:
    """Seconds from a file's first sample of sound to the first one above `SILENCE_DBFS`; all of it, if none
    is.
    """
    level = 10 ** (SILENCE_DBFS / 20)
    resampler, rate_hz, n = None, 1, 0
    for frame in decode_sound(container, stream):
        if resampler is None:
            rate_hz = frame.sample_rate
            resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
        for block in resampler.resample(frame):
            loud = np.abs(block.to_ndarray()[0]) > level
            if loud.any():
                return (n + int(loud.argmax())) / rate_hz
            n += len(loud)
    return n / rate_hz


def source_cues(path: Path) -> dict[str, float]:
    """The cues of a video file, NaN for what it does not tell.

    Raises:
        av.FFmpegError, OSError, ValueError: it can't be read, or lacks picture or sound.
    """
    with open_container(path) as container:
        try:
            (video, _), (audio, _) = pick_stream(container, "video"), pick_stream(container, "audio")
        except VideoError as error:
            raise ValueError(f"no picture or no sound: it {error}") from error
        assert isinstance(video, av.VideoStream) and isinstance(audio, av.AudioStream)
        duration_s = container.duration / av.time_base if container.duration else float("nan")
        return {
            "duration_s": duration_s,
            "frame_rate_hz": float(video.average_rate or video.guessed_rate or "nan"),
            "resolution_px": video.width * video.height,
            "bit_rate_bps": 8 * path.stat().st_size / duration_s,
            "leading_silence_s": leading_silence(container, audio),
        }


def loudness(wavs: list[Path], length: ChunkLength = SECOND) -> float:
    """The RMS of chunks' sound in dB of full scale, at least `FLOOR_DBFS`; OSError or ValueError if one can't
    be read.
    """
    power = np.mean([np.mean((read_wav(path, length) / 32768.0) ** 2) for path in wavs])
    return max(FLOOR_DBFS, 10 * np.log10(power)) if power else FLOOR_DBFS


def measure_video(video: str, chunks: pd.DataFrame, out_dir: Path, split: str) -> dict[str, object]:
    """The cues of a video, NaN for those that can't be measured, and why (`problem`, else empty)."""
    cues: dict[str, object] = {**dict.fromkeys(CUES, float("nan")), "n_chunks": len(chunks), "problem": ""}
    label, name = video.split("/", 1)
    wavs = [out_dir / f"{path}.wav" for path in chunks.path]
    record = read_record(out_dir / split / "pytmp" / label / name)
    try:
        cues["loudness_dbfs"] = loudness(wavs, length_of(record))
    except (OSError, ValueError) as error:
        cues["problem"] = f"a chunk's sound can't be read: {reason(error)}"
    if record is None:
        return cues | {"problem": f"no {RECORD} names its file"}
    try:
        cues |= source_cues(out_dir / split / label / record["source"])
    except (av.FFmpegError, OSError, ValueError) as error:
        cues["problem"] = f"{record['source']}: {reason(error)}"
    return cues


def measure_cues(index: pd.DataFrame, out_dir: Path, split: str) -> pd.DataFrame:
    """The cues of every video of an index: video, label, original if the index has it, `CUES`, problem (why
    some are NaN).
    """
    columns = ["video", "label", *(["original"] if "original" in index else [])]
    videos = index.drop_duplicates("video")[columns].reset_index(drop=True)
    chunks = dict(list(index.groupby("video")))
    measure = partial(measure_video, out_dir=out_dir, split=split)
    # threads do: they wait for the disk and for the decoder, which works outside Python's lock
    with ThreadPoolExecutor(n_cores()) as pool:
        found = pool.map(measure, videos.video, (chunks[video] for video in videos.video))
        what = f"cues of the {split} split"
        cues = list(tqdm(found, total=len(videos), unit="video", desc=what, leave=False))
    return videos.join(pd.DataFrame(cues))


def held_out_scores(known: pd.DataFrame, origin: pd.Series) -> np.ndarray:
    """How fake each video, all of whose cues are known, looks to trees that have learnt from the others.

    `origin` names the video that each was made from; those of one origin stay in one fold.
    """
    is_fake = (known.label == LABELS["fake"]).to_numpy()
    values, score = known[list(CUES)].to_numpy(np.float64), np.zeros(len(known))
    folds = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=0)
    for train, test in folds.split(values, is_fake, origin):
        trees = HistGradientBoostingClassifier(
            max_iter=50, max_leaf_nodes=8, min_samples_leaf=5, class_weight="balanced", random_state=0
        )
        score[test] = trees.fit(values[train], is_fake[train]).predict_proba(values[test])[:, 1]
    return score


def all_together(cues: pd.DataFrame) -> TogetherFigures:
    """How well all cues together tell fake from real videos, learnt and tried on different videos.

    Gradient-boosted trees, cross-validated; a fake stays in one fold with its original and that one's other
    fakes, if the originals are known.  Videos that lack a cue are left out: that it is missing must not tell.
    """
    known = cues.dropna(subset=list(CUES))
    is_fake = (known.label == LABELS["fake"]).to_numpy()
    n_fake, n_real = int(is_fake.sum()), int((~is_fake).sum())
    origin = known.original.where(known.original != "", known.video) if "original" in known else known.video
    auc, interval, why = None, None, None
    if min(n_fake, n_real) < MIN_VIDEOS:
        why = f"takes {MIN_VIDEOS} real and {MIN_VIDEOS} fake videos with all cues"
    elif min(origin[is_fake].nunique(), origin[~is_fake].nunique()) < N_FOLDS:
        why = f"takes videos from {N_FOLDS} originals for as many folds"
    else:
        auc, interval = delong_auc(is_fake, held_out_scores(known, origin))
    return {
        "auc": auc,
        "auc_ci95_delong": interval,
        "n_real": n_real,
        "n_fake": n_fake,
        "why": why,
        "leak": interval is not None and interval[0] > LEAK,
    }


def cue_figures(cues: pd.DataFrame, cue: str) -> CueFigures:
    """What one cue gives away."""
    known = cues.dropna(subset=cue)
    is_fake = (known.label == LABELS["fake"]).to_numpy()
    figures: CueFigures = {
        "auc": None,
        "auc_ci95_delong": None,
        "strength": None,
        "reading": "not known of both real and fake videos",
        "leak": False,
        "n_real": int((~is_fake).sum()),
        "n_fake": int(is_fake.sum()),
    }
    if not figures["n_real"] or not figures["n_fake"]:
        return figures
    auc, interval = delong_auc(is_fake, known[cue].to_numpy(np.float64))
    figures |= {"auc": auc, "auc_ci95_delong": interval, "strength": max(auc, 1 - auc)}
    if known[cue].nunique() == 1:
        figures["reading"] = "the same in all"
    elif interval is None or interval[0] <= 0.5 <= interval[1]:
        figures["reading"] = "no clear difference"
    else:
        more, less = CUES[cue]
        figures["reading"] = f"fakes are {more if auc > 0.5 else less}"
        figures["leak"] = interval[0] > LEAK or interval[1] < 1 - LEAK
    return figures


def shortcut_figures(cues: pd.DataFrame, split: str) -> Shortcuts:
    """What each cue of a split's videos gives away, and all together."""
    troubled = cues[cues.problem != ""]
    return {
        "split": split,
        "n_videos": len(cues),
        "problems": list(zip(troubled.video, troubled.problem, strict=True)),
        "cues": {cue: cue_figures(cues, cue) for cue in CUES},
        "together": all_together(cues),
        "has_originals": "original" in cues,
    }


def cue_line(name: str, figures: CueFigures | TogetherFigures, strength: str, words: str) -> str:
    """A row of the table."""
    auc = "-" if figures["auc"] is None else f"{figures['auc']:.4f}"
    interval = interval_text(figures["auc_ci95_delong"])
    counts = f"{figures['n_fake']:>6} {figures['n_real']:>6}"
    leak = "  <- LEAK" if figures["leak"] else ""
    return f"{name:<18} {auc:>6}  {interval:<16}  {strength:>8} {counts}  {words}{leak}"


def together_lines(result: Shortcuts) -> Iterator[str]:
    """The table's row of all cues together, and what to think of it."""
    together, has_originals = result["together"], result["has_originals"]
    twins = "a fake with its original" if has_originals else "originals not known"
    how = f"trees, {N_FOLDS}-fold cross-validated, {twins}"
    yield cue_line("all cues together", together, "", together["why"] or how)
    if together["auc_ci95_delong"] and together["auc_ci95_delong"][1] < 0.5:
        # what was learnt from a video is wrong for its twin
        remedy = "." if has_originals else "; a column original in the index keeps them together."
        yield f"Below 0.5 means: videos have twins of the other label in other folds{remedy}"


def shortcut_lines(result: Shortcuts) -> Iterator[str]:
    """Lines for the screen."""
    yield f"{result['n_videos']} videos of the {result['split']} split"
    if problems := result["problems"]:
        yield f"cues missing for {len(problems)} videos:"
        yield from (legible(f"  {video}: {why}") for video, why in problems[:5])
        if len(problems) > 5:
            yield "  ... (all in shortcuts.csv)"
    yield f"{'cue alone':<18} {'AUC':>6}  {'95 % (DeLong)':<16}  {'strength':>8} {'fake':>6} {'real':>6}"
    for name, figures in result["cues"].items():
        strength = "-" if figures["strength"] is None else f"{figures['strength']:.4f}"
        yield cue_line(name, figures, strength, figures["reading"])
    yield from together_lines(result)
    yield "AUC: the cue as the score, higher taken as fake; strength: max(AUC, 1 - AUC)."
    silence = f"Silence lasts until the first sample above {SILENCE_DBFS} dBFS;"
    yield f"LEAK: the strength's interval lies above {LEAK}. {silence}"
    yield "loudness is the RMS of the chunks."
    if result["together"]["leak"] or any(figures["leak"] for figures in result["cues"].values()):
        yield "A detector's AUC on these videos means little unless it is well above that of the cues."
