"""AUC and coverage of each kind and level of perturbation, from the score tables of what perturb.py wrote."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.auc import Interval, delong_auc, interval_text
from evaluation.tables import read_scores
from perturbations.kinds import CONTROL, KINDS, SPLIT, VIDEOS, perturbed_folder
from utils.chunkfiles import index_path
from utils.cli import UserError, legible
from utils.constants import LABELS
from utils.tables import Schema, read_frame, read_table

AS_IT_IS = "as it is"  # the kind of the videos that are not perturbed, not even coded again
SPLIT_VIDEOS = Schema("video", ("video", "label"), remedy="run perturb.py again")
HEADER = ("kind", "level", "strength", "AUC", "95 % interval", "coverage", "real", "fake")


class LevelFigures(TypedDict):
    """The figures of one kind and level."""

    kind: str
    level: int
    strength: str  # what the level means, in words
    auc: float | None  # of the videos with a score; None if all of them are real, or fake, or there are none
    auc_ci95_delong: Interval | None
    coverage: float  # share of the split's videos that have a score
    n_real: int  # videos with a score
    n_fake: int


class Robustness(TypedDict):
    """What robustness.json holds."""

    n_videos: int  # of the split, as all counts below are a part of it
    n_real: int
    n_fake: int
    levels: list[LevelFigures]


def level_figures(
    place: tuple[str, int, str], scores: pd.DataFrame | None, videos: pd.DataFrame, path: Path
) -> LevelFigures:
    """The figures of a score table, None for no video with a score, of a kind and level with its meaning.

    Raises:
        UserError: it has a video that the split has not, or another label for it.
    """
    kind, level, strength = place
    own = videos.iloc[:0].assign(mds=0.0) if scores is None else scores
    known = own[["video", "label"]].merge(videos, on=["video", "label"])
    if len(known) < len(own):
        odd = own.video[~own.video.isin(known.video)].iloc[0]
        raise UserError(f"{path} scores {odd}, which is no video of {VIDEOS} with its label; score it again.")
    is_fake = (own.label == LABELS["fake"]).to_numpy()
    n_fake, n_real = int(is_fake.sum()), int((~is_fake).sum())
    auc, interval = delong_auc(is_fake, own.mds.to_numpy(float)) if n_fake and n_real else (None, None)
    return {
        "kind": kind,
        "level": level,
        "strength": strength,
        "auc": auc,
        "auc_ci95_delong": interval,
        "coverage": len(own) / len(videos),
        "n_real": n_real,
        "n_fake": n_fake,
    }


def measure_robustness(folder: Path, unperturbed: Path | None) -> tuple[Robustness, list[str]]:
    """The figures of every kind and level that is scored below a folder of perturb.py, and the names of those
    that are not.

    A split whose index has no chunk, since no face or no sound was left, counts as scored: its coverage is 0.

    Args:
        unperturbed: the score table of the same videos as they are, if their figures are asked for.

    Raises:
        UserError: no such folder, or nothing in it is scored, or a table is odd.
    """
    videos = read_frame(folder / VIDEOS, SPLIT_VIDEOS)[["video", "label"]]
    levels, without = [], []
    if unperturbed is not None:
        place = (AS_IT_IS, 0, "not coded again")
        levels.append(level_figures(place, read_scores(unperturbed), videos, unperturbed))
    for name, kind in KINDS.items():
        for level in kind.strengths:
            own = perturbed_folder(folder, name, level)
            path, index, place = (
                own / "scores.csv",
                index_path(own, SPLIT),
                (name, level, kind.meaning(level)),
            )
            if index.is_file() and not read_table(index):  # scores that are there are of an earlier one
                levels.append(level_figures(place, None, videos, path))
            elif path.is_file():
                scores = read_scores(path, needs_both=False)
                levels.append(level_figures(place, scores, videos, path))
            elif own.is_dir():
                without.append(own.name)
    if len(levels) == (unperturbed is not None):
        own = folder / without[0] if without else perturbed_folder(folder, "none", 0)
        command = f"python train.py --test --out_dir {own} --scores_dir {own}"
        raise UserError(f"no perturbed split in {folder} is scored; do it, for each, with: {command}")
    n_fake = int((videos.label == LABELS["fake"]).sum())
    result: Robustness = {
        "n_videos": len(videos),
        "n_real": len(videos) - n_fake,
        "n_fake": n_fake,
        "levels": levels,
    }
    return result, without


def level_cells(row: LevelFigures) -> tuple[str, ...]:
    """A row of the table, as text, under `HEADER`."""
    auc = "–" if row["auc"] is None else f"{row['auc']:.4f}"
    interval = interval_text(row["auc_ci95_delong"])
    counts = str(row["n_real"]), str(row["n_fake"])
    return row["kind"], str(row["level"]), row["strength"], auc, interval, f"{row['coverage']:.3f}", *counts


def robustness_markdown(result: Robustness) -> str:
    """The table as Markdown."""
    counts = f"{result['n_videos']} videos, {result['n_real']} real and {result['n_fake']} fake."
    rows = [HEADER, ("---",) * len(HEADER), *map(level_cells, result["levels"])]
    return "\n".join([counts, "", *(f"| {' | '.join(cells)} |" for cells in rows), ""])


def robustness_lines(result: Robustness, without: list[str]) -> Iterator[str]:
    """Lines for the screen."""
    yield f"{result['n_videos']} videos: {result['n_real']} real, {result['n_fake']} fake"
    for cells in (HEADER, *map(level_cells, result["levels"])):
        yield "{:<12} {:>5} {:<20} {:>6}  {:<17} {:>8} {:>6} {:>6}".format(*cells)
    if without:
        yield legible(f"not scored: {', '.join(without)}")


def draw_kinds(axes: Axes, result: Robustness, key: str, is_picture: bool) -> None:
    """Draw a figure over the levels, a line for each kind that changes the picture, or for each other one."""
    for name, kind in KINDS.items():
        rows = [row for row in result["levels"] if row["kind"] == name]
        values = [row[key] for row in rows]  # type: ignore[literal-required]
        if kind is CONTROL and values and values[0] is not None:
            axes.axhline(values[0], ls="--", color="black", lw=1, label=name)
        elif kind is not CONTROL and rows and (kind.picture is not None) == is_picture:
            # matplotlib leaves a hole for None
            axes.plot([row["level"] for row in rows], values, ".-", label=name)
    axes.set(ylim=(-0.02, 1.02), xlim=(0.8, 5.2), xticks=range(1, 6))


def plot_robustness(result: Robustness, path: Path) -> None:
    """Write AUC and coverage over the levels, of kinds of picture and of sound, as a PNG."""
    picture = Figure(figsize=(10, 7), layout="constrained")
    grid = picture.subplots(2, 2, sharex=True)
    for column, (title, is_picture) in enumerate((("picture perturbed", True), ("sound perturbed", False))):
        for row, (key, label) in enumerate((("auc", "AUC (video-wise)"), ("coverage", "coverage"))):
            draw_kinds(grid[row, column], result, key, is_picture)
            grid[row, 0].set_ylabel(label)
        grid[0, column].axhline(0.5, ls=":", color="grey", label="chance")
        grid[0, column].set_title(title)
        grid[1, column].set_xlabel("level")
        grid[0, column].legend(fontsize="small", ncols=2, loc="lower left")
    picture.savefig(path, dpi=120, format="png")
