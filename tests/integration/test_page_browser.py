"""The page in a real browser: what a person sees follows what the box does, and nothing leaves the machine."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from edge.page.live import GateAckView, LiveView, PartView
from edge.page.server import PageServer
from tests.conftest import ROOT, skip_unless
from tests.support.page_feed import STATE, Feed, Runner

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--window-size=1400,900",
)  # fmt: skip
LAYERS = ("frame", "heat", "boxes")
HOSTILE = "<img src=x onerror=alert(1)>'\"&<script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One browser for all tests of this file."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    skip_unless(bool(binary and driver), "Chromium and its driver are not installed (apt-get install chromium chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install 'onbelt[test]')")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_page_load_timeout(30)
    yield browser
    browser.quit()


@pytest.fixture
def feed() -> Feed:
    view = LiveView()
    view.set_state(STATE)
    return Feed(view, frames=8)


@pytest.fixture
def page(feed: Feed, chromium: Any) -> Iterator[PageServer]:
    server = PageServer(feed.view)
    server.start()
    chromium.get("about:blank")
    for kind in ("browser", "performance"):
        chromium.get_log(kind)  # what an earlier test left
    yield server
    chromium.get("about:blank")
    server.close()


def text(browser: Any, element: str) -> str:
    return str(browser.find_element("id", element).text)


def script(browser: Any, code: str) -> Any:
    return browser.execute_script(f"return {code}")


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 15.0) -> Any:
    end = time.monotonic() + timeout_s
    while not (got := condition()):
        assert time.monotonic() < end, f"not seen within {timeout_s:g} s: {what}"
        time.sleep(0.05)
    return got


def wait_for_text(browser: Any, element: str, words: str) -> None:
    wait_for(lambda: words in text(browser, element), f"{words!r} in #{element}")


def open_page(browser: Any, page: PageServer) -> None:
    browser.get(page.url)
    wait_for(lambda: text(browser, "armed") == "Armed", "the station's state")


def asked_for(browser: Any) -> list[str]:
    """Addresses of all requests since the log was read last."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]


def test_the_screen_follows_the_belt_and_nothing_leaves_the_machine(chromium: Any, page: PageServer, feed: Feed) -> None:
    open_page(chromium, page)
    assert text(chromium, "word") == "NO PART"
    for kind, verdict, word, words in [
        ("good", None, "PASS", "Looks like the good parts"),
        ("structural", None, "REJECT", "The surface is wrong"),
        ("good", "uncertain", "UNCERTAIN", "band around the limit"),
        ("invalid", None, "INVALID", "The frame never came"),
        ("logical", None, "REJECT", "The composition is wrong"),
    ]:
        part = feed.push(kind, verdict)
        wait_for_text(chromium, "seq", f"verdict {part.seq}")
        assert text(chromium, "word") == word
        assert words in text(chromium, "reason")
        assert script(chromium, "document.getElementById('shape').getAttribute('href')") == f"#shape-{part.verdict}"
        assert part.part_id in text(chromium, "part")
        assert script(chromium, "document.getElementById('frame').hasAttribute('src')") == (part.pixels is not None)
        wait_for_text(chromium, "did", "opened" if part.verdict == "pass" else "kept closed")
    wait_for(lambda: text(chromium, "n-all") == "5", "all five parts counted")
    assert [text(chromium, f"n-{name}") for name in ("pass", "reject", "uncertain", "invalid")] == ["1", "2", "1", "1"]
    assert text(chromium, "g-open") == "1"
    assert text(chromium, "g-closed") == "4"
    assert "no verdict came" in text(chromium, "g-why")
    assert float(script(chromium, "document.getElementById('times').rows[3].cells[3].textContent")) > 300, "at the gate"
    assert text(chromium, "deadline") == "a verdict counts for 400 ms"
    assert "tray-128, version 7" in text(chromium, "model")
    assert "0.5 % of good parts" in text(chromium, "model")
    wait_for(lambda: len(chromium.find_elements("css selector", "#rejects button")) == 3, "three rejects at the side")
    urls = [url for url in asked_for(chromium) if not url.startswith(("about:", "chrome:", "data:"))]
    assert {urlsplit(url).netloc for url in urls} == {urlsplit(page.url).netloc}
    assert [entry for entry in chromium.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}] == []


