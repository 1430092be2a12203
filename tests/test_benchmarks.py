"""benchmarks/gpu.sh and real_clips.py in miniature, and what becomes of steps that fail or take too long."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch

import train
from benchmarks import gpu, learning, real_clips, step
from tests.clips import face_pictures, tone, write_clip
from tests.conftest import ROOT
from tests.test_project import TOY
from utils.checkpoint import load_checkpoint
from utils.chunkfiles import read_wav
from utils.cli import UserError

TABLE = "| what | step |\n|---|---|\n| as train.py | 0.1 s |\n| --compile | no time left |\n"


@pytest.mark.slow
def test_every_figure_in_miniature(tmp_path):
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--quick", "--out", str(tmp_path)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    results = json.loads((tmp_path / "gpu.json").read_text())["steps"]
    assert done.returncode == 0, [
        (r["name"], r["status"], r["text"][-2000:]) for r in results if r["status"] != "done"
    ]
    by_name = {result["name"]: result for result in results}
    assert by_name.keys() == {step.name for step in gpu.STEPS if step.quick}
    assert "1 passed" in by_name["right"]["text"]
    (first,) = by_name["step"]["tables"][0]
    assert first["what"] == "as train.py" and float(first["chunks/s"]) == pytest.approx(
        2 / float(first["step"][:-2]), abs=0.06
    )
    assert (
        min(float(first["TFLOP/s"]), float(first["scored chunks/s"]), float(first["peak memory"].split()[0]))
        > 0
    )
    for name, column in (("loader", "trained chunks/s"), ("s3fd", "frames/s"), ("learning 112", "steps")):
        assert float(by_name[name]["tables"][0][0][column]) > 0
    assert float(by_name["pre-process yunet"]["tables"][0][0]["s of video per s"]) > 0
    page = (tmp_path / "gpu.md").read_text()
    assert all(f"## {result['title']}" in page for result in results) and "%|" not in page
    files = [path.name for path in tmp_path.iterdir()]
    assert (
        len(files) <= 8
        and {"gpu.json", "gpu.md", "gpu.log"} < set(files)
        and any(name.endswith(".png") for name in files)
    )


def test_trials_begin_only_while_there_is_time(monkeypatch, capsys):
    monkeypatch.setattr(step, "peak_rate", lambda *_: 1.0)
    monkeypatch.setattr(step, "tera_operations", lambda *_: 1.0)
    step.run_trials(list(step.TRIALS), [224, 112], [8, 32, 128], torch.device("cpu"), 1, stop=0.0)
    (rows,) = gpu.tables_of(capsys.readouterr().out)
    assert {row["step"] for row in rows} == {"no time left"}
    cases = [(row["frames"], row["batch"]) for row in rows if row["what"] == "as train.py"]
    assert cases == [("224×224", "8"), ("224×224", "32"), ("224×224", "128"), ("112×112", "32")]
    assert [row["batch"] for row in rows if row["what"] == "the authors' way"] == ["8", "8"]


def test_the_limits_add_up():
    assert (
        sum(step.limit_s for step in gpu.STEPS if not step.beside) <= gpu.BUDGET_S - gpu.TERMINATION_S == 475
    )
    assert all(step.limit_s <= 600 for step in gpu.STEPS)


def test_steps_that_fail_or_take_too_long_are_rows(tmp_path, monkeypatch):
    def made(name: str, code: str, limit_s: int = 20, **more: str) -> gpu.Step:
        script = tmp_path / f"{name}.py"
        script.write_text(code)
        return gpu.Step(
            name, name, f"{sys.executable} {script}", f"{sys.executable} {script}", limit_s, **more
        )

    steps = (
        made("beside", "print('made')", beside="fails"),
        made("fails", f"print({TABLE!r})\nraise SystemExit(3)"),
        made("hangs", "import subprocess\nprint('begun', flush=True)\nsubprocess.run(['sleep', '1000'])", 1),
        made("works", f"print({TABLE!r})"),
    )
    monkeypatch.setattr(gpu, "STEPS", steps)
    monkeypatch.setattr(gpu, "TERMINATION_S", 1)
    assert gpu.main(["--out", str(tmp_path / "out"), "--steps", *[s.name for s in steps]]) == 1
    results = {r["name"]: r for r in json.loads((tmp_path / "out" / "gpu.json").read_text())["steps"]}
    assert [r["status"] for r in results.values()] == [
        "done",
        "failed, exit status 3",
        "out of time after 1 s",
        "done",
    ]
    assert results["fails"]["tables"] == results["works"]["tables"]
    assert results["works"]["tables"] == [
        [{"what": "as train.py", "step": "0.1 s"}, {"what": "--compile", "step": "no time left"}]
    ]
    assert results["hangs"]["text"] == "begun" and results["hangs"]["seconds"] < 10
    assert "out of time after 1 s" in (tmp_path / "out" / "gpu.md").read_text()
    monkeypatch.setattr(
        gpu, "BUDGET_S", gpu.TERMINATION_S + 1.5
    )  # enough to begin the first, not the one beside it
    (tmp_path / "beside.py").write_text("import time\nprint('made')\ntime.sleep(3)")
    monkeypatch.setattr(gpu.time, "monotonic", iter([0.0, *[0.1] * 2, *[100.0] * 50]).__next__)
    assert gpu.main(["--out", str(tmp_path / "late"), "--steps", "beside", "fails"]) == 1
    monkeypatch.undo()
    late = {r["name"]: r["status"] for r in json.loads((tmp_path / "late" / "gpu.json").read_text())["steps"]}
    assert late.keys() == {"beside", "fails"} and late["fails"].startswith("not begun")
    monkeypatch.setattr(gpu, "STEPS", steps)
    monkeypatch.setattr(gpu, "BUDGET_S", 0)
    assert gpu.main(["--out", str(tmp_path / "none"), "--steps", "works"]) == 1
    assert "not begun: no time left" in (tmp_path / "none" / "gpu.md").read_text()


@pytest.fixture
def clips(tmp_path):
    """A folder of clips of 2 s: 6 real ones, each with a fake; pairs a and b are of one person."""
    rows, folder = [], tmp_path / "clips"
    write_clip(folder / "real" / "a.mp4", face_pictures(52), sound=tone(2.1, channels=2))
    write_clip(
        folder / "fake" / "a.mp4", face_pictures(52), sound=0.3 * tone(2.1, rate_hz=48_000), rate_hz=48_000
    )
    for i, pair in enumerate("abcdef"):
        for label, manipulated in (("real", "none"), ("fake", ("audio", "video")[i % 2])):
            file = f"{label}/{pair}.mp4"
            if pair != "a":
                shutil.copy(folder / label / "a.mp4", folder / file)
            rows.append((file, label, manipulated, pair, "p" if pair in "ab" else "", "s"))
    columns = ["file", "label", "manipulated", "pair", "identity", "source"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "index.csv", index=False)
    return folder


def test_real_clips_in_miniature(tmp_path, clips, scripts, tiny, fixed_detector, monkeypatch, capsys):
    monkeypatch.setattr(scripts["pre-process"], "build_detector", lambda *_: fixed_detector)

    run = subprocess.run

    def run_here(command, **more):
        if command[0] != sys.executable:
            return run(command, **more)
        status = scripts["pre-process"].main([*command[2:], "--workers", "0"])
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(subprocess, "run", run_here)
    out = tmp_path / "out"
    words = (
        f"--clips {clips} --out {out} --batch_size 2 --n_generated 2 --generated_steps 1 --steps 1 --setups"
    )
    setups = ["generated", "generated-real"]
    real_clips.main([*words.split(), *setups, "--seeds", "2"])
    table = capsys.readouterr().out.partition("| |")[2]
    results = json.loads((out / "results.json").read_text())["results"]
    assert {record["setup"] for record in results} == set(setups)
    assert all(len(record["auc_by_seed"]) == 2 for record in results)
    counts = {record["comparison"]: (record["fake"], record["real"]) for record in results}
    both = pd.read_csv(out / "chunks.csv", dtype={"chunk": str}, keep_default_na=False)
    held = both[both.path.str.startswith("test/")]
    n_held = held.video.nunique() // 2
    assert counts["fakes"] == counts["another second's sound, by video"] == (n_held, n_held)
    assert all(f"| {name} |" in table for name in counts)

    # pairs and people stay together, half of the groups of a source on either side
    assert len(both) == 24 and not set(held.identity) & set(both[both.path.str.startswith("train/")].identity)
    split = dict(zip(both.video, both.path.str.split("/").str[0], strict=True))
    assert split["real/a"] == split["real/b"] and len(set(split.values())) == 2
    assert all(
        split[fake] == split[original] for fake, original in both[["video", "original"]].values if original
    )

    # nothing of a file but its sound and its pictures tells a fake
    with av.open(str(out / split["real/b"] / "real" / "b.mkv")) as encoded:
        assert encoded.streams.audio[0].rate == 16_000 and encoded.streams.audio[0].channels == 1
        assert sum(1 for _ in encoded.decode(video=0)) == 52
    for path in sorted((out / "generated").rglob("*.wav"))[:3]:
        power = np.abs(np.fft.rfft(read_wav(path).astype(float))) ** 2  # a bin for each Hz
        assert power[8500:].sum() < 1e-4 * power.sum()

    # the pictures and sounds that are scored
    scored = real_clips.with_sounds(held)
    name = scored.video.str.partition(" ")[2]
    foreign = scored[scored.video.str.startswith(real_clips.CLIP)]
    control = scored[scored.video.str.contains(real_clips.CONTROL)]
    sound_of, picture_of = (scored[x].str.split("/").str[2:4].str.join("/") for x in ("sound", "path"))
    assert len(foreign) and (picture_of[foreign.index] == "real/" + name[foreign.index]).all()
    assert (sound_of[foreign.index] != picture_of[foreign.index]).all() and (foreign.label == 0).all()
    assert (sound_of[control.index].str.partition("/")[2] == name[control.index]).all()
    assert set(control.label) == {0, 1} and (picture_of[control.index] != sound_of[control.index]).all()

    # another call trains nothing; tuning leaves the test half alone
    with monkeypatch.context() as patch:
        patch.setattr(real_clips.train, "main", None)
        real_clips.main([*words.split(), *setups, "--seeds", "2"])
    assert capsys.readouterr().out.partition("| |")[2] == table
    real_clips.main([*words.split(), "both", "--tune", "--seeds", "1"])
    for file in out.glob("networks/tune_*/fold/chunk_scores.csv"):
        own = pd.read_csv(file).video
        assert {split[video] for video in own if video in split} == {"train"}
    assert len(json.loads((out / "results_tune.json").read_text())["results"]) > 0


def test_real_clips_need_their_columns(tmp_path, clips):
    pd.read_csv(clips / "index.csv").drop(columns=["pair"]).to_csv(clips / "index.csv", index=False)
    with pytest.raises(UserError, match="lacks the columns pair"):
        real_clips.main(["--clips", str(clips), "--out", str(tmp_path / "out")])


def test_intervals_by_groups_do_not_count_copies():
    rng = np.random.default_rng(1)
    label = np.tile([0, 1], 20)
    table = pd.DataFrame({"label": label, "mds": rng.normal(size=40) - label, "identity": np.arange(40) // 2})
    found = real_clips.auc_interval([table])
    fake, real = (table.mds[table.label == code].to_numpy() for code in (0, 1))
    assert found[0] == pytest.approx((fake[:, None] > real).mean()) and found[1] < found[0] < found[2]
    assert real_clips.auc_interval([pd.concat([table] * 5)]) == pytest.approx(found)
    keyed = table.assign(key=table.identity)
    assert real_clips.auc_interval([keyed])[0] == pytest.approx((fake > real).mean())
    assert real_clips.auc_interval([table.assign(mds=1.0)]) == [0.5, 0.5, 0.5]
    assert real_clips.auc_interval([table, table.assign(mds=1.0)])[0] == pytest.approx((found[0] + 0.5) / 2)


@pytest.mark.slow
def test_a_network_in_three_commands(tmp_path, monkeypatch):
    """Those of docs/training.md, with fewer videos."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(learning, "N_ALONE", 8)
    make, fit, export = (shlex.split(line)[2:] for line in TOY)
    learning.main([*make, "--n_train", "3", "--n_test", "2", "--seconds", "2"])
    few = ["--epochs", "1", "--batch_size", "4", "--lr", "1e-3", "--num_workers", "0", "--device", "cpu"]
    train.main([*fit, *few])
    train.main([*export, *few[2:6]])
    assert load_checkpoint(Path("toy.pth"), {})["config"]["width"] == 0.25
