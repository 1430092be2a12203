"""The page of a verdict in a real browser: it plays, follows, seeks, and asks for nothing. Needs chromium and
chromedriver.
"""

import json
import shutil
import time

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import browser  # noqa: F401, a fixture
from tests.verdicts.test_localize import HOSTILE, checkpoint, clip, localize  # noqa: F401, fixtures

DURATION_S = 2.4


@pytest.fixture
def page(browser, checkpoint, clip, localize, tmp_path):  # noqa: F811
    """The page of a video whose name is meant to do harm, open in the browser."""
    video = tmp_path / "videos" / HOSTILE
    video.parent.mkdir()
    shutil.copyfile(clip, video)
    assert localize(video, "--model", checkpoint, "--out", tmp_path / "out") == 0
    path = tmp_path / "page.html"
    shutil.copyfile(tmp_path / "out" / HOSTILE / "report.html", path)  # alone: nothing beside it is needed
    browser.get(path.as_uri())
    WebDriverWait(browser, 20).until(lambda b: b.execute_script("return video.readyState >= 2"))
    return browser


def state(page) -> tuple[float, float]:
    """The video's time, and the cursor's, in seconds."""
    return tuple(
        page.execute_script(
            "return [video.currentTime, duration * Number(cursor.getAttribute('x1')) / width]"
        )
    )


def settled(page, time_s: float) -> None:
    """Wait until video and cursor are at a time."""
    WebDriverWait(page, 10).until(
        lambda _: state(page) == (pytest.approx(time_s, abs=0.1), pytest.approx(time_s, abs=0.1))
    )


def test_the_page_plays_and_the_cursor_follows(page):
    assert page.execute_script("return video.duration") == pytest.approx(DURATION_S, abs=0.1)
    assert state(page) == (0, 0)
    page.execute_script("video.muted = true; video.play()")
    WebDriverWait(page, 10).until(lambda _: state(page)[1] > 0.5)
    first = state(page)
    assert first[1] == pytest.approx(first[0], abs=0.15)
    time.sleep(0.3)
    assert state(page)[1] > first[1]
    WebDriverWait(page, 10).until(lambda b: b.execute_script("return video.ended"))
    assert state(page)[1] == pytest.approx(DURATION_S, abs=0.1)


def test_a_click_on_the_curve_seeks(page):
    curve = page.find_element(By.ID, "curve")
    actions = webdriver.ActionChains(page)
    actions.move_to_element_with_offset(
        curve, round(0.25 * curve.size["width"]), 0
    ).click().perform()  # from its middle
    settled(page, 0.75 * DURATION_S)
    curve.send_keys(Keys.ARROW_LEFT)
    settled(page, 0.75 * DURATION_S - 0.2)
    second = page.find_elements(By.CSS_SELECTOR, "[data-s]")[1]
    page.execute_script("arguments[0].click()", second)
    settled(page, 1.0)
    assert curve.get_attribute("aria-valuenow") == "1.0"


def test_nothing_leaves_the_page_and_no_name_does_harm(page):
    assert page.find_element(By.TAG_NAME, "h1").text == HOSTILE
    assert HOSTILE in page.title
    assert page.find_elements(By.CSS_SELECTOR, "h1 *") == []  # no markup came out of the name
    pictures = page.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert len(pictures) == 2 and min(pictures) > 500
    requests = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = {r["params"]["request"]["url"] for r in requests if r["method"] == "Network.requestWillBeSent"}
    assert all(url.split(":")[0] in ("data", "blob") or url.endswith("/page.html") for url in urls), urls
    assert [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    page.execute_script(
        "const img = new Image(); img.src = 'http://127.0.0.1:9/x.png'; document.body.append(img)"
    )
    WebDriverWait(page, 10).until(
        lambda b: any("Content Security Policy" in e["message"] for e in b.get_log("browser"))
    )
