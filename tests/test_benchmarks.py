"""benchmarks/gpu.sh in miniature, and what becomes of steps that fail or take too long."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, step
from tests.conftest import ROOT

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
