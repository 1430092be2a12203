"""Random damage, seeded and bounded: videos, pages, flags, processes killed. MDS_FUZZ=20 tries twenty times
as much.
"""

import argparse
import html.parser
import json
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import model
from tests import fuzz_child
from tests.clips import face_pictures, tone, write_clip
from tests.conftest import load_script
from utils.cli import UserError
from utils.constants import FPS
from utils.tables import read_table

FACTOR = int(os.environ.get("MDS_FUZZ", "1"))
SECONDS_PER_MUTANT = 60  # after which it hangs
STAGES = {"open", "read", "video", "audio", "length", "face", "track", "chunk", "time"}
CLIPS = {".mp4": ("libx264", "aac"), ".avi": ("mjpeg", "pcm_s16le"), ".mkv": ("mpeg4", "libmp3lame")}


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    formats = {".avi": "yuvj420p"}
    return {
        suffix: write_clip(
            folder / f"a{suffix}",
            face_pictures(55),
            sound=tone(2.2),
            codecs=codecs,
            key_every=12,
            pix_fmt=formats.get(suffix, "yuv420p"),
        )
        for suffix, codecs in CLIPS.items()
    }


def start_child(log: Path, function, *arguments):
    """Call a function of `fuzz_child` in a process of its own, its output in a file."""
    process = fuzz_child.forkserver().Process(target=fuzz_child.logged, args=(log, function, *arguments))
    process.start()
    return process


def results(log: Path) -> list[dict]:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