def test_the_heat_map_lies_on_the_defect_and_can_be_taken_away(chromium: Any, page: PageServer, feed: Feed) -> None:
    open_page(chromium, page)
    part = feed.push("structural")
    wait_for_text(chromium, "word", "REJECT")
    _, heat, boxes = (chromium.find_element("id", name) for name in LAYERS)
    # One look at all of them: on a busy machine the page may still be laid out between two.
    shown = ", ".join(f"#{name}" for name in LAYERS)
    places = f"[...document.querySelectorAll('{shown}, #boxes rect')].map(e => [e.id, e.getBoundingClientRect().toJSON()])"
    found = script(chromium, places)
    stage, *others = (rect for name, rect in found if name)
    box = next(rect for name, rect in found if not name)
    assert others == [stage, stage]
    assert heat.is_displayed()
    region = part.regions[0]
    assert (box["x"] - stage["x"]) / stage["width"] == pytest.approx(region.x, abs=0.02)
    assert box["height"] / stage["height"] == pytest.approx(region.h, abs=0.03)
    button = chromium.find_element("id", "heat-on")
    button.click()
    assert not heat.is_displayed()
    assert button.get_attribute("aria-pressed") == "false"
    assert boxes.is_displayed()
    chromium.find_element("tag name", "body").send_keys("b")
    assert not boxes.is_displayed()
    chromium.refresh()
    wait_for_text(chromium, "word", "REJECT")
    assert not chromium.find_element("id", "heat").is_displayed(), "the choice is kept"
    chromium.find_element("tag name", "body").send_keys("hb")
    assert chromium.find_element("id", "heat").is_displayed()
    assert float(script(chromium, "document.getElementById('heat').style.opacity")) == 0.5


def test_counters_advance_while_parts_run_and_the_screen_keeps_up(chromium: Any, page: PageServer, feed: Feed) -> None:
    open_page(chromium, page)
    chromium.find_element("id", "hold-on").click()
    with Runner(feed, 30):
        wait_for(lambda: int(text(chromium, "n-all") or 0) > 60, "sixty parts")
        script(chromium, "(window.slow = 0, new PerformanceObserver((l) => { for (const e of l.getEntries()) window.slow = "
               "Math.max(window.slow, e.duration); }).observe({ entryTypes: ['longtask'] }))")  # fmt: skip
        shown = set()
        end = time.monotonic() + 4
        while time.monotonic() < end:
            shown.add(text(chromium, "seq"))
            behind = feed.seq - int(text(chromium, "n-all").replace(" ", ""))
        assert behind < 30, "the screen is more than a second behind"
        assert len(shown) >= 12, f"only {len(shown)} parts in 4 s were shown"
        assert script(chromium, "window.slow") < 400, "the page blocks"
    assert 20 < float(text(chromium, "n-rate")) <= 31
    chromium.find_element("id", "hold-on").click()


