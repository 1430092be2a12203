"""One raw video, one verdict: faces followed, seconds scored, and everything there is to show of it.

from verdicts import Judge    (localize.py does)
"""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from tqdm import tqdm

from engine import build_model
from preprocessing.chunking import check_tracks, find_faces, track_and_crop
from utils.checkpoint import Checkpoint, load_checkpoint, refuse_other_network
from utils.cli import UserError, pick_device
from utils.constants import FPS, ChunkLength
from utils.containers import VideoError
from utils.environment import device_name
from utils.files import file_digest
from utils.jsonfiles import plain
from utils.media import Source, open_source
from utils.probe import probe
from utils.timing import Stopwatch
from verdicts.annotate import write_annotated
from verdicts.answer import shaken
from verdicts.detection import DetectorSetup, set_up_detector
from verdicts.facts import read_facts
from verdicts.page import draw_pictures, write_verdict_page
from verdicts.quality import measure_face
from verdicts.schema import VERSION, Findings, Identity, JudgeIdentity, MadeBy, Stress, Verdict
from verdicts.scoring import JudgeSettings, ScoredVideo, VideoScorer
from verdicts.story import tell_story, versions
from verdicts.stress import judge_in_other_ways
from verdicts.timeline import plot_timeline
from verdicts.verdict import WHY, TrackScores, give_verdict
from verdicts.words import in_words, stress_words

# what a verdict says of the time spent, by the clock's laps; all others find faces
STAGES = {"network": "network", "story": "files", "pictures": "files", "video": "files", "stress": "stress"}
# of a checkpoint of the authors' code, which does not say
AUTHORS_NETWORK = {"net": "resnet18", "img_dim": 224, "final_dim": 1024, "dropout": 0.5}


