"""The page over all videos of a folder of results, summary.html: it sorts, filters and searches them, and
leads to each one's own page.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict
from urllib.parse import quote

from utils.cli import legible
from utils.pages import write_page
from verdicts.page import FACE_FILE, PAGE_FILE
from verdicts.schema import ABOVE, BELOW, UNDECIDED, VERDICT_FILE

OVERVIEW = "summary.html"
TEMPLATE = Path(__file__).parent / "templates" / "summary.html"
# what is said of a video, by what summary.csv says: the filter that shows it, and words
LABELS_OF = {
    ABOVE: ("above", "▲ at or above"),
    BELOW: ("below", "▽ below"),
    UNDECIDED: ("undecided", "? undecided"),
    "": ("none", "✕ not judged"),
}
FILTERS = {"above": "at or above", "below": "below", "undecided": "undecided", "none": "not judged"}


class OverviewRow(TypedDict):
    """What the page shows of a video."""

    name: str
    link: str  # to its own page, an address relative to this page; empty where it has none
    face: str  # to the picture of the face that decides, likewise
    kind: str  # a key of `FILTERS`
    answer: str
    mds: str
    threshold: str
    spans: str
    p_fake_video: str
    p_fake_audio: str
    judged: str
    why: str  # it was not judged


def write_overview(out: Path, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
    """Write the page over the rows of summary.csv, beside it; UserError if it can't be written."""
    shown = [overview_row(out, dict(zip(columns, row, strict=True))) for row in rows]
    counts = Counter(row["kind"] for row in shown)
    kinds = [(kind, words, counts[kind]) for kind, words in FILTERS.items() if counts[kind]]
    write_page(out / OVERVIEW, TEMPLATE, title=f"{len(shown):,} videos", rows=shown, kinds=kinds)


def overview_row(out: Path, row: dict) -> OverviewRow:
    """A row of summary.csv as the page shows it."""
    name = row["file"]
    kind, answer = LABELS_OF[row["verdict"]]
    if row["side"] == BELOW and row["spans"]:
        answer += ", with parts above"
    if row["verdict"] == UNDECIDED:
        answer += ": " + row["reasons"].replace(" ", ", ").replace("_", " ")
    return {
        "name": legible(name),
        "link": link_to(out, name, PAGE_FILE) or link_to(out, name, VERDICT_FILE),
        "face": link_to(out, name, FACE_FILE),
        "kind": kind,
        "answer": answer,
        "mds": shortened(row["mds"]),
        "threshold": shortened(row["threshold"]),
        "spans": row["spans"].replace("; ", ", "),
        "p_fake_video": percent(row["p_fake_video"]),
        "p_fake_audio": percent(row["p_fake_audio"]),
        "judged": f"{row['judged_s']:.1f} of {row['duration_s']:.1f} s" if kind != "none" else "",
        "why": legible(f"{row['stage']}: {row['reason']}") if kind == "none" else "",
    }


def link_to(out: Path, name: str, file: str) -> str:
    """The address of a file in a video's folder, relative to the page; empty if it is not there."""
    return quote(os.fsencode(f"{name}/{file}")) if os.path.exists(os.path.join(out, name, file)) else ""


def shortened(number: str) -> str:
    return f"{float(number):.4g}" if number else ""


def percent(share: str) -> str:
    return f"{100 * float(share):.0f} %" if share else ""
