"""Every figure that takes a GPU, most valuable first, in at most 8 minutes; what fails or runs out of time is
a row that says so.

    bash benchmarks/gpu.sh --out gpu        (installs what was fetched, then runs this)
    python benchmarks/gpu.py --quick        (all of it in miniature, on a CPU)

Runs `pytest -m gpu` and the benchmarks one after the other, each with its own time limit.  Writes to --out
after each step: gpu.json (what ran, for how long, how it ended, the tables), gpu.md (the same to read),
gpu.log (all that was printed) and the pictures that the benchmarks draw.  Exit status: 0, 1 if a step failed
or ran out of time.
"""

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from utils.cli import n_cores, run, to_path
from utils.files import replacing

ROOT = Path(__file__).resolve().parent.parent
TERMINATION_S = 5
PICTURES_MAX = 5


@dataclass(frozen=True)
class Step:
    """One command. `{data}` in it is a folder for what is made on the way, `{python}` this Python, `{cores}`
    their number.
    """

    name: str
    title: str
    command: str
    quick: str  # the same in miniature, on a CPU
    limit_s: int
    beside: str = ""  # the step that comes next and that this one runs beside


MAKE = "{python} benchmarks/learning.py --out {data}/learning --make_only"
LEARN = "{python} benchmarks/learning.py --out {data}/learning"
ASKED = "'sync, real videos alone' authors"
TEST = "{python} -m pytest -m gpu -q -s -p no:cacheprovider tests/training/test_gpu.py"
STEPS = (
    Step("right", "Is it right there?", TEST, f"{TEST} -k s3fd_equals", 95),
    Step(
        "make",
        "Videos for what follows",
        f"nice -n 19 {MAKE} --n_train 200 --n_test 50 --seconds 4 --crop_px 224",
        f"{MAKE} --n_train 2 --n_test 2 --seconds 2 --crop_px 32",
        115,
        beside="step",
    ),
    Step(
        "step",
        "The training step and the scoring, beside the authors' way",
        "{python} benchmarks/step.py --trials --img_dim 224 112 --batch_size 8 32 128 --repeat 3 --budget_s "
        "105",
        "{python} benchmarks/step.py --trials 'as train.py' --img_dim 32 --batch_size 2 --repeat 1 --device "
        "cpu",
        125,
    ),
    Step(
        "loader",
        "The loader beside the step",
        "{python} benchmarks/loader.py --out_dir {data}/learning --img_dim 224 --train fp16 off --batch_size "
        "32 --n_chunks 4000",
        "{python} benchmarks/loader.py --out_dir {data}/learning --img_dim 32 --train off --batch_size 2 "
        "--n_chunks 8 "
        "--num_workers 1",
        40,
    ),
    Step(
        "s3fd",
        "S3FD",
        "{python} benchmarks/detection.py --detectors s3fd --repeat 3",
        "{python} benchmarks/detection.py --detectors s3fd --sizes 64x48 --batch_size 1 --repeat 1 --device "
        "cpu",
        20,
    ),
    Step(
        "pre-process s3fd",
        "pre-process.py on 1080p videos, s3fd",
        "{python} benchmarks/preprocess.py --generate {cores} --seconds 5 --detector s3fd --half --workers "
        "{cores} 4 1 "
        "--repeat 1",
        "",
        50,
    ),
    Step(
        "pre-process yunet",
        "pre-process.py on 1080p videos, yunet on the CPU",
        "{python} benchmarks/preprocess.py --generate {cores} --seconds 5 --detector yunet --workers {cores} "
        "4 1 --repeat 1",
        "{python} benchmarks/preprocess.py --generate 1 --seconds 2 --detector libfacedetection --workers 1 "
        "--repeat 1",
        35,
    ),
    *(
        Step(
            f"learning {img_dim}",
            f"Does it learn whether lips and sound agree? {img_dim} pixels",
            f"{LEARN} --crop_px 224 --n_train 200 --n_test 50 --seconds 4 --img_dim {img_dim} --amp fp16 "
            f"--steps 100000 --score_every 25 --budget_s 14 --recipes {ASKED}",
            (
                f"{LEARN} --crop_px 32 --n_train 2 --n_test 2 --seconds 2 --img_dim 32 --batch_size 2 --amp "
                "off "
                f"--steps 2 --num_workers 0 --device cpu --recipes {ASKED}"
            )
            * (img_dim == 112),  # once in miniature is enough
            limit_s,
        )
        for img_dim, limit_s in ((112, 50), (224, 55))
    ),
)
BUDGET_S = 480
QUICK_LIMIT_S = 300  # of a step in miniature, which may run on any machine


@dataclass
class Result:
    """What became of a step: status is done, failed or out of time; tables are lists of rows, cells by
    column.
    """

    name: str
    title: str
    command: str
    limit_s: float
    status: str = "not begun: no time left"
    seconds: float = 0.0
    tables: list[list[dict[str, str]]] = field(default_factory=list)
    text: str = ""  # what it printed to be read, as Markdown