QUIET = JudgeSettings(brief=True)


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
        command: the command line that asks, as it is shown; None for another program.

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
        command: str | None = None,
    ):
        if (streams := checkpoint["config"]["streams"]) != "both":
            raise UserError(
                f"{path} holds the {streams} stream alone, which has no dissonance to judge by; take a model "
                "that was trained with --streams both."
            )
        model = build_model(checkpoint, path).to(device).eval().requires_grad_(False)
        self._facts = read_facts(checkpoint, path, settings.threshold)
        settings = replace(settings, batch_size=settings.batch_size or (16 if device.type == "cuda" else 1))
        self._scorer = VideoScorer(model, self._facts.config, device, settings)
        # for the other versions of --stress: the same seconds, without those between
        quick = replace(settings, stride_s=self._scorer.length.chunk_s, brief=True, check_maps=False)
        self._quick = VideoScorer(model, self._facts.config, device, quick, with_offsets=False)
        self._faces, self._settings, self._command = faces, settings, command
        self._made_by: MadeBy = {"git_commit": versions()["project"], "device": device_name(device)}
        self._identity: JudgeIdentity = {
            "model_sha256": self._facts.sha256,
            "weights_sha256": file_digest(faces.weights) if faces.weights else None,
            "landmarks": type(faces.landmarks).__name__ if faces.landmarks else None,
            "threshold": self._facts.threshold,
            "stride_s": round(settings.stride / FPS, 3),
            "smooth_s": settings.smooth_s,
            "amp": settings.amp,
            "pre_processing": faces.settings.written,
            "brief": settings.brief,
            "check_maps": settings.check_maps,
            "min_judged_s": settings.rules.min_judged_s,
            "min_share": settings.rules.min_share,
            "stress": settings.stress,
        }

    @classmethod
    def load(
        cls,
        model: Path | str,
        settings: JudgeSettings = QUIET,
        faces: DetectorSetup | None = None,
        device: torch.device | None = None,
        network: dict | None = None,
        command: str | None = None,
    ) -> "Judge":
        """A judge by the checkpoint in a file.

        Args:
            settings: brief ones if none are given.
            faces: the usual detector of the device if none is given.
            device: a GPU if there is one, if none is given.
            network: net and img_dim of a checkpoint of the authors' code, which does not say; any other one
                must agree with them.
            command: see `Judge`.

        Raises:
            UserError: no such file, or none of a network that can judge; no weights of the detector.
        """
        path, asked = Path(model), network or {}
        device = device or pick_device("auto")
        checkpoint = load_checkpoint(path, AUTHORS_NETWORK | asked)
        refuse_other_network(path, checkpoint, asked)
        return cls(checkpoint, path, faces or set_up_detector(device), device, settings, command)

    def __call__(self, video: Path | str) -> Verdict:
        """The verdict on a video; nothing is written that stays.

        Raises:
            VideoError: it can't be judged; the stage and the reason. OSError: the file is not there, or there
                is no room for what is needed on the way. UserError: the model is of no use.
        """
        path = Path(video)
        question = self.ask(path, path.name)
        probe(path)
        with tempfile.TemporaryDirectory(prefix="verdict-") as scratch:
            return self.judge(question, None, Path(scratch))

    def ask(self, path: Path, name: str, true_spans: Sequence | None = None) -> Question:
        """The question what a video is; OSError if the file is not there."""
        status = path.stat()
        source = [status.st_size, status.st_mtime_ns]
        identity = plain({**self._identity, "source": source, "true_spans": true_spans})
        return Question(path, name, true_spans, cast(Identity, identity))

    def judge(self, question: Question, folder: Path | None, scratch: Path) -> Verdict:
        """Judge a video and write what there is to show into `folder`, which is there, if one is given.

        Args:
            scratch: an empty folder for what is only needed on the way.

        Raises:
            VideoError: it can't be judged; the stage and the reason. OSError, UserError: a file can't be
                written, or the model is of no use.
        """
        clock = Stopwatch()
        with open_source(question.path, scratch, clock) as source:
            scored = self._score(source, question.name, scratch, self._scorer, clock)
            for track, writer in zip(scored.tracks, scored.writers, strict=True):
                track.face = measure_face(writer, track, self._faces.landmarks)
            clock.lap("quality")
            map_check = None
            if self._settings.check_maps and scored.seconds:
                map_check = self._scorer.compare_maps(source, scored.writers, scored.seconds)
            findings = self._find(scored)
            clock.lap("network")
            stress = None
            if self._settings.stress:
                stress = self._stress(question, findings, scratch)
                answered = shaken(findings["verdict"], findings["reasons"], stress)
                findings["verdict"], findings["reasons"] = answered
                clock.lap("stress")
            verdict = self._give(question, findings, stress)
            if map_check is not None:
                verdict["map_check"] = map_check
            clock.lap("story")
            if folder and not self._settings.brief:
                self._show(question, verdict, scored, folder, scratch, clock)
        verdict["seconds_spent"] = seconds_by_stage(clock)
        return verdict

    def _score(
        self, source: Source, name: str, scratch: Path, scorer: VideoScorer, clock: Stopwatch
    ) -> ScoredVideo:
        """Follow and score the faces of a video.

        Raises:
            VideoError, OSError, UserError: see `judge`.
        """
        with closing(find_faces(source, self._faces.detector, self._faces.settings, clock)) as pictures:
            progress = tqdm(pictures, unit=" frames", desc="faces", leave=False, delay=2)
            found = track_and_crop(progress, scratch / "tracks", self._faces.settings, clock)
        check_tracks(found, self._faces.settings.min_track)
        tracks, seconds = scorer.score(source, found.tracks, name)
        check_scores(tracks, scorer.length)
        clock.lap("network")
        warnings = [*source.warnings, *found.warnings]
        return ScoredVideo(source.sound, found.n_frames, found.tracks, tracks, seconds, warnings)

    def _find(self, scored: ScoredVideo) -> Findings:
        """What the scores of a video say."""
        facts, rules = self._facts, self._settings.rules
        findings = give_verdict(
            scored.tracks, scored.n_frames, facts.threshold, facts.record, rules, facts.own_threshold
        )
        findings["coverage"]["warnings"] = scored.warnings
        return findings

    def _stress(self, question: Question, findings: Findings, scratch: Path) -> Stress:
        """What becomes of the MDS in other versions of the video."""

        def mds_of(path: Path, folder: Path) -> float:
            clock = Stopwatch()
            with open_source(path, folder, clock) as source:
                return self._find(self._score(source, question.name, folder, self._quick, clock))["mds"]

        mds, threshold = findings["mds"], findings["threshold"]
        return judge_in_other_ways(question.path, mds, threshold, mds_of, scratch)

    def _give(self, question: Question, findings: Findings, stress: Stress | None) -> Verdict:
        """All that verdict.json holds, but for the time spent and the heat maps' check."""
        facts = self._facts
        of_file = [f"The file: {warning}." for warning in findings["coverage"]["warnings"]]
        again = [stress_words(stress)] if stress else []
        verdict: Verdict = {
            "version": VERSION,
            "file": question.name,
            "words": [*in_words(findings), *again, *facts.warnings(), *of_file],
            "grounds": facts.grounds(findings["mds"]),
            "p_fake_calibrated": facts.p_fake(findings["mds"]),
            **findings,
            "file_facts": tell_story(question.path, question.identity["source"][0], self._command),
            "seconds_spent": {},
            "model": facts.written(),
            "made_by": self._made_by,
            "identity": question.identity,
        }
        if stress:
            verdict["stress"] = stress
        return verdict

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
            stage = STAGES.get(lap, "faces")
            spent[stage] = spent.get(stage, 0.0) + seconds
    return {stage: round(seconds, 2) for stage, seconds in spent.items()}
