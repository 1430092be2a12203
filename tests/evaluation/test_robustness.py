"""The table of AUC and coverage over perturbed splits."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation.robustness import measure_robustness
from perturbations.kinds import KINDS
from tests.conftest import ROOT
from utils.cli import UserError

NAMES = [(f"{label}/{i}", code) for label, code in (("fake", 0), ("real", 1)) for i in range(20)]


def write_scores(folder, names, mds):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{name},{code},{score}" for (name, code), score in zip(names, mds, strict=True)]
    (folder / "scores.csv").write_text("\n".join(["video,label,mds", *rows]) + "\n")


@pytest.fixture
def perturbed(tmp_path):
    """40 videos: none and two levels of blur are scored, of the second 30 videos; of the third no face is
    left; of the fourth real videos alone are scored, the fifth is not scored.
    """
    rng = np.random.default_rng(0)
    (tmp_path / "videos.csv").write_text("\n".join(["video,label", *(f"{n},{c}" for n, c in NAMES)]) + "\n")
    scores = {}
    for name, names, gap in (("none_0", NAMES, 2), ("blur_1", NAMES, 1), ("blur_2", NAMES[:30], 0.5)):
        scores[name] = [gap * (code == 0) + rng.standard_normal() for _, code in names]
        write_scores(tmp_path / name, names, scores[name])
    (tmp_path / "blur_3").mkdir()
    (tmp_path / "blur_3" / "test_split.csv").write_text("video,label,track,chunk,path,start_s\n")
    write_scores(tmp_path / "blur_4", NAMES[30:], rng.uniform(size=10))
    (tmp_path / "blur_5").mkdir()
    return tmp_path, scores


def test_auc_and_coverage_of_each_level(perturbed):
    folder, scores = perturbed
    result, without = measure_robustness(folder, None)
    assert (result["n_videos"], result["n_real"], result["n_fake"]) == (40, 20, 20)
    assert without == ["blur_5"]
    levels = {(row["kind"], row["level"]): row for row in result["levels"]}
    assert list(levels) == [("none", 0), *(("blur", i) for i in range(1, 5))]
    for place, name, names in ((("none", 0), "none_0", NAMES), (("blur", 2), "blur_2", NAMES[:30])):
        row = levels[place]
        assert row["auc"] == pytest.approx(roc_auc_score([code == 0 for _, code in names], scores[name]))
        assert row["auc_ci95_delong"][0] < row["auc"] < row["auc_ci95_delong"][1]
    assert [row["coverage"] for row in levels.values()] == [1, 1, 0.75, 0, 0.25]
    assert [(row["n_real"], row["n_fake"]) for row in levels.values()][2:] == [(10, 20), (0, 0), (10, 0)]
    assert levels["blur", 3]["auc"] is levels["blur", 4]["auc"] is None
    assert levels["blur", 1]["strength"] == "kernel of 7 px"


def test_the_command_writes_json_markdown_and_a_picture(perturbed, scripts, capsys):
    folder, _ = perturbed
    write_scores(folder / "as_it_is", NAMES, [2 - code for _, code in NAMES])
    flags = ["--robustness", str(folder), "--scores", str(folder / "as_it_is" / "scores.csv")]
    scripts["test"].main(flags)
    printed = capsys.readouterr().out
    assert "not scored: blur_5" in printed and "as it is" in printed
    result = json.loads((folder / "robustness.json").read_text())
    assert result["levels"][0]["kind"] == "as it is" and result["levels"][0]["auc"] == 1
    lines = (folder / "robustness.md").read_text().splitlines()
    assert sum(line.startswith("| blur |") for line in lines) == 4
    assert all(line.count("|") == 9 for line in lines if line.startswith("|"))
    auc = result["levels"][2]["auc"]
    assert f"| blur | 1 | kernel of 7 px | {auc:.4f} |" in "\n".join(lines)
    assert (folder / "robustness.png").read_bytes().startswith(b"\x89PNG")
    (folder / "else").mkdir()
    scripts["test"].main([*flags, "--scores_dir", str(folder / "else")])
    assert (folder / "else" / "robustness.json").is_file()


def test_odd_folders_are_one_line(perturbed, tmp_path, scripts):
    folder, _ = perturbed
    with pytest.raises(UserError, match="videos.csv can't be read"):
        measure_robustness(tmp_path / "none", None)
    write_scores(folder / "blur_5", [("real/other", 1)], [1])
    with pytest.raises(UserError, match="scores real/other, which is no video of videos.csv"):
        measure_robustness(folder, None)
    write_scores(folder / "blur_5", [("real/1", 0)], [1])
    with pytest.raises(UserError, match="with its label"):
        measure_robustness(folder, None)
    for path in folder.glob("*/*.csv"):
        path.unlink()
    with pytest.raises(UserError, match=r"no perturbed split in .* is scored; .*none_0 --scores_dir"):
        measure_robustness(folder, None)
    for flags in (["--versus", "x.csv"], ["--threshold", "1"], ["--shortcuts", "--out_dir", "."]):
        with pytest.raises(SystemExit) as stop:
            scripts["test"].parse_args(["--robustness", str(folder), *flags])
        assert stop.value.code == 2


def test_the_page_has_every_kind_and_level():
    page = (ROOT / "docs" / "robustness.md").read_text()
    described = page.split("## Kinds and levels")[1].split("\n## ")[0]
    rows = {line.split("|")[1].strip(" `"): line for line in described.splitlines() if line.startswith("| `")}
    assert set(rows) == set(KINDS)
    for name, kind in KINDS.items():
        for strength in kind.strengths.values():
            for number in strength if isinstance(strength, tuple) else [strength]:
                assert number is None or f"{abs(number):g}" in rows[name].replace(",", " ").split(), name