def tables_of(text: str) -> list[list[dict[str, str]]]:
    """The Markdown tables in a text: for each a list of rows, cells by column."""
    tables: list[list[dict[str, str]]] = []
    header: list[str] | None = None
    previous: list[str] | None = None
    for line in text.splitlines():
        cells = (
            [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else None
        )
        if cells is None:
            header = None
        elif header is None and previous and all(set(cell) == {"-"} for cell in cells):
            header = previous
            tables.append([])
        elif header is not None:
            tables[-1].append(dict(zip(header, cells, strict=False)))
        previous = cells
    return tables


def readable(printed: str) -> str:
    """What a command printed, without progress bars and warnings."""
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in printed.split("\n")]
    was_progress = ["\r" in line and not line.rsplit("\r", 1)[-1].strip() for line in printed.split("\n")]
    lines = [line for line, is_gone in zip(lines, was_progress, strict=True) if not is_gone]
    noise = re.compile(r"Warning|warnings\.warn|\d+%\||/s\]|USDT")
    return "\n".join(line for line in lines if not noise.search(line)).strip()


class Running:
    """A step under way: its output is read by a thread, so that nothing is lost when it has to be ended."""

    def __init__(self, step: Step, command: str, limit_s: float, log: Path):
        self.result = Result(step.name, step.title, command, limit_s)
        self.begin = time.monotonic()
        environment = os.environ | {
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        }
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(
            shlex.split(command), cwd=ROOT, env=environment, start_new_session=True, **output
        )
        self.printed: list[bytes] = []
        self.log = log
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        with self.log.open("ab") as log:
            log.write(f"\n$ {self.result.command}\n".encode())
            for line in self.process.stdout:
                self.printed.append(line)
                log.write(line)
                log.flush()

    def end(self) -> Result:
        """Wait for it, no longer than its limit, and say what became of it."""
        status = None
        try:
            left = self.result.limit_s - (time.monotonic() - self.begin)
            code = self.process.wait(max(0.0, left))
            status = "done" if code == 0 else f"failed, exit status {code}"
        except subprocess.TimeoutExpired:
            status = f"out of time after {self.result.limit_s:.0f} s"
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):  # its own processes too
                try:
                    os.killpg(self.process.pid, number)
                    self.process.wait(TERMINATION_S)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue
        self.reader.join(TERMINATION_S)
        self.result.status, self.result.seconds = status, time.monotonic() - self.begin
        printed = b"".join(self.printed).decode(errors="replace")
        self.result.text = readable(printed)
        self.result.tables = tables_of(self.result.text)
        return self.result


def describe_device() -> str:
    try:
        query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        card = (
            subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().splitlines()[0]
        )
    except (OSError, subprocess.CalledProcessError, IndexError):
        card = "no GPU"
    return f"{card}; {n_cores()} cores; Python {platform.python_version()}"


def write(out: Path, device: str, results: list[Result]) -> None:
    """gpu.json and gpu.md, whole or not at all."""
    lines = ["# Measured on a GPU", "", device, "", "| step | ended | seconds | limit |", "|---|---|---|---|"]
    lines += [f"| {r.title} | {r.status} | {r.seconds:.0f} | {r.limit_s:.0f} |" for r in results]
    for result in results:
        lines += [
            "",
            f"## {result.title}",
            "",
            f"`{result.command}`: {result.status}, {result.seconds:.0f} s",
            "",
            result.text,
        ]
    contents = {
        "gpu.json": json.dumps({"device": device, "steps": [asdict(result) for result in results]}, indent=1),
        "gpu.md": "\n".join(lines) + "\n",
    }
    for name, content in contents.items():
        with replacing(out / name) as path:
            path.write_text(content)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=to_path, default=Path("gpu"), help="folder for results (default: gpu)")
    parser.add_argument(
        "--quick", action="store_true", help="in miniature, on a CPU: it shows that everything runs"
    )
    names = [step.name for step in STEPS]
    parser.add_argument(
        "--steps",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"some of: {', '.join(names)}",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    begin = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / "gpu.log"
    log.write_bytes(b"")
    device = describe_device()
    print(device)
    if args.quick:
        os.environ["MDS_GPU_TESTS"] = "cpu"
    results: list[Result] = []
    beside: Running | None = None
    n_said = 0
    chosen = [step for step in STEPS if step.name in args.steps and (step.quick or not args.quick)]
    with tempfile.TemporaryDirectory() as data:
        for i, step in enumerate(chosen):
            command = step.quick if args.quick else step.command
            command = command.format(data=data, python=sys.executable, cores=n_cores())
            limit_s = QUICK_LIMIT_S if args.quick else step.limit_s
            left = (
                (len(STEPS) * limit_s if args.quick else BUDGET_S)
                - (time.monotonic() - begin)
                - TERMINATION_S
            )
            if left < 1:
                results.append(Result(step.name, step.title, command, limit_s))
            else:
                running = Running(step, command, min(limit_s, left), log)
                if step.beside and [other.name for other in chosen[i + 1 : i + 2]] == [step.beside]:
                    beside = running
                    continue
                results.append(running.end())
                if beside:
                    results.insert(-1, beside.end())
                    beside = None
            for result in results[n_said:]:
                print(f"{result.title}: {result.status}, {result.seconds:.0f} s", flush=True)
            n_said = len(results)
            pictures = sorted(Path(data).rglob("learning_*.png"))[:PICTURES_MAX]
            for picture in pictures:
                shutil.copyfile(picture, args.out / picture.name)
            write(args.out, device, results)
        if beside:  # there was no time for the step beside it
            results.append(beside.end())
            write(args.out, device, results)
    print(f"{time.monotonic() - begin:.0f} s in all; written: {args.out / 'gpu.md'}, gpu.json, gpu.log")
    return 0 if all(result.status == "done" for result in results) else 1


if __name__ == "__main__":
    run(main)