def test_thirty_parts_a_second_cost_the_box_less_than_a_twentieth_of_a_core(chromium: Any) -> None:
    command = [sys.executable, "-m", "tests.support.page_feed", "30", "8"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            chromium.get(process.stdout.readline().strip())
            share = float(process.stdout.readline())
        finally:
            process.kill()
            chromium.get("about:blank")
    print(f"page at 30 parts/s with one browser: {100 * share:.1f} % of a core")
    assert share < 0.05


def test_a_reject_stays_on_the_screen_for_a_moment(chromium: Any, page: PageServer, feed: Feed) -> None:
    open_page(chromium, page)
    feed.push()
    wait_for_text(chromium, "word", "PASS")
    reject = feed.push("logical")
    for _ in range(5):
        feed.push()
    wait_for_text(chromium, "word", "REJECT")
    seen = time.monotonic()
    assert f"verdict {reject.seq}" in text(chromium, "seq")
    wait_for_text(chromium, "word", "PASS")
    assert time.monotonic() - seen > 0.7


def test_a_reject_can_be_looked_at_while_the_belt_runs(chromium: Any, page: PageServer, feed: Feed) -> None:
    open_page(chromium, page)
    old = feed.push("structural")
    wait_for(lambda: chromium.find_elements("css selector", "#rejects button"), "the reject at the side").pop().click()
    for _ in range(400):
        feed.push()
    wait_for(lambda: text(chromium, "n-pass") == "400", "four hundred more parts")
    assert f"verdict {old.seq}" in text(chromium, "seq")
    assert "not live" in text(chromium, "tag")
    assert text(chromium, "live") == "Back to live"
    body = chromium.find_element("tag name", "body")
    body.send_keys("l")
    wait_for_text(chromium, "seq", f"verdict {feed.seq}")
    body.send_keys("\ue012")  # left arrow
    wait_for_text(chromium, "seq", f"verdict {feed.seq - 1}")
    body.send_keys("\ue00c")  # escape
    wait_for_text(chromium, "seq", f"verdict {feed.seq}")


def test_everything_can_be_reached_with_the_tab_key(chromium: Any, page: PageServer, feed: Feed) -> None:
    open_page(chromium, page)
    feed.push("structural")
    wait_for(lambda: chromium.find_elements("css selector", "#rejects button"), "a reject at the side")
    reached = set()
    for _ in range(25):
        chromium.switch_to.active_element.send_keys("\ue004")
        reached.add(script(chromium, "document.activeElement.id || document.activeElement.closest('#rejects')?.id"))
    assert {"heat-on", "opacity", "boxes-on", "hold-on", "prev", "live", "next", "chart", "rejects", "theme"} <= reached


def test_a_stopped_daemon_is_told_at_once_and_its_return_too(chromium: Any, page: PageServer, feed: Feed) -> None:
    open_page(chromium, page)
    feed.push()
    wait_for_text(chromium, "word", "PASS")
    port = urlsplit(page.url).port
    page.close()
    banner = chromium.find_element("id", "lost")
    wait_for(banner.is_displayed, "the banner", 5)
    assert "Connection lost" in banner.text
    assert "What you see is old" in banner.text
    assert "Connection lost" in chromium.title
    assert "grayscale" in script(chromium, "getComputedStyle(document.querySelector('main')).filter")
    # A new run: its numbers begin again, and nothing of the old one may be taken for current.
    fresh = Feed(LiveView(), seed=8, frames=8)
    fresh.view.set_state({**STATE, "armed": False, "reasons": ["the self-check has not passed yet"]})
    again = PageServer(fresh.view, port=int(port or 0))
    again.start()
    try:
        wait_for(lambda: not banner.is_displayed(), "the banner gone")
        wait_for(lambda: text(chromium, "n-all") == "0", "the new run's counters")
        assert "The self-check has not passed yet" in text(chromium, "unarmed")
        assert text(chromium, "armed") == "NOT ARMED"
        warning = chromium.find_element("id", "warned")
        assert not warning.is_displayed()
        fresh.view.set_state(
            {**STATE, "reasons": ["parts score higher than good ones did; look at light and lens"], "simulated": True}
        )
        wait_for(warning.is_displayed, "a warning while it is armed")
        assert "Parts score higher" in warning.text
        assert "simulated camera" in text(chromium, "station")
        fresh.push("logical")
        wait_for_text(chromium, "word", "REJECT")
        assert text(chromium, "seq") == "verdict 1"
    finally:
        chromium.get("about:blank")
        again.close()


def test_what_comes_from_outside_is_shown_as_text(chromium: Any, page: PageServer, feed: Feed) -> None:
    feed.view.set_state(
        {**STATE, "station": HOSTILE, "reasons": [HOSTILE], "armed": False, "model": {"name": HOSTILE, "limit": 7}}
    )
    feed.view.add_part(
        PartView(1, HOSTILE[:110], "reject", (HOSTILE[:110],), 2.0, 0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 0, None, None, ())
    )
    feed.view.add_ack(GateAckView(1, "reject", HOSTILE, HOSTILE))
    chromium.get(page.url)
    wait_for_text(chromium, "word", "REJECT")
    assert HOSTILE[:110] in text(chromium, "reason")
    assert HOSTILE in text(chromium, "station")
    assert script(chromium, "document.images.length") == script(
        chromium, "document.querySelectorAll('header img, #stage img').length"
    )
    assert chromium.title == "Onbelt"
    assert [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (420, 900), (320, 640), (1920, 1080)])
