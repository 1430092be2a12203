"""What test.py shows: nothing twice, nothing that says nothing, and it reads on a phone."""

import json

import pandas as pd
import pytest

from evaluation.metrics import telling_columns
from tests.browser import browser  # noqa: F401, a fixture
from tests.evaluation.test_calibration import GIVEN
from tests.evaluation.test_scoring import write_scored

WORDS = {
    "threshold": 0.5,
    "threshold_origin": "midpoint",
    "checkpoint": "/home/ann/secret/run/model/best.pth.tar",
}


def test_groupings_that_say_the_same_are_one():
    table = pd.DataFrame(
        {
            "label": [1, 1, 1, 0, 0, 0, 0],
            "manipulation": ["", "", "", "video", "video", "both", "both"],
            "method": ["real"] * 3 + ["a", "a", "b", "b"],
            "category": ["R", "R", "R", "x", "y", "x", "y"],
            "source": "one",
        }
    )
    assert telling_columns(table) == {"manipulation": ["method"], "category": []}
    assert telling_columns(table.assign(method=[*"ppq", *"pqpq"])).keys() >= {"manipulation", "method"}
    assert telling_columns(table[:5]) == {"category": []}  # one manipulation is no group of its own


@pytest.mark.parametrize(
    ("known", "is_theirs"),
    [
        ({}, True),  # an older file
        ({"distance": "authors", "margin": 0.99}, True),
        ({"distance": "authors", "margin": 2.0}, False),
        ({"distance": "standardised", "margin": 0.99}, False),
    ],
)
def test_the_authors_threshold_is_shown_on_their_scale_alone(tmp_path, scripts, capsys, known, is_theirs):
    write_scored(tmp_path)
    (tmp_path / "scores.json").write_text(json.dumps(WORDS | known))
    scripts["test"].main(["--scores_dir", str(tmp_path)])
    printed, page = capsys.readouterr().out, (tmp_path / "report.html").read_text()
    assert ("authors' thresholded AUC" in printed) == ("at MDS >= 0.6000" in printed) == is_theirs
    assert ("authors&#39;, fixed" in page) == ("authors' code" in page) == is_theirs
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert len(metrics["thresholds"]) == 1 + is_theirs and metrics["authors_scale"] == is_theirs


@pytest.fixture(scope="module")
def page(tmp_path_factory, scripts):
    """A report with everything in it, long names too."""
    tmp_path = tmp_path_factory.mktemp("report")
    names = [f"a_very_long_name_of_a_method_without_any_space_{i % 2}" for i in range(40)]
    write_scored(tmp_path, method=[*names, *["real"] * 40], source="one")
    known = {"calibration": GIVEN, "calibration_origin": "held-out videos"}
    (tmp_path / "scores.json").write_text(json.dumps(WORDS | known))
    scripts["test"].main(["--scores_dir", str(tmp_path)])
    return tmp_path / "report.html"


def test_a_page_tells_nobody_where_files_lie(page):
    text = page.read_text()
    assert str(page.parent) not in text and "ann" not in text.split("<footer")[1]
    assert f"{page.parent.name}/scores.csv" in text and "run/model/best.pth.tar" in text
    assert "<title>Test report: scores.csv</title>" in text and "By source" not in text


@pytest.mark.parametrize("width", [320, 390, 1130, 1280])
def test_nothing_scrolls_sideways_and_plots_stack(browser, page, width):  # noqa: F811
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    of_root = "const root = document.documentElement; return [root.scrollWidth, root.clientWidth]"
    needed, has = browser.execute_script(of_root)
    assert needed == has <= width
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('img.plot')].map(i => [i.getBoundingClientRect().x, "
        "i.getBoundingClientRect().width])"
    )
    assert len(boxes) == 3 and (len({x for x, _ in boxes}) == 1) == (width < 500)
    assert all(x >= 0 and x + wide <= width and wide > 200 for x, wide in boxes)
    sticking_out = (
        "return [...document.querySelectorAll('td, th, p, h2, h3')].map(e => [e.innerText, e.scrollWidth, "
        "e.clientWidth]).filter(([, needed, has]) => needed > has + 1)"
    )
    assert browser.execute_script(sticking_out) == []
