"""One raw video, one verdict: faces followed, seconds scored, and everything there is to show of it.

from verdicts.judge import Judge    (localize.py does)
"""

import base64
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from detectors import Detector
from engine import build_model
from model import TwoStreamNet
from preprocessing.chunking import ChunkWriter, check_tracks, cut_sound, find_faces, track_and_crop
from preprocessing.settings import Settings
from utils.checkpoint import stored_threshold, threshold_videos
from utils.chunkfiles import decode_frame, decode_video
from utils.cli import UserError, legible
from utils.constants import CHUNK_FRAMES, FPS, SILENCE_DBFS
from utils.containers import VideoError
from utils.environment import device_name, git_commit
from utils.files import file_digest
from utils.media import Source, open_source
from utils.mfcc import chunk_mfcc
from utils.pages import data_uri, write_page
from utils.timing import Stopwatch
from verdicts.annotate import write_annotated
from verdicts.gradcam import check_maps, explain
from verdicts.timeline import MAX_NAMED, TRACK_COLOURS, page_curve, plot_timeline
from verdicts.verdict import (
    CAVEATS,
    WHY,
    TrackScores,
    apart,
    chunk_starts,
    give_verdict,
    in_capitals,
    in_words,
    looks,
)

MAX_CARDS = 60  # seconds shown with pictures and maps on a page
MAX_PAGE_MB = 64  # of video inside a page
TILE_PX = 96
SILENT_PEAK = 32768 * 10 ** (SILENCE_DBFS / 20)  # a second without a louder sample is silent
N_CHECKED = 8  # seconds whose maps are compared with those of random weights
STAGES = {
    "network": "network",
    "pictures": "files",
    "video": "files",
}  # of the clock's laps; all others find faces


@dataclasses.dataclass
class Second:
    """One second of one track, for the page."""

    track: int
    start: int  # in frames from the track's first one
    start_s: float
    scores: np.ndarray  # (3,) of `engine.SCORES`
    maps: Tensor  # (2, 8, h, w) of `gradcam.MAPS`


