"""One raw video, one verdict: faces followed, seconds scored, and everything there is to show of it.

from verdicts import Judge    (localize.py does)
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from tqdm import tqdm

from detectors import Detector
from engine import build_model
from preprocessing.chunking import check_tracks, find_faces, track_and_crop
from preprocessing.settings import Settings
from utils.checkpoint import Checkpoint
from utils.cli import UserError
from utils.constants import FPS, ChunkLength
from utils.containers import VideoError
from utils.environment import device_name, git_commit
from utils.files import file_digest
from utils.jsonfiles import plain
from utils.media import open_source
from utils.timing import Stopwatch
from verdicts.annotate import write_annotated
from verdicts.facts import read_facts
from verdicts.page import draw_pictures, write_verdict_page
from verdicts.quality import measure_face
from verdicts.schema import Identity, JudgeIdentity, MadeBy, MapCheck, Verdict
from verdicts.scoring import JudgeSettings, ScoredVideo, VideoScorer
from verdicts.timeline import plot_timeline
from verdicts.verdict import WHY, TrackScores, give_verdict
from verdicts.words import in_words

# what a verdict says of the time spent, by the clock's laps; all others find faces
STAGES = {"network": "network", "pictures": "files", "video": "files"}


@dataclass
class DetectorSetup:
    """The detector that finds the faces of videos, and how it is used."""

    detector: Detector
    settings: Settings  # of pre-processing, the detector's name among them
    weights: Path | None = None  # the detector's file, if it was named


@dataclass(frozen=True)
class Question:
    """A video to be judged; `Judge.ask` makes it."""

    path: Path
    name: str  # for people
    true_spans: Sequence | None  # (begin_s, end_s) of what is fake in truth, if that is known
    identity: Identity


class Judge:
    """A model with all that decides its verdicts.

    Args:
        checkpoint: as `load_checkpoint` gives it, of the file at `path`.
        device: where the network computes.

    Raises:
        UserError: no threshold, one stream alone, or the weights do not fit the network.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        path: Path,
        faces: DetectorSetup,
        device: torch.device,
        settings: JudgeSettings,
    ):
        if (streams := checkpoint["config"]["streams"]) != "both":
            raise UserError(
                f"{path} holds the {streams} stream alone, which has no dissonance to judge by; take a model "
                "that was trained with --streams both."
            )
        model = build_model(checkpoint, path).to(device).eval().requires_grad_(False)
        self._facts = read_facts(checkpoint, path, settings.threshold)
        self._scorer = VideoScorer(model, self._facts.config, device, settings)
        self._faces, self._settings = faces, settings
        self._made_by: MadeBy = {"git_commit": git_commit(), "device": device_name(device)}
        self._identity: JudgeIdentity = {
            "model_sha256": self._facts.sha256,
            "weights_sha256": file_digest(faces.weights) if faces.weights else None,
            "threshold": self._facts.threshold,
            "stride_s": round(settings.stride / FPS, 3),
            "smooth_s": settings.smooth_s,
            "amp": settings.amp,
            "pre_processing": faces.settings.written,
            "brief": settings.brief,
            "check_maps": settings.check_maps,
            "min_judged_s": settings.rules.min_judged_s,
            "min_share": settings.rules.min_share,
        }

    def ask(self, path: Path, name: str, true_spans: Sequence | None = None) -> Question:
        """The question what a video is; OSError if the file is not there."""
        status = path.stat()
        source = [status.st_size, status.st_mtime_ns]
        identity = plain({**self._identity, "source": source, "true_spans": true_spans})
        return Question(path, name, true_spans, cast(Identity, identity))

    def judge(self, question: Question, folder: Path, scratch: Path) -> Verdict:
        """Judge a video and write what there is to show into `folder`, which is there.

        Args:
            scratch: an empty folder for what is only needed on the way.

        Raises:
            VideoError: it can't be judged; the stage and the reason. OSError, UserError: a file can't be
                written, or the model is of no use.
        """
        clock = Stopwatch()
        with open_source(question.path, scratch, clock) as source:
            with closing(find_faces(source, self._faces.detector, self._faces.settings, clock)) as pictures:
                progress = tqdm(pictures, unit=" frames", desc="faces", leave=False, delay=2)
                found = track_and_crop(progress, scratch / "tracks", self._faces.settings, clock)
            check_tracks(found, self._faces.settings.min_track)
            tracks, seconds = self._scorer.score(source, found.tracks, question.name)
            check_scores(tracks, self._scorer.length)
            clock.lap("network")
            for track, writer in zip(tracks, found.tracks, strict=True):
                track.face = measure_face(writer, track, self._faces.detector)
            clock.lap("quality")
            map_check: MapCheck = {}
            if self._settings.check_maps and seconds:
                map_check = {"map_check": self._scorer.compare_maps(source, found.tracks, seconds)}
            warnings = [*source.warnings, *found.warnings]
            verdict = self._give(question, tracks, found.n_frames, warnings, map_check)
            clock.lap("network")
            if not self._settings.brief:
                scored = ScoredVideo(source.sound, found.n_frames, found.tracks, tracks, seconds)
                self._show(question, verdict, scored, folder, scratch, clock)
        verdict["seconds_spent"] = seconds_by_stage(clock)
        return verdict

    def _give(
        self,
        question: Question,
        tracks: Sequence[TrackScores],
        n_frames: int,
        warnings: list[str],
        map_check: MapCheck,
    ) -> Verdict:
        """All that verdict.json holds, but for the time spent."""
        facts = self._facts
        findings = give_verdict(tracks, n_frames, facts.threshold, facts.record, self._settings.rules)
        findings["coverage"]["warnings"] = warnings
        of_file = [f"The file: {warning}." for warning in warnings]
        return {
            "file": question.name,
            "words": [*in_words(findings), *facts.warnings(), *of_file],
            "grounds": facts.grounds(findings["mds"]),
            "p_fake_calibrated": facts.p_fake(findings["mds"]),
            **findings,
            **map_check,
            "seconds_spent": {},
            "model": facts.written(),
            "made_by": self._made_by,
            "identity": question.identity,
        }

    def _show(
        self,
        question: Question,
        verdict: Verdict,
        scored: ScoredVideo,
        folder: Path,
        scratch: Path,
        clock: Stopwatch,
    ) -> None:
        """Write picture, video and page of a verdict."""
        tracks, true_spans = scored.tracks, question.true_spans
        plot_timeline(question.name, tracks, verdict, true_spans, folder / "timeline.png")
        pictures = draw_pictures(scored, verdict["threshold"])
        clock.lap("pictures")
        with open_source(question.path, scratch) as again:
            annotated = folder / "annotated.mp4"
            write_annotated(again, scored.sound, tracks, verdict["threshold"], scored.n_frames, annotated)
        clock.lap("video")
        write_verdict_page(folder, verdict, tracks, true_spans, pictures, self._facts.training())
        clock.lap("pictures")


def check_scores(tracks: Sequence[TrackScores], length: ChunkLength) -> None:
    """VideoError, with the reasons, if no chunk of a video could be judged."""
    if any(len(track.scores) for track in tracks):
        return
    kinds = [kind for track in tracks for _, kind in track.left_out]
    if not kinds:
        longest_s = max(len(track.boxes) for track in tracks) / FPS
        needed = f"this model looks at {length.chunk_s:g} s at a time"
        raise VideoError("track", f"no face is followed for longer than {longest_s:.2f} s; {needed}")
    counts = ", ".join(f"{kinds.count(kind)} with {WHY[kind]}" for kind in sorted(set(kinds)))
    raise VideoError("chunk", f"no second of a face can be judged: of {len(kinds)} chunks {counts}")


def seconds_by_stage(clock: Stopwatch) -> dict[str, float]:
    """The seconds that a verdict took, by stage."""
    spent = {"faces": 0.0, "network": 0.0, "files": 0.0}
    for lap, seconds in clock.seconds.items():
        if lap != "detect":  # it runs beside the others
            spent[STAGES.get(lap, "faces")] += seconds
    return {stage: round(seconds, 2) for stage, seconds in spent.items()}
