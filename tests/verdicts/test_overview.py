"""The page over all videos, summary.html: what stands in it, and in a real browser that it sorts, filters and
searches.
"""

import re

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import browser  # noqa: F401, a fixture
from tests.verdicts.test_localize import HOSTILE
from verdicts.overview import OVERVIEW, write_overview
from verdicts.results import SUMMARY_COLUMNS
from verdicts.schema import ABOVE, BELOW, UNDECIDED

N = 250
EVIL = ["javascript:alert(1).mp4", "../#?%41.mp4", HOSTILE, "line\nbreak.mp4", "bytes\udcff.mp4"]


def row(name: str, verdict: str = BELOW, mds: float = 1.0, spans: str = "") -> list:
    figures = [f"{mds:.6g}", "1.5", spans, "0.5000", "0.2500", 2.0, 4.0]
    return [name, verdict, "near_threshold", BELOW, *figures, "", ""]


def failure(name: str, reason: str) -> list:
    return [name, "", *[""] * 9, "crash", reason]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Results of many videos, some of them with names that are meant to do harm."""
    out = tmp_path_factory.mktemp("out")
    rows = [row(f"video {i}.mp4", ABOVE if i % 5 == 0 else BELOW, (i * 7 % N) / 100) for i in range(N)]
    rows += [row(name, BELOW, 9.0, "0.40-1.20; 3.00-3.60") for name in EVIL]
    rows += [row("thin.mp4", UNDECIDED, spans="0.40-1.20")]
    rows += [failure("broken.mp4", "<b>signal</b> 11")]
    for name in ("video 0.mp4", *EVIL):
        folder = out / name.removeprefix("../")
        folder.mkdir()
        (folder / "report.html").write_text("<title>its page</title>")
    write_overview(out, SUMMARY_COLUMNS, rows)
    return out


def test_names_do_no_harm(out):
    text = (out / OVERVIEW).read_text(encoding="utf-8")
    assert "<b>" not in text and "&lt;b&gt;signal&lt;/b&gt; 11" in text
    hrefs = re.findall(r'href="([^"]*)"', text)
    assert "video%200.mp4/report.html" in hrefs and "bytes%FF.mp4/report.html" in hrefs
    assert all(re.fullmatch(r"[\w/.~%-]+", href) for href in hrefs)  # no scheme, no query, no fragment
    assert len(hrefs) == 1 + len(EVIL) - 1  # what is not there has no link
    assert "? undecided, with parts above" in text
    assert "line\\nbreak.mp4" in text and text.count("<tr") == 1 + N + len(EVIL) + 2


@pytest.fixture
def page(browser, out):  # noqa: F811
    browser.get((out / OVERVIEW).as_uri())
    browser.get_log("browser")
    return browser


def names(page) -> list[str]:
    return page.execute_script(
        "return [...document.querySelectorAll('tbody tr')].map(r => r.cells[1].innerText)"
    )


def count(page) -> str:
    return page.find_element(By.ID, "count").text


def test_it_sorts(page):
    def click(column: str) -> None:
        page.find_element(By.XPATH, f"//th/button[.='{column}']").click()

    def column(i: int) -> list[str]:
        return page.execute_script("return rows.map(r => r.cells[arguments[0]]?.innerText ?? '')", i)

    click("MDS")
    by_score = [float(text) for text in column(3)[:-1]]
    assert by_score == sorted(by_score, reverse=True) and column(1)[-1] == "broken.mp4"
    click("MDS")
    by_score = [float(text) for text in column(3)[:-1]]
    assert by_score == sorted(by_score) and column(1)[-1] == "broken.mp4"  # what has no score stays last
    head = page.find_element(By.XPATH, "//th[button='MDS']")
    assert head.get_attribute("aria-sort") == "ascending"
    page.find_element(By.XPATH, "//th/button[.='video']").send_keys(Keys.ENTER)  # by a key
    numbers = [int(name.split()[1][:-4]) for name in column(1) if name.startswith("video ")]
    assert numbers == list(range(N)) and head.get_attribute("aria-sort") is None


def test_it_filters_and_searches(page):
    total = N + len(EVIL) + 2
    assert count(page) == f"{total} of {total} videos"
    for kind in ("below", "undecided", "none"):
        page.find_element(By.CSS_SELECTOR, f"[value={kind}]").click()
    assert count(page) == f"{N // 5} of {total} videos" and len(names(page)) == N // 5
    page.find_element(By.ID, "search").send_keys("VIDEO 1")
    assert names(page) == ["video 10.mp4", "video 15.mp4", *(f"video {i}.mp4" for i in range(100, 200, 5))]
    page.find_element(By.ID, "search").send_keys(Keys.ENTER)  # sends nothing anywhere
    assert page.current_url.endswith(OVERVIEW)


def test_rows_are_drawn_as_one_goes(page):
    few = len(names(page))
    assert few < N
    page.execute_script("scrollTo(0, document.body.scrollHeight)")
    WebDriverWait(page, 10).until(lambda _: len(names(page)) > few)


def test_a_link_leads_to_the_page_of_the_video(page):
    page.find_element(By.ID, "search").send_keys("bold")
    page.find_element(By.LINK_TEXT, HOSTILE).click()
    assert WebDriverWait(page, 10).until(lambda b: b.title == "its page")


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_of_it_scrolls_sideways(page, width):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    root = "document.documentElement"
    needed, has = page.execute_script(f"return [{root}.scrollWidth, {root}.clientWidth]")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert needed == has <= width
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_without_javascript_the_table_is_there(browser, out):  # noqa: F811
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get((out / OVERVIEW).as_uri())
        rows = browser.find_elements(By.CSS_SELECTOR, "tbody tr")
        assert len(rows) == N + len(EVIL) + 2
        assert not browser.find_element(By.ID, "filters").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