@pytest.mark.parametrize("suffix", CLIPS)
def test_mutants_of_a_video_through_pre_processing(clips, suffix, tmp_path):
    """Chunks, or a stage and a reason: never another error, a crash, a hang, or more than the file can
    hold.
    """
    left, wrong, n_usable = list(range(10 * FACTOR)), [], 0
    while left:
        log = tmp_path / f"{len(left)}.log"
        process = start_child(log, fuzz_child.pre_process, str(clips[suffix]), left, str(tmp_path))
        n_lines, moved = 0, time.monotonic()
        while process.is_alive() and time.monotonic() - moved < SECONDS_PER_MUTANT:
            process.join(0.2)
            if len(results(log)) > n_lines:
                n_lines, moved = len(results(log)), time.monotonic()
        is_hanging = process.is_alive()
        process.kill()
        process.join()
        found = results(log)
        begun = [result["seed"] for result in found if "begun" in result]
        assert begun, log.read_text()[-2000:]
        left = left[len(begun) :]
        if process.exitcode:
            wrong.append((begun[-1], "hangs" if is_hanging else process.exitcode, log.read_text()[-2000:]))
        for result in [result for result in found if "begun" not in result]:
            n_usable += "n_chunks" in result
            is_odd = "error" in result or (
                "stage" in result and (result["stage"] not in STAGES or "\n" in result["reason"])
            )
            if is_odd or result.get("n_files", 0) > 1 + 31 * (result.get("n_frames", 0) // FPS):
                wrong.append(result)
    assert not wrong, wrong
    assert n_usable >= FACTOR  # so that the mutants are not all refused at once


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    from tests.training.tiny_train import TINY

    config = {"net": "resnet18", "img_dim": 32, "final_dim": 16, "dropout": 0.5, "distance": "authors"}
    path = tmp_path_factory.mktemp("model") / "model.pth.tar"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TINY.items():
            patch.setattr(model, name, value)
        torch.manual_seed(0)
        torch.save(
            {"config": config, "state_dict": model.TwoStreamNet(**config).state_dict(), "threshold": 1.0},
            path,
        )
    return path


def test_mutants_of_a_video_through_localize(clips, checkpoint, tmp_path):
    """A verdict or a reason for each; the run goes on."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    names = []
    for seed in range(max(3, FACTOR)):
        suffix = list(CLIPS)[seed % len(CLIPS)]
        names.append(f"{seed:03d}{suffix}")
        (folder / names[-1]).write_bytes(fuzz_child.mutate(clips[suffix].read_bytes(), 10_000 + seed))
    arguments = [str(folder), "--model", str(checkpoint), "--out", str(out)]
    process = start_child(tmp_path / "log", fuzz_child.localize, arguments)
    process.join(SECONDS_PER_MUTANT * len(names))
    printed = (tmp_path / "log").read_text(errors="replace")
    assert process.exitcode in (0, 1) and "Traceback" not in printed, printed[-3000:]
    rows = read_table(out / "summary.csv")
    assert [row["file"] for row in rows] == names
    assert all(row["verdict"] or (row["stage"] in STAGES and row["reason"]) for row in rows), rows


# killed processes


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def kill_and_go_on(log: Path, function, arguments: list[str], seed: int, longest_s: float) -> None:
    """Kill a process at random moments, twice in a row each time; then let it end."""
    rng = random.Random(seed)
    for _ in range(2 * FACTOR):
        process = start_child(log, function, arguments)
        process.join(rng.uniform(0, longest_s))
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.join()
    process = start_child(log, function, arguments)
    process.join()
    assert process.exitcode == 0, log.read_text()[-2000:]


def test_write_csv_is_killed(chunk_tree, tmp_path):
    out = tmp_path / "tree"
    shutil.copytree(chunk_tree, out)
    before = contents(out)
    names = ("train_split.csv", "test_split.csv", "rejects.csv")
    assert all(name in before for name in names)
    for name in names:
        (out / name).unlink()
    kill_and_go_on(tmp_path / "log", fuzz_child.write_csv, ["--out_dir", str(out)], 0, 1.5)
    assert contents(out) == before


def results_of(folder: Path) -> dict[str, object]:
    """What localize.py has written, but for when it did and how long it took."""
    found: dict[str, object] = dict(contents(folder))
    for path in [path for path in found if path.endswith("verdict.json")]:
        verdict = json.loads(found[path]) | {"seconds_spent": None}
        verdict["file_facts"] |= {"date_utc": None, "command": None}
        found[path] = verdict
    return found


def test_localize_is_killed(clips, checkpoint, tmp_path):
    folder, log = tmp_path / "in" / "sub", tmp_path / "log"
    folder.mkdir(parents=True)
    for i in range(3):
        shutil.copy(clips[".mp4"], folder / f"{i}.mp4")
    straight, killed = (
        [str(folder.parent), "--model", str(checkpoint), "--out", str(tmp_path / name)]
        for name in ("straight", "killed")
    )
    begun = time.monotonic()
    process = start_child(log, fuzz_child.localize, straight)
    process.join()
    assert process.exitcode == 0
    kill_and_go_on(log, fuzz_child.localize, killed, 1, min(4, time.monotonic() - begun))
    assert results_of(tmp_path / "straight") == results_of(tmp_path / "killed")  # and nothing hidden is left


# pages


class Tags(html.parser.HTMLParser):
    """The elements of a page with the names of their attributes, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add((tag, *sorted(name for name, _ in attrs)))

    def handle_data(self, data):
        self.text.append(data)


def hostile_names(n: int) -> list[str]:
    """Names made of what HTML, JavaScript, CSS, templates and terminals take for theirs."""
    rng = random.Random(0)
    parts = [
        "<script>alert(1)</script>",
        "</script>",
        "<img src=x onerror=y>",
        "\"'>",
        "{{7*7}}",
        "{% raw %}",
        "&lt;",
        "]]>",
        "<!--",
        "--></style>",
        "javascript:x",
        "\x1b[2J",
        "\n",
        "\u202e",
        "\udcff",
        "=1+1",
        "\\",
        "%s%n",
        "名",
        "a" * 100,
        "<svg/onload=z>",
    ]
    return ["".join(rng.choices(parts, k=rng.randint(1, 4))) + f" {i}" for i in range(n)]


def test_a_report_of_thousands_of_videos_with_hostile_names(tmp_path, scripts, capsys):
    pages = []
    for k, names in enumerate((hostile_names(N_ROWS), [f"v{i}" for i in range(N_ROWS)])):
        folder = tmp_path / str(k)
        folder.mkdir()
        rng = np.random.default_rng(0)
        labels = np.arange(N_ROWS) % 2
        groups = {
            column: [names[i % 40] if label == 0 else "" for i, label in enumerate(labels)]
            for column in ("method", "source")
        }
        scores = pd.DataFrame(
            {"video": names, "label": labels, "mds": rng.uniform(0, 1, N_ROWS) + (labels == 0), **groups}
        )
        from utils.tables import write_frame

        write_frame(folder / "scores.csv", scores)
        (folder / "scores.json").write_text(
            json.dumps({"threshold": 0.5, "threshold_origin": names[0], "checkpoint": names[1]})
        )
        start_s = time.monotonic()
        scripts["test"].main(["--scores_dir", str(folder)])
        assert time.monotonic() - start_s < 60
        pages.append((folder / "report.html").read_text())
    found, plain = map(Tags, pages)
    assert found.tags == plain.tags
    assert not set("\x1b\u202e\udcff") & set(pages[0]) and not set("\x1b\u202e") & set(
        capsys.readouterr().out
    )
    assert "<script>alert(1)</script>" in "".join(found.text)


OF_A_JUDGE = {  # what a verdict has beside what was found
    "model": {"chunk_s": 1.0, "net": "resnet18", "img_dim": 64, "threshold_origin": "given", "record": None},
    "identity": {
        "stride_s": 0.2,
        "smooth_s": 0.4,
        "model_sha256": "0" * 64,
        "pre_processing": {"detector": "yunet"},
    },
    "made_by": {"device": "CPU"},
}


def test_a_verdict_of_thousands_of_spans_with_a_hostile_name(tmp_path):
    from verdicts.page import Pictures, write_verdict_page
    from verdicts.story import tell_story
    from verdicts.timeline import plot_timeline
    from verdicts.verdict import TrackScores, give_verdict
    from verdicts.words import in_words

    n = N_ROWS
    start_s = np.arange(n) * 1.0
    scores = np.column_stack([np.arange(n) % 2 * 2.0, np.full((n, 2), 0.5)])
    track = TrackScores(0, 0, np.zeros((n * FPS, 4)), start_s, scores, np.ones(n, bool))
    verdict = give_verdict([track], n * FPS, 1.0)
    assert len(verdict["spans"]) == n // 2
    (tmp_path / "annotated.mp4").write_bytes(b"no video")
    pages = []
    for name in (hostile_names(30)[7] * 3, "plain"):
        whole = verdict | OF_A_JUDGE | {"words": [name, *in_words(verdict)], "grounds": [name], "file": name}
        whole["file_facts"] = tell_story(tmp_path / "annotated.mp4", 8, name)
        write_verdict_page(tmp_path, whole, [track], None, Pictures([], 0, {}), name)
        pages.append(Tags((tmp_path / "report.html").read_text(errors="surrogateescape")))
        begun = time.monotonic()
        plot_timeline(name, [track], whole, None, tmp_path / "a.png")
        assert time.monotonic() - begun < 60
    assert pages[0].tags == pages[1].tags


# flags

SCRIPTS = ("collect", "pre-process", "write_csv", "train", "test", "localize", "perturb")
NUMBERS = ("", "x", "nan", "inf", "-inf", "1e999", "-1", "0x10", "1_0", "9" * 5000, "1e400", " ")
N_ROWS = min(10_000, 2_500 * FACTOR)  # of pages
PATHS = (
    "none/at/all",
    "file/x",
    "file",
    "folder",
    "pipe",
    "loop",
    "bytes",
    "x" * 5000,
    "a\nb",
    "/dev/null",
    "\udcff",
    "",
    " ",
    "-x",
)


def parser_of(script) -> argparse.ArgumentParser:
    """The parser that a script builds."""
    found = []

    def catch(parser, *_, **__):
        found.append(parser)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(argparse.ArgumentParser, "parse_args", catch)
        script.parse_args([])
    return found[0]


def typed(parser: argparse.ArgumentParser, numeric: bool) -> list[argparse.Action]:
    """The flags that take numbers, or those that take paths."""
    kinds = ("parse", "float", "int")
    actions = [action for action in parser._actions if action.type is not None]
    return [action for action in actions if (action.type.__name__ in kinds) == numeric]


def minimal(parser: argparse.ArgumentParser) -> list[str]:
    """What a script can't do without."""
    needed = []
    for action in parser._actions:
        if action.required:
            needed += [*action.option_strings[:1], next(iter(action.choices or ()), "given")]
    return needed


@pytest.fixture
def odd_files(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    Path("bytes").write_bytes(bytes(range(256)))
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe")
    return tmp_path


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_numeric_flag_refuses_what_is_no_number(name, odd_files, capsys):
    parser = parser_of(script := load_script(name))
    n_tried = 0
    for action in typed(parser, numeric=True):
        flag = action.option_strings[0]
        for value in NUMBERS:
            n_tried += 1
            if value == "1_0" or (name == "train" and flag == "--threshold"):
                # what Python takes for a number; what the authors' command lines give without effect
                continue
            with pytest.raises(SystemExit) as caught:
                script.parse_args([*minimal(parser), f"{flag}={value}"])
                pytest.fail(f"{flag} {value[:20]} was taken")
            printed = capsys.readouterr().err
            assert (
                caught.value.code == 2 and flag in printed.splitlines()[-1] and "Traceback" not in printed
            ), (flag, value[:20])
    assert n_tried or name in ("write_csv",)


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("value", PATHS, ids=lambda value: ascii(value[:12]))
def test_every_path_flag_with_something_else_there(name, value, odd_files, capsys):
    """One line and status 2, or work done: never a traceback, never a wait."""
    script = load_script(name)
    parser = parser_of(script)
    base = {
        "collect": ["--dataset", "folder", "--root", "folder", "--split", "1:1"],
        "pre-process": ["--out_dir", "folder", "--detector", "yunet", "--workers", "0"],
        "write_csv": ["--out_dir", "folder"],
        "train": ["--out_dir", "folder", "--epochs", "1", "--num_workers", "0"],
        "test": [],
        "perturb": ["--out_dir", "folder", "--kind", "blur", "--workers", "0"],
        "localize": ["file", "--model", "file", "--out", "folder/out", "--detector", "yunet"],
    }[name]
    for action in typed(parser, numeric=False):
        n = action.nargs if isinstance(action.nargs, int) else 1
        flags = [action.option_strings[0], *[value] * n] if action.option_strings else [value]
        others = ("--train_list", "--test_list"), ("--labels", "--proposals")
        twins = {a: [b, "file"] for pair in others for a, b in (pair, pair[::-1])}  # flags that go together
        also = twins.get(flags[0], []) if name in ("collect", "test") else []
        own = [word for i, word in enumerate(base) if not ("--split" in (word, base[i - 1]) and also)]
        before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waits"))
        signal.alarm(60)
        try:
            # the only argument without a flag comes first
            script.main([*own, *also, *flags] if action.option_strings else [*flags, *own[1:]])
            assert value.strip(), f"{flags[0]} took an empty path"
        except (UserError, SystemExit) as error:
            assert not isinstance(error, SystemExit) or error.code == 2, (flags, error)
            assert "\n" not in str(error)
        except UnicodeEncodeError:  # of pytest's own stderr, which is strict; the real one is not
            assert "\udcff" in value
        except OSError as error:
            assert error.strerror, (flags, error)  # `run` says it in one line
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        assert "Traceback" not in capsys.readouterr().err