def test_it_fits_the_screen(chromium: Any, page: PageServer, feed: Feed, width: int, height: int, tmp_path: Path) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for _ in range(320):
            feed.push()
        open_page(chromium, page)
        for kind, verdict, word in [("good", "uncertain", "UNCERTAIN"), ("structural", None, "REJECT")]:
            feed.push(kind, verdict)
            wait_for_text(chromium, "word", word)
            assert script(chromium, "document.documentElement.scrollWidth") <= width, "nothing sticks out sideways"
            assert script(chromium, "document.getElementById('word').getBoundingClientRect().right") <= width
            assert script(chromium, "document.getElementById('word').getBoundingClientRect().height") >= 0.05 * min(width, 900)
        if width >= 1400:
            assert script(chromium, "document.documentElement.scrollHeight") <= height, "all of it at a glance"
        top = script(chromium, "document.getElementById('verdict').getBoundingClientRect().top")
        assert top < height / 4, "the verdict comes first"
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_page_nobody_looks_at_costs_nothing(chromium: Any, page: PageServer) -> None:
    open_page(chromium, page)
    assert page._site.readers == 1
    chromium.switch_to.new_window("tab")
    try:
        wait_for(lambda: page._site.readers == 0, "the hidden page's stream closed")
    finally:
        chromium.close()
        chromium.switch_to.window(chromium.window_handles[0])
    wait_for(lambda: page._site.readers == 1, "the stream again")
    assert not chromium.find_element("id", "lost").is_displayed()


def test_what_if_the_limit_were_another_is_tried_and_nothing_is_changed(chromium: Any, page: PageServer, feed: Feed) -> None:
    feed.view.set_whatif(
        {
            "n": 100,
            "points": [[0.2, 50, 0.41, 0.59], [0.6, 10, 0.05, 0.17], [1.0, 0, 0.0, 0.03]],
            "highest": [1.0, 0.6, 0.6],
            "golden": [["golden/" + HOSTILE, 0.7, "reject"], ["golden/good-1.png", 0.1, "pass"]],
        }
    )
    open_page(chromium, page)
    script(chromium, "document.querySelector('#whatif summary').click()")
    wait_for_text(chromium, "whatif-text", "0 of 100 good parts")
    wait_for_text(chromium, "whatif-text", f"would pass: golden/{HOSTILE}")
    assert chromium.title != "owned"
    script(chromium, "(e => { e.value = 65; e.dispatchEvent(new Event('input')); })(document.getElementById('whatif-at'))")
    wait_for_text(chromium, "whatif-text", "10 of 100 good parts it was fitted on above (5.0 % to 17 %)")
    assert "would pass" not in text(chromium, "whatif-text")
    assert chromium.find_elements("css selector", "#whatif-curve polyline")
    assert "1.00, 0.60, 0.60" in text(chromium, "whatif-top")