class Judge:
    """A model with all that decides its verdicts.

    Args:
        checkpoint: as `load_checkpoint` gives it, of the file at `path`.
        threshold: in place of the checkpoint's, or None.
        stride_s, smooth_s: of the curve.
        detector, settings: of pre-processing. `weights`: the detector's file, if it was named.
        device: where the network computes, `batch_size` chunks at a time.
        amp: a key of `engine.AMP`.
        brief: leave out pictures, video and page.
        check: compare the maps with those of random weights.

    Raises:
        UserError: no threshold, or the weights do not fit the network.
    """

    def __init__(
        self,
        checkpoint: dict,
        path: Path,
        *,
        threshold: float | None,
        stride_s: float,
        smooth_s: float,
        detector: Detector,
        settings: Settings,
        weights: Path | None,
        device: torch.device,
        amp: str,
        batch_size: int,
        brief: bool,
        check: bool,
    ):
        self.config, self.device, self.amp, self.batch_size = checkpoint["config"], device, amp, batch_size
        self.model: TwoStreamNet = build_model(checkpoint, path).to(device).eval().requires_grad_(False)
        self.model.netcnnlip.to(
            memory_format=torch.channels_last_3d
        )  # as `normalize` gives its input; faster
        self.detector, self.settings, self.brief, self.check = detector, settings, brief, check
        stored, origin = stored_threshold(checkpoint)
        self.threshold, self.threshold_origin = (
            (stored, origin) if threshold is None else (threshold, "given on the command line")
        )
        if self.threshold is None:
            raise UserError(
                f"{path} holds no threshold; give one with --threshold, for example of a test on known videos."
            )
        self.stride, self.smooth_s = max(1, round(stride_s * FPS)), smooth_s
        self.identity = {
            "model_sha256": file_digest(path),
            "weights_sha256": weights and file_digest(weights),
            "threshold": self.threshold,
            "stride_s": round(self.stride / FPS, 3),
            "smooth_s": smooth_s,
            "amp": amp,
            "pre_processing": dataclasses.asdict(settings),
            "brief": brief,
            "check_maps": check,
        }
        self.made_by = {"git_commit": git_commit(), "device": device_name(device)}
        real, fake = (checkpoint.get(f"mean_mds_{label}") for label in ("real", "fake"))
        self.trained = {"epochs": checkpoint.get("epoch"), "mean_mds_real": real, "mean_mds_fake": fake}
        self.threshold_videos = threshold_videos(checkpoint).split(",")[0]
        self.warnings = []
        if threshold is None and "mean_mds_real" not in checkpoint:
            self.warnings.append(
                f"The threshold is an estimate ({origin}), so the verdict is one; --threshold sets another."
            )
        if real is not None and fake is not None and real >= fake:
            self.warnings.append(
                f"This model gave real {self.threshold_videos} a mean score of {real:.4g} and the fake ones "
                f"{fake:.4g}: it has not learnt to tell them apart."
            )

    def chunks(
        self, source: Source, writers: Sequence[ChunkWriter], left_out: Sequence[list[tuple[int, str]]]
    ) -> Iterator[tuple[int, int, bool, Tensor, Tensor]]:
        """The chunks of all tracks that can be judged: track, first frame in it, whether it is one of the
        seconds that do not overlap, frames and MFCC. The others go to `left_out`, by track.
        """
        damaged = source.damaged()
        for track, writer in enumerate(writers):
            for start, is_second in zip(*chunk_starts(writer.track.n_frames, self.stride), strict=True):
                first = writer.track.first_frame + start
                samples, kind = cut_sound(source, first, damaged)
                if writer.motion.is_still:
                    kind = "still"  # a photograph: nothing that could agree with the sound
                elif kind == "chunks" and np.abs(samples.astype(np.int32)).max() < SILENT_PEAK:
                    kind = "silent"  # nothing that lips could agree with
                if kind != "chunks":
                    left_out[track].append((first, kind))
                    continue
                yield (
                    track,
                    start,
                    is_second,
                    self.frames(writer, start),
                    torch.from_numpy(chunk_mfcc(samples)),
                )

    def frames(self, writer: ChunkWriter, start: int) -> Tensor:
        """The frames of the chunk of a track that begins at its frame `start`, as `decode_video` gives them."""
        jpegs = ((f"{i}", writer.jpeg(i)) for i in range(start, start + CHUNK_FRAMES))
        return torch.from_numpy(decode_video(jpegs, self.model.img_dim))

    def score(
        self, source: Source, writers: Sequence[ChunkWriter], name: str
    ) -> tuple[list[TrackScores], list[Second]]:
        """Score the tracks of a video that was read; and the seconds that do not overlap, with their maps.

        Raises:
            UserError: a score is not finite.
        """
        left_out: list[list[tuple[int, str]]] = [[] for _ in writers]
        rows: list[list[tuple]] = [[] for _ in writers]
        seconds: list[Second] = []
        n_chunks = sum(len(chunk_starts(writer.track.n_frames, self.stride)[0]) for writer in writers)
        chunks = self.chunks(source, writers, left_out)
        with tqdm(total=n_chunks, unit="chunk", desc=legible(name)[-40:], leave=False, delay=2) as progress:
            while batch := list(itertools.islice(chunks, self.batch_size)):
                tracks, starts, are_seconds, videos, audios = zip(*batch, strict=True)
                scores, maps = explain(
                    self.model, torch.stack(videos), torch.stack(audios), self.device, self.amp
                )
                if not torch.isfinite(scores).all():
                    raise UserError(
                        f"{name}: the model gives a score that is not finite; it has diverged in training, take another."
                    )
                for i, (track, start, is_second) in enumerate(zip(tracks, starts, are_seconds, strict=True)):
                    start_s = (writers[track].track.first_frame + start) / FPS
                    values = scores[:, i].double().numpy()
                    rows[track].append((start_s, values, is_second))
                    if is_second:
                        seconds.append(Second(track, start, start_s, values, maps[:, i].clone()))
                progress.update(len(batch))
        tracks = []
        for i, writer in enumerate(writers):
            start_s, scores, is_second = zip(*rows[i], strict=True) if rows[i] else ((), np.empty((0, 3)), ())
            tracks.append(
                TrackScores(
                    i,
                    writer.track.first_frame,
                    writer.track.boxes,
                    np.array(start_s),
                    np.array(scores),
                    np.array(is_second, bool),
                    left_out[i],
                    self.smooth_s,
                )
            )
        return tracks, seconds

    def judge(self, path: Path, name: str, folder: Path, scratch: Path, true_spans: Sequence | None) -> dict:
        """Judge a video and write what there is to show into `folder`, which is there.

        Args:
            name: of the video, for people.
            scratch: an empty folder for what is only needed on the way.
            true_spans: (begin_s, end_s) of what is fake in truth, or None.

        Returns:
            What `give_verdict` does, with file, words, warnings of the file in coverage, map_check if asked
            for, seconds_spent, model and made_by.

        Raises:
            VideoError: it can't be judged; the stage and the reason. OSError, UserError: a file can't be
                written, or the model is
            of no use.
        """
        clock = Stopwatch()
        with open_source(path, scratch, clock) as source:
            with closing(find_faces(source, self.detector, self.settings, clock)) as pictures:
                progress = tqdm(pictures, unit=" frames", desc="faces", leave=False, delay=2)
                found = track_and_crop(progress, scratch / "tracks", self.settings, clock)
            check_tracks(found)
            tracks, seconds = self.score(source, found.tracks, name)
            clock.lap("network")
            if not any(len(track.scores) for track in tracks):
                kinds = [kind for track in tracks for _, kind in track.left_out]
                listed = ", ".join(f"{kinds.count(kind)} with {WHY[kind]}" for kind in sorted(set(kinds)))
                raise VideoError(
                    "chunk", f"no second of a face can be judged: of {len(kinds)} chunks {listed}"
                )
            verdict = give_verdict(tracks, found.n_frames, self.threshold)
            warnings = [*source.warnings, *found.warnings]
            verdict["coverage"]["warnings"] = warnings
            words = [*in_words(verdict), *self.warnings, *(f"The file: {warning}." for warning in warnings)]
            verdict = {"file": name, "words": words} | verdict
            if self.check and seconds:
                verdict["map_check"] = self.compare_maps(source, found.tracks, seconds)
                clock.lap("network")
            if not self.brief:
                plot_timeline(name, tracks, verdict, true_spans, folder / "timeline.png")
                cards = self.cards(seconds, found.tracks)
                clock.lap("pictures")
                with open_source(path, scratch) as again:
                    write_annotated(
                        again, source.sound, tracks, self.threshold, found.n_frames, folder / "annotated.mp4"
                    )
                clock.lap("video")
                self.write_report(folder, verdict, tracks, true_spans, cards, len(seconds) - len(cards))
                clock.lap("pictures")
        spent = {"faces": 0.0, "network": 0.0, "files": 0.0}
        for lap, s in clock.seconds.items():
            if lap != "detect":  # it runs beside the others
                spent[STAGES.get(lap, "faces")] += s
        verdict["seconds_spent"] = {stage: round(s, 2) for stage, s in spent.items()}
        verdict["model"] = {"threshold_origin": self.threshold_origin, **self.config, **self.trained}
        verdict["made_by"] = self.made_by
        return verdict

    def compare_maps(
        self, source: Source, writers: Sequence[ChunkWriter], seconds: Sequence[Second]
    ) -> dict[str, float | None]:
        """`check_maps` for some seconds, evenly spread; None for what is not defined."""
        some = [
            seconds[i]
            for i in np.linspace(0, len(seconds) - 1, min(N_CHECKED, len(seconds))).round().astype(int)
        ]

        def inputs() -> Iterator[tuple[Tensor, Tensor]]:
            for second in some:
                writer = writers[second.track]
                samples, _ = cut_sound(source, writer.track.first_frame + second.start, [])
                yield self.frames(writer, second.start)[None], torch.from_numpy(chunk_mfcc(samples))[None]

        maps = torch.stack([second.maps for second in some], 1)
        found = check_maps(self.config, maps, inputs(), self.device, self.amp)
        return {name: round(value, 3) if np.isfinite(value) else None for name, value in found.items()}

    def cards(self, seconds: Sequence[Second], writers: Sequence[ChunkWriter]) -> list[dict]:
        """What the page shows of each second: of at most `MAX_CARDS` those with the highest scores, in order
        of time.
        """
        chosen = sorted(seconds, key=lambda second: -second.scores[0])[:MAX_CARDS]
        strongest = (
            [max(float(second.maps[i].max()) for second in seconds) or 1.0 for i in (0, 1)] if seconds else []
        )
        cards = []
        for second in sorted(chosen, key=lambda second: (second.start_s, second.track)):
            crops = [
                decode_frame(writers[second.track].jpeg(second.start + 4 * t))
                for t in range(second.maps.shape[1])
            ]
            dissimilarity, p_video, p_audio = second.scores.tolist()
            cards.append(
                {
                    "track": second.track,
                    "start_s": round(second.start_s, 3),
                    "n_places": "×".join(map(str, second.maps.shape[2:])),
                    "dissimilarity": dissimilarity,
                    "looks": looks(dissimilarity, self.threshold),
                    "p_fake_video": p_video,
                    "p_fake_audio": p_audio,
                    "picture": data_uri(draw_strip(crops, second.maps.numpy(), strongest), "image/jpeg"),
                }
            )
        return cards

    def training_in_words(self) -> str:
        """What is known of the model's training."""
        real, fake = (self.trained[f"mean_mds_{label}"] for label in ("real", "fake"))
        known = [] if self.trained["epochs"] is None else [f"{self.trained['epochs']} epochs"]
        if real is not None and fake is not None:
            known.append(f"mean MDS of its {self.threshold_videos}: real {real:.4g}, fake {fake:.4g}")
        return "; ".join(known) or "unknown"

    def write_report(
        self,
        folder: Path,
        verdict: dict,
        tracks: Sequence[TrackScores],
        true_spans: Sequence | None,
        cards: list[dict],
        n_hidden: int,
    ) -> None:
        """Write report.html beside annotated.mp4, which it holds unless that is large."""
        video = folder / "annotated.mp4"
        is_inside = video.stat().st_size <= MAX_PAGE_MB * 10**6
        name, curve = legible(verdict["file"]), f"a chunk of 1 s every {self.identity['stride_s']:g} s"
        mds_text, threshold_text = apart(verdict["mds"], verdict["threshold"])
        facts = {
            "file": name,
            "network": f"{self.config['net']}, frames of {self.config['img_dim']} pixels",
            "checkpoint": f"SHA-256 {self.identity['model_sha256']}",
            "threshold": f"{self.threshold:.6g}, {self.threshold_origin}",
            "training": self.training_in_words(),
            "curve": f"{curve}, smoothed by {self.smooth_s:g} s; the MDS is the mean over whole seconds",
            "face detector": self.settings.detector,
            "computed on": self.made_by["device"],
        }
        write_page(
            folder / "report.html",
            "verdict.html",
            title=f"{name}: {in_capitals(verdict)}",
            name=name,
            mds_text=mds_text,
            threshold_text=threshold_text,
            verdict=verdict,
            curve=page_curve(tracks, verdict, true_spans),
            max_named=MAX_NAMED,
            colours=TRACK_COLOURS,
            cards=cards,
            n_hidden=n_hidden,
            n_places=cards[0]["n_places"] if cards else "no",
            caveats=CAVEATS,
            facts=facts,
            video_file=None if is_inside else video.name,
            video_base64=base64.b64encode(video.read_bytes()).decode() if is_inside else "",
        )


def draw_strip(crops: Sequence[np.ndarray], maps: np.ndarray, strongest: Sequence[float]) -> bytes:
    """A second as a picture, JPEG: eight crops (H, W, 3) BGR; below them the same under each of the maps (2,
    8, h, w).
    """
    size = (TILE_PX, TILE_PX)
    plain_row = [cv2.resize(crop, size, interpolation=cv2.INTER_AREA) for crop in crops]
    rows = [np.hstack(plain_row)]
    for steps, top in zip(maps, strongest, strict=True):
        heats = [cv2.resize(step / top, size, interpolation=cv2.INTER_CUBIC).clip(0, 1) for step in steps]
        colours = [cv2.applyColorMap((255 * heat).astype(np.uint8), cv2.COLORMAP_TURBO) for heat in heats]
        rows.append(
            np.hstack(
                [
                    cv2.addWeighted(tile, 0.55, colour, 0.45, 0)
                    for tile, colour in zip(plain_row, colours, strict=True)
                ]
            )
        )
    return cv2.imencode(".jpg", np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
