"""Every experiment in miniature, and the tables that come of the results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.versus import compare_scores
from experiments import miniature, pool, record, table
from tests.conftest import ROOT
from utils.cli import UserError

SCRIPTS = {  # script -> its arguments in miniature, and the rows that it records
    "dfdc": ([], ["DFDC"]),
    "dftimit": (["lq"], ["DF-TIMIT LQ"]),
    "fakeavceleb": ([], ["FakeAVCeleb"]),
    "lavdf": ([], ["LAV-DF"]),
    "ablation": (
        [],
        [
            "all three terms",
            "contrastive term alone",
            "cross-entropies alone",
            "visual stream alone",
            "audio stream alone",
        ],
    ),
    "chunk_length": ([], ["1 s", "0.5 s", "2 s"]),
    "seeds": (["2", "--against", "--norm batch"], None),
    "cross": ([], None),
    "robustness": ([], None),
}


def script(name: str, *arguments: str) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", str(ROOT / "experiments" / f"{name}.sh"), *arguments]
    return subprocess.run(
        command, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )


def results(folder: Path, name: str) -> list[dict]:
    return json.loads((folder / "results" / f"{name}.json").read_text())["rows"]


def test_every_script_is_here():
    assert {path.stem for path in (ROOT / "experiments").glob("*.sh")} == {*SCRIPTS, "common"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_in_miniature(tmp_path, name):
    arguments, names = SCRIPTS[name]
    done = script(name, "--miniature", *arguments, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    rows = results(tmp_path, name)
    assert names is None or [row["row"] for row in rows] == names
    for row in rows:
        assert row["data"] == "generated" and row["command"].startswith(
            f"bash experiments/{name}.sh --miniature"
        )
        assert row["figures"]["n_videos"] > 0 and str(tmp_path) not in json.dumps(row)
        assert name == "robustness" or 0 <= row["figures"]["auc"] <= 1
        assert row["environment"]["device"] and row["flags"]["width"] == 0.1
    assert done.stdout.count("\n| ") >= 1 + len({row["row"] for row in rows})  # the table
    if name in ("dfdc", "lavdf"):
        again = script(name, "--miniature", "--out", str(tmp_path))
        assert again.returncode == 0 and "epoch 1" not in again.stdout.lower()
        assert [row["figures"] for row in results(tmp_path, name)] == [row["figures"] for row in rows]
    if name == "lavdf":
        assert rows[0]["figures"]["ap"] and rows[0]["figures"]["n_spans"] == 2
    if name == "seeds":
        assert [row["seed"] for row in rows] == [0, 0, 1, 1] and "±" in done.stdout
    if name == "cross":
        assert [Path(row["tested_on"]).name for row in rows] == ["root", "other"]
        assert all(row["row"].endswith("/mds.pth") for row in rows)
    if name == "robustness":
        levels = [(level["kind"], level["level"]) for level in rows[0]["figures"]["levels"]]
        assert levels == [("none", 0), ("blur", 5), ("late", 5)]


def test_wrong_arguments(tmp_path):
    for name, arguments, words in (
        ("dfdc", [], "expected the folder with DFDC's parts"),
        ("dfdc", ["a", "b"], "unknown argument b"),
        ("dfdc", ["a", "--epochs", "3"], "unknown argument --epochs (flags of train.py stand behind --)"),
        ("dftimit", ["a", "best"], "quality best, expected lq or hq"),
        ("seeds", ["many", "a"], "number of trainings many, expected 1 or more"),
        ("dfdc", ["a", "--processes", "two"], "--processes two, expected 1 or more"),
        ("dfdc", ["a", "--against", "--norm batch"], "--against is for seeds.sh alone"),
    ):
        done = script(name, *arguments, "--out", str(tmp_path / "out"))
        assert done.returncode == 2 and words in done.stderr and not (tmp_path / "out").exists()
    done = script("dfdc", "--help")
    assert done.returncode == 0 and done.stdout.startswith("The paper's figure on DFDC.")


def test_a_miniature_replaces_nothing(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="exists and is no miniature"):
        miniature.main(["--layout", "plain", "--root", str(tmp_path / "mine")])


def row(name: str, seed: int, auc: float, **more: object) -> dict:
    figures = {"auc": auc, "auc_ci95_wider": [0.8, 0.9], "n_videos": 40, "heads": {}}
    told = {"environment": {"device": "AMD EPYC 7B13 64-Core Processor, 2 threads"}, "training_s": 90}
    return {"row": name, "seed": seed, "data": "generated", "figures": figures, **told, **more}


def test_tables(tmp_path):
    rows = [row("a", 0, 0.8), row("b", 0, 0.7), row("a", 1, 0.9)]
    (tmp_path / "ablation.json").write_text(json.dumps({"rows": rows}))
    first, second = table.plain_table(tmp_path, "ablation").splitlines()[2:]
    expected = "| a | 40 generated videos | 0.850 ± 0.071 | – | – | 1.5 min | EPYC 7B13, 2 threads | 2 |"
    assert first == expected
    assert "| 0.700 (0.80 to 0.90) |" in second and second.endswith("| 1 |")
    text = "x\n<!-- table: ablation -->\nold\n<!-- end -->\ny\n"
    assert "old" not in table.filled(text, tmp_path) and first in table.filled(text, tmp_path)
    with pytest.raises(UserError, match="table nothing"):
        table.filled("<!-- table: nothing -->\n<!-- end -->", tmp_path)


def test_the_documents_have_the_tables_of_the_results():
    for name in table.DOCUMENTS:
        text = (ROOT / name).read_text()
        assert table.PLACE.search(text) and table.filled(text, table.RESULTS) == text, name


def test_pooling_one_seed_is_the_paired_test(tmp_path):
    rng = np.random.default_rng(0)
    reals = [f"real/{i}" for i in range(30)]
    fakes = [f"fake/{i}" for i in range(30)]
    label = [1] * 30 + [0] * 30
    original = [*[""] * 30, *reals]
    people = np.tile(rng.normal(size=30), 2)  # a fake and its original are alike
    tables = []
    for shift in (1.5, 0.5):
        mds = people + rng.normal(size=60) + shift * (1 - np.array(label))
        tables.append(
            pd.DataFrame({"video": reals + fakes, "label": label, "mds": mds, "original": original})
        )
    paths = [tmp_path / name for name in ("a.csv", "b.csv")]
    for table_, path in zip(tables, paths, strict=True):
        table_.to_csv(path, index=False)
    pooled = pool.pool(*([table_] for table_ in tables))
    expected = compare_scores(*paths)["clustered"]
    assert pooled["n_clusters"] == 30
    for key in ("auc", "auc_versus", "difference", "z", "p"):
        assert pooled[key] == pytest.approx(expected[key])
    twice = pool.pool([tables[0]] * 2, [tables[1]] * 2)  # the same seed again tells nothing more
    assert twice["difference_ci95"] == pytest.approx(pooled["difference_ci95"])
    with pytest.raises(UserError, match="not all of the same videos"):
        pool.pool([tables[0]], [tables[1].iloc[1:]])
    with pytest.raises(UserError, match="2 score files against 1"):
        pool.pool(tables, tables[:1])


def test_a_row_that_is_recorded_again_replaces_the_old_one(tmp_path):
    run = tmp_path / "log" / "deepfake_audio-32"
    run.mkdir(parents=True)
    flags = {"seed": 3, "batch_size": 4, "log_dir": "/somewhere"}
    (run / "args.json").write_text(json.dumps(flags))
    (run / "env.json").write_text(json.dumps({"processes": 2, "device": "a GPU"}))
    log = [{"iteration": 10, "chunks_per_s": 8.0}, {"iteration": 30, "chunks_per_s": 16.0}]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    columns = {"video": ["a", "b"], "label": [1, 0], "mds": [0.1, 0.2], "source": ["x", "x"]}
    pd.DataFrame(columns).to_csv(tmp_path / "scores.csv", index=False)
    for auc in (0.5, 1.0):
        (tmp_path / "metrics.json").write_text(json.dumps({"auc": auc}))
        words = ["--scores", tmp_path, "--run", tmp_path / "log", "--row", "one", "--command", "c"]
        record.main(["e", "--to", str(tmp_path / "to"), *map(str, words)])
    (row_,) = json.loads((tmp_path / "to" / "e.json").read_text())["rows"]
    assert row_["figures"] == {"auc": 1.0, "best_balanced_accuracy": 1.0}
    assert (row_["data"], row_["seed"], row_["steps"]) == ("x", 3, 30)
    assert row_["training_s"] == 10 * 8 / 8 + 20 * 8 / 16 and "log_dir" not in row_["flags"]
