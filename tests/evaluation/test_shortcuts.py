"""Trivial cues: measured on clips that have them or not, and what they give away."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from evaluation.shortcuts import (
    CUES,
    FLOOR_DBFS,
    all_together,
    measure_cues,
    shortcut_figures,
    shortcut_lines,
    source_cues,
)
from tests.clips import tone, write_clip
from tests.conftest import ROOT
from utils.chunkfiles import INDEX_COLUMNS, RECORD, write_wav
from utils.constants import SECOND

PICTURES = [np.full((48, 64, 3), 40 * i, np.uint8) for i in range(6)]
SOURCE_CUES = [name for name in CUES if name not in ("loudness_dbfs", "n_chunks")]


def quiet_clip(path, silence_s=0.0, scale=1.0, fps=5):
    sound = tone(1.2) * scale
    sound[:, : round(silence_s * 44_100)] = 0
    return write_clip(path, PICTURES, fps=fps, sound=sound)


@pytest.fixture(scope="module")
def split_tree(tmp_path_factory):
    """An --out_dir whose ten fake test videos begin with 0.3 s of silence, and whose real and fake ones are
    alike otherwise.
    """
    out_dir = tmp_path_factory.mktemp("cues")
    rows = []
    for label, code in (("fake", 0), ("real", 1)):
        for i in range(10):
            name = f"v{i}"
            quiet_clip(out_dir / "test" / label / f"{name}.mp4", 0.3 if label == "fake" else 0.0)
            folder = out_dir / "test" / "pytmp" / label / name
            folder.mkdir(parents=True)
            (folder / RECORD).write_text(
                json.dumps({"source": f"{name}.mp4", "source_bytes": 1, "settings": {}, "chunks": []})
            )
            for chunk in ("00000", "00001")[: 1 + i % 2]:
                samples = tone(1.0, 48_000)[0] * 32767 * (0.3 + 0.05 * i)
                write_wav(folder / f"{chunk}.wav", samples.astype(np.int16))
                path = f"test/pytmp/{label}/{name}/{chunk}"
                rows.append(
                    dict(
                        zip(
                            INDEX_COLUMNS,
                            (f"{label}/{name}", code, 0, chunk, path, float(chunk)),
                            strict=True,
                        )
                    )
                )
    pd.DataFrame(rows).to_csv(out_dir / "test_split.csv", index=False)
    return out_dir


def test_cues_of_a_file(tmp_path):
    cues = source_cues(quiet_clip(tmp_path / "a.mp4", silence_s=0.3))
    assert cues["leading_silence_s"] == pytest.approx(0.3, abs=0.025)  # a codec's block
    assert cues["resolution_px"] == 48 * 64 and cues["frame_rate_hz"] == 5
    assert cues["duration_s"] == pytest.approx(1.2, abs=0.05)
    assert cues["bit_rate_bps"] == pytest.approx(8 * (tmp_path / "a.mp4").stat().st_size / cues["duration_s"])
    assert source_cues(quiet_clip(tmp_path / "b.mp4"))["leading_silence_s"] < 0.01
    assert source_cues(quiet_clip(tmp_path / "soft.mp4", scale=0.0005))["leading_silence_s"] == pytest.approx(
        1.2, abs=0.05
    )
    stereo = np.concatenate([np.zeros((1, 52_920), np.float32), tone(1.2)])
    stereo[:, :22_050] = 0
    write_clip(tmp_path / "c.mkv", PICTURES, sound=stereo, codecs=("libx264", "pcm_s16le"))
    assert source_cues(tmp_path / "c.mkv")["leading_silence_s"] == pytest.approx(0.5, abs=0.001)
    with pytest.raises(ValueError, match="no sound"):
        source_cues(write_clip(tmp_path / "mute.mp4", PICTURES))


def test_silence_gives_the_fakes_away(split_tree, scripts, capsys, tmp_path):
    scripts["test"].main(["--shortcuts", "--out_dir", str(split_tree), "--scores_dir", str(tmp_path)])
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "shortcuts.json").read_text())
    silence = result["cues"]["leading_silence_s"]
    assert (
        silence["auc"] == 1
        and silence["leak"]
        and silence["reading"] == "fakes are silent for longer at the start"
    )
    for name in set(CUES) - {"leading_silence_s", "bit_rate_bps"}:
        assert result["cues"][name]["reading"] in ("the same in all", "no clear difference")
        assert result["cues"][name]["auc"] == 0.5 and not result["cues"][name]["leak"]
    assert "takes 20 real and 20 fake videos" in result["together"]["why"] and result["problems"] == []
    (line,) = [line for line in printed.splitlines() if line.startswith("leading_silence_s")]
    assert "1.0000" in line and line.endswith("<- LEAK")
    table = pd.read_csv(tmp_path / "shortcuts.csv")
    assert len(table) == 20 and list(table.columns) == ["video", "label", *CUES, "problem"]
    # a sine of amplitude a has an RMS of a / sqrt(2)
    assert table.loudness_dbfs[0] == pytest.approx(20 * np.log10(0.5 * 0.3 / np.sqrt(2)), abs=0.01)


def test_sources_that_are_not_there(split_tree, tmp_path):
    index = pd.read_csv(split_tree / "test_split.csv", dtype={"chunk": str})
    index["path"] = [str(split_tree / path) for path in index.path]
    for name in ("test/fake", "test/real", "test/pytmp/real/v0", "test/pytmp/real/v1"):
        (tmp_path / name).mkdir(parents=True)
    record = (split_tree / "test/pytmp/real/v0" / RECORD).read_text()
    (tmp_path / "test/pytmp/real/v0" / RECORD).write_text(record)
    (tmp_path / "test/pytmp/real/v1" / RECORD).write_text(record.replace("v0.mp4", "v1.mp4"))
    (tmp_path / "test/real/v1.mp4").write_bytes(b"no video")
    write_wav(tmp_path / "silence.wav", np.zeros(SECOND.n_samples, np.int16))
    index.loc[index.video == "real/v1", "path"] = str(tmp_path / "silence")
    index.loc[index.video == "real/v2", "path"] = "nowhere"
    cues = measure_cues(index, tmp_path, "test").set_index("video")
    assert cues[SOURCE_CUES].isna().all().all() and cues.n_chunks.sum() == len(index)
    assert list(cues.problem[["real/v0", "real/v3"]]) == [
        "v0.mp4: No such file or directory",
        f"no {RECORD} names its file",
    ]
    assert "v1.mp4: Invalid data" in cues.problem["real/v1"]
    assert cues.loudness_dbfs["real/v1"] == FLOOR_DBFS and np.isnan(cues.loudness_dbfs["real/v2"])
    result = shortcut_figures(cues.reset_index(), "test")
    json.dumps(result, allow_nan=False)
    assert len(result["problems"]) == 20 and result["cues"]["duration_s"]["auc"] is None
    assert result["cues"]["loudness_dbfs"]["n_real"] == 9
    lines = list(shortcut_lines(result))
    assert lines[1] == "cues missing for 20 videos:" and lines[7] == "  ... (all in shortcuts.csv)"


def random_cues(n: int, seed: int = 0) -> pd.DataFrame:
    """n fake and n real videos with cues at random."""
    rng = np.random.default_rng(seed)
    cues = pd.DataFrame({name: rng.standard_normal(2 * n) for name in CUES})
    return cues.assign(video=[f"v{i}" for i in range(2 * n)], label=np.repeat([0, 1], n), problem="")


def test_a_leak_that_only_cues_together_show():
    cues = random_cues(100)
    is_alike = np.sign(cues.duration_s) == np.sign(cues.loudness_dbfs)
    cues.loc[is_alike != (cues.label == 0), "duration_s"] *= -1  # fakes: long and loud, or short and soft
    result = shortcut_figures(cues, "test")
    assert result["together"]["auc"] > 0.9 and result["together"]["leak"]
    assert not any(figure["leak"] for figure in result["cues"].values())
    chance = [all_together(random_cues(40, seed)) for seed in range(1, 5)]
    assert np.mean([result["auc"] for result in chance]) == pytest.approx(0.5, abs=0.1)


def test_videos_of_one_original_stay_in_one_fold():
    rng = np.random.default_rng(0)
    cues = random_cues(60)
    origin = np.arange(120) // 4  # four copies of each, of one label
    cues[list(CUES)] = rng.standard_normal((30, len(CUES)))[origin]
    assert all_together(cues)["auc"] > 0.9  # found again in another fold
    assert all_together(cues.assign(original=[f"o{i}" for i in origin]))["auc"] < 0.75
    twins = random_cues(60)  # a real and a fake video of each, alike
    twins.loc[:59, list(CUES)] = twins.loc[60:, list(CUES)].to_numpy()
    result = shortcut_figures(twins, "test")
    assert result["together"]["auc_ci95_delong"][1] < 0.5 and not result["together"]["leak"]
    assert any(
        "a column original in the index keeps them together" in line for line in shortcut_lines(result)
    )
    original = [f"v{i + 60}" for i in range(60)] + [""] * 60
    assert all_together(twins.assign(original=original))["auc"] == 0.5


def test_what_keeps_cues_from_being_learnt():
    cues = random_cues(30)
    assert (
        "20 real and 20 fake" in all_together(cues.assign(frame_rate_hz=[np.nan] * 11 + [25.0] * 49))["why"]
    )
    few = cues.assign(original=["a"] * 30 + [f"r{i}" for i in range(30)])
    assert "5 originals" in all_together(few)["why"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--shortcuts"],
        ["--out_dir", "."],
        ["--split", "train"],
        ["--shortcuts", "--out_dir", ".", "--threshold", "0"],
        ["--shortcuts", "--out_dir", ".", "--scores", "a.csv"],
        ["--versus", "b.csv", "--threshold", "1"],
        ["--versus", "b.csv", "--shortcuts", "--out_dir", "."],
        ["--threshold", "inf"],
    ],
)
def test_flags_that_do_not_go_together(arguments, scripts, capsys):
    with pytest.raises(SystemExit) as stopped:
        scripts["test"].parse_args(arguments)
    assert stopped.value.code == 2 and ": error: " in capsys.readouterr().err


def test_a_channel_order_of_its_own_ends_nothing(reference):
    path = reference / "faults" / "pcm_7_1.mov"
    if not path.exists():
        pytest.skip("not there")
    code = (
        "import sys; from pathlib import Path; from evaluation.shortcuts import source_cues\n"
        "source_cues(Path(sys.argv[1]))"
    )
    assert subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=False).returncode == 0
