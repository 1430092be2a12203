"""The page of a verdict in a real browser: it plays, follows, seeks, and asks for nothing. Needs chromium and
chromedriver.
"""

import base64
import json
import re
import shutil
import time

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import browser  # noqa: F401, a fixture
from tests.verdicts.test_localize import HOSTILE, checkpoint, clip, localize, track  # noqa: F401, fixtures
from verdicts.page import MAX_FACES, arrange_faces, draw_pictures
from verdicts.scoring import ScoredVideo

DURATION_S = 2.4
ROOT = "document.documentElement"


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
    second = page.find_elements(By.CSS_SELECTOR, ".chunks [data-s]")[1]
    page.execute_script("arguments[0].click()", second)
    settled(page, 1.0)
    assert curve.get_attribute("aria-valuenow") == "1.0"


def test_all_of_it_works_by_keys(page):
    curve = page.find_element(By.ID, "curve")
    page.execute_script("video.muted = true")
    curve.send_keys(Keys.END)
    settled(page, DURATION_S)
    curve.send_keys(Keys.HOME, Keys.ARROW_UP)
    settled(page, 0.2)
    assert curve.get_attribute("aria-valuetext") == f"0.2 of {DURATION_S} seconds"
    curve.send_keys(Keys.SPACE)
    assert page.execute_script("return video.paused") is False
    curve.send_keys(Keys.SPACE)
    assert page.execute_script("return video.paused") is True
    by_tab = "return [document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]"
    assert page.execute_script(by_tab) == ["curve", "solid"]  # where one is can be seen
    page.find_element(By.CSS_SELECTOR, ".chunks [data-s='1.0']").send_keys(Keys.ENTER)
    settled(page, 1.0)
    unnamed = (
        "return [...document.querySelectorAll('img, video, button')].filter(e => !(e.alt || e.ariaLabel))"
    )
    assert all(e.text for e in page.execute_script(unnamed))


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_reads_on_a_phone(page, width):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    needed, has = page.execute_script("return [root.scrollWidth, root.clientWidth]".replace("root", ROOT))
    assert needed == has <= width
    assert page.execute_script("return plot.getBoundingClientRect().height") >= 160
    sizes = page.execute_script(
        "return [...document.querySelectorAll('svg text')].map(t => [t.getScreenCTM().a, t.getScreenCTM().d]"
        ".map(scale => scale * parseFloat(getComputedStyle(t).fontSize)))"
    )
    assert len(sizes) > 3 and all(a == pytest.approx(b) for a, b in sizes)  # not stretched
    assert width < 390 or all(11 <= a <= 20 for a, _ in sizes)
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_what_the_score_can_say_is_a_click_away(page):
    top = page.execute_script(
        "return document.querySelector('[href=\"#limits\"]').getBoundingClientRect().top"
    )
    curve = page.execute_script("return curve.getBoundingClientRect().top")
    assert 0 < top < curve
    assert page.execute_script("return document.getElementById('limits').innerText").startswith("What the")


def test_it_prints_on_three_pages_at_most(page):
    asked = {"printBackground": True, "preferCSSPageSize": True}
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", asked)["data"])
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 3


def judged(number: int, mds: float, speaks: bool = True) -> dict:
    return {"track": number, "mds": mds, "speaks": speaks}


def test_who_speaks_comes_first():
    tracks = [judged(0, 1.0), judged(1, 3.0, speaks=False), judged(2, 2.0)]
    found = arrange_faces({"tracks": tracks}, {2: b"jpeg"})
    assert [[track["track"] for track in group] for _, group in found.groups] == [[2, 0], [1]]
    assert all(title for title, _ in found.groups) and found.rest == []
    assert found.pictures == {2: "data:image/jpeg;base64,anBlZw=="}
    (of_all,) = arrange_faces({"tracks": tracks[:1]}, {}).groups
    assert of_all == ("", tracks[:1])
    many = arrange_faces({"tracks": [judged(i, i) for i in range(30)]}, {})
    assert len(many.groups[0][1]) == MAX_FACES and len(many.rest) == 30 - MAX_FACES


def test_the_face_that_decides_has_a_picture(monkeypatch):
    monkeypatch.setattr("verdicts.page.draw_face", lambda writer: b"jpeg")
    silent = [track(i, scores=(9,) * 5, speaks=False) for i in range(MAX_FACES)]
    scored = ScoredVideo(None, 150, [None] * (MAX_FACES + 1), [*silent, track(MAX_FACES)], [], [])
    faces = draw_pictures(scored, 3).faces
    assert len(faces) == MAX_FACES and MAX_FACES in faces


def test_nothing_leaves_the_page_and_no_name_does_harm(page):
    assert page.find_element(By.TAG_NAME, "h1").text == HOSTILE
    assert HOSTILE in page.title
    assert page.find_elements(By.CSS_SELECTOR, "h1 *") == []  # no markup came out of the name
    pictures = page.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert sorted(pictures) == [96, 768, 768]  # the face, and two seconds
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


def test_the_shift_of_the_sound_reads_on_a_phone(page):
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    drawing = page.find_element(By.CSS_SELECTOR, "svg[role=img]")
    assert "to move it takes 4 seconds, and there are 2" in drawing.get_attribute("aria-label")
    assert drawing.rect["x"] >= 0 and drawing.rect["x"] + drawing.rect["width"] <= 390
    texts = drawing.find_elements(By.TAG_NAME, "text")
    assert len(texts) == 8 and all(text.rect["height"] >= 10 for text in texts)
    assert all(0 <= text.rect["x"] and text.rect["x"] + text.rect["width"] <= 390 for text in texts)
    assert len(drawing.find_elements(By.TAG_NAME, "circle")) == 1
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
