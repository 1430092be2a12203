"""The README says what the code does: its commands parse, its table of deviations is the code's, the lists
are whole.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import model
from benchmarks import learning, loader, step
from demo.make_videos import main as make_videos
from demo.make_videos import speak
from tests.clips import face_pictures, tone, write_clip
from tests.conftest import ROOT, load_script
from tests.training.tiny_train import TINY

README = (ROOT / "README.md").read_text()
SCRIPTS = ("collect", "pre-process", "write_csv", "train", "test", "localize")
COMMANDS = [
    line.split(" #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]


def test_the_readme_has_the_usual_commands():
    for command in (
        "bash demo/run.sh",
        "bash tests/run.sh",
        "python pre-process.py --out_dir train",
        "python test.py",
        "python write_csv.py --out_dir .",
        "python train.py --epochs 50 --out_dir .",
    ):
        assert command in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readme(command, tmp_path):
    words = shlex.split(command)
    if words[0] == "torchrun":
        words = ["python", *words[next(i for i, word in enumerate(words) if word.endswith(".py")) :]]
    if words[0] == "python" and words[1].removesuffix(".py") in SCRIPTS:
        load_script(words[1].removesuffix(".py")).parse_args(words[2:])
    elif words[0] == "bash":
        assert subprocess.run(["bash", "-n", ROOT / words[1]], check=False).returncode == 0
    else:
        assert words[0] in ("pip", "conda", "python3", ".")


def test_deviations_of_the_readme_are_the_codes():
    in_code = [
        (path.relative_to(ROOT).as_posix(), " ".join(re.split(r"\s*#\s", match)))
        for path in sorted(ROOT.rglob("*.py"))
        if not {".venv", "tests"} & set(path.relative_to(ROOT).parts)
        for match in re.findall(r"# DEVIATION: (.*(?:\n +# .*)*)", path.read_text())
    ]
    section = README.split("## Deviations")[1].split("\n## ")[0]
    table = re.findall(r"^\| `([\w/.-]+)` \|.*\| (.*) \|$", section, re.M)
    assert sorted(table) == sorted(in_code)


def test_the_authors_lists_are_unchanged():
    digests = {
        name: hashlib.sha256((ROOT / f"{name}_list.txt").read_bytes()).hexdigest()
        for name in ("train", "test")
    }
    assert digests == {
        "train": "2ee66135ca2c53bb50f4cee11b7b3a55e1b1f416c1ac7912905644d78fa278f2",
        "test": "ab4da309e14d5c6af59c54948770f6954c8f1035edbb064912bf315304eb3668",
    }


def run(*arguments, cwd) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_errors_are_one_line_and_status_2(tmp_path):
    started = {}
    for script in SCRIPTS:  # side by side: most of the time they import
        arguments = {
            "test": [],
            "localize": ["none.mp4", "--model", "none.pth"],
            "collect": ["--dataset", "dfdc", "--root", "none"],
        }.get(script, ["--out_dir", "."])
        command = [sys.executable, str(ROOT / f"{script}.py"), *arguments]
        started[script] = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    for script, process in started.items():
        _, printed = process.communicate()
        assert process.returncode == 2, printed
        assert printed.startswith(f"{script}.py: ") and printed.count("\n") == 1


@pytest.mark.slow
def test_the_whole_chain_from_videos_to_an_auc(tmp_path):
    """demo/run.sh, small, in this environment: every script as a process, in the order of the README."""
    paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "VIRTUAL_ENV": sys.prefix}
    environment = os.environ | paths | {"DEMO_DATA": str(tmp_path / "data")}
    command = ["bash", ROOT / "demo" / "run.sh", "--quick", "--shuffled"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 done now (8 chunks), 0 failed" in done.stdout
    data = tmp_path / "data"
    scores = pd.read_csv(data / "scores.csv")
    auc = roc_auc_score(scores.label == 0, scores.mds)
    assert f"AUC (video-wise)                  {auc:.4f}" in done.stdout
    assert json.loads((data / "metrics.json").read_text())["auc"] == pytest.approx(auc)
    assert "AP at IoU 0.5 " in done.stdout and set(
        json.loads((data / "verdicts" / "metrics.json").read_text())
    ) >= {"ap", "ar"}
    assert (data / "verdicts" / "fake" / "003_span.mp4" / "report.html").is_file()
    for name in ("crops.png", "roc.png"):
        assert (data / name).read_bytes().startswith(b"\x89PNG")

    records = pd.read_json(data / "metadata.json")
    assert list(records.file[:3]) == [
        "train/real/000_real.mp4",
        "train/fake/001_video.mp4",
        "train/real/002_real.mp4",
    ]
    assert records.original[1] == "train/real/000_real.mp4" and records.n_fakes.sum() == 4
    ((begin, end),) = records.fake_periods[3]
    assert records.file[3].endswith("span.mp4") and 0 <= begin < end <= 2.2 and end - begin < 2


def test_step_benchmark(capsys):
    step.main(["--img_dim", "32", "--batch_size", "2", "--repeat", "1", "--device", "cpu"])
    cells = capsys.readouterr().out.splitlines()[-1].split(" | ")
    assert cells[0] == "| 32×32" and all(float(cell.removesuffix(" s")) > 0 for cell in cells[2:7])


def test_loader_benchmark(chunk_tree, capsys):
    loader.main(["--out_dir", str(chunk_tree), "--img_dim", "112", "--repeat", "1", "--num_workers", "1"])
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("| 112×112")]
    ours, _, spread, per_core, plain, decoding = map(float, line.strip("| ").split(" | ")[1:])
    assert min(ours, spread, per_core, plain, decoding) > 0 and "MFCC alone" in out


def test_learning_benchmark(tmp_path, capsys, monkeypatch):
    for name, value in TINY.items():
        monkeypatch.setattr(model, name, value)
    flags = [
        "--out",
        str(tmp_path),
        "--n_train",
        "2",
        "4",
        "--n_test",
        "2",
        "--seconds",
        "1",
        "--epochs",
        "2",
        "--img_dim",
        "32",
    ]
    learning.main(
        [
            *flags,
            "--batch_size",
            "2",
            "--num_workers",
            "0",
            "--amp",
            "off",
            "--recipes",
            "authors",
            "standardised",
        ]
    )
    results = tmp_path / "learning_32px_1s_bs2_off.csv"
    records = pd.read_csv(results)
    assert list(records.chunks) == [4, 4, 4, 4, 8, 8, 8, 8] and list(records.epoch) == [1, 2] * 4
    assert records.test_auc.between(0, 1).all()
    assert results.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    frames = [
        (tmp_path / "train_32px_1s" / label / "00001" / "00000" / "000010.jpg").read_bytes()
        for label in ("real", "fake")
    ]
    sounds = [
        (tmp_path / "train_32px_1s" / label / "00001" / "00000.wav").read_bytes()
        for label in ("real", "fake")
    ]
    assert frames[0] == frames[1] and sounds[0] != sounds[1]


def test_preprocessing_benchmark(tmp_path):
    video = write_clip(tmp_path / "a.mp4", face_pictures(60, 224), sound=tone(2.4))
    weights = ["--detector", "libfacedetection", "--repeat", "1"]
    done = run(
        ROOT / "benchmarks" / "preprocess.py", video, *weights, "--minutes", "0.1", "--workers", "1", cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    total, by_step = (
        line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| 1 |")
    )
    assert (
        5 < float(total[1].removesuffix(" s")) * float(total[2]) < 10
    )  # seconds of video: 0.1 minutes, rounded up to whole ones
    assert len(by_step) == 11 and all(float(ms) >= 0 for ms in by_step)
    done = run(ROOT / "benchmarks" / "preprocess.py", video, *weights, "--trials", cwd=ROOT)
    assert done.returncode == 0 and "| decode | libavcodec, one thread |" in done.stdout, done.stderr


def test_demo_videos_are_reproducible_and_in_step(tmp_path):
    arguments = ["--n_train", "2", "--n_test", "0", "--seconds", "0.6", "--size", "128"]
    for name in ("a", "b"):
        make_videos(["--out_dir", str(tmp_path / name), *arguments])
    videos = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.mp4"))
    assert len(videos) == 2
    assert all((tmp_path / "a" / v).read_bytes() == (tmp_path / "b" / v).read_bytes() for v in videos)

    speech = speak(np.random.default_rng(0), seconds=8, pitch_hz=120)
    blocks = speech.samples[: 200 * 1764].reshape(200, 1764)  # 44,100 / 25
    loudness = np.sqrt((blocks**2).mean(1))
    at_lag = [np.corrcoef(np.roll(speech.opening, lag), loudness)[0, 1] for lag in range(-5, 6)]
    assert int(np.argmax(at_lag)) == 5 and at_lag[5] > 0.6  # the mouth is open when it is loud, at lag 0
