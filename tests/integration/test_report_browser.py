"""The report in a real browser: the limit moves with its slider, and nothing is asked of any network."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import skip_unless
from tests.support.bundles import bad_frame, good_frame, make_tiny_bundle
from training.evaluate import evaluate
from training.report import write_report

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--window-size=1280,1000",
)  # fmt: skip
GOOD, BAD = (104, 140, 170), (130, 190, 220, 240)  # levels of the patch: scores are (level - 100) / 50, the limit is 1


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    for kind, levels in (("good", GOOD), ("</script><b>dent", BAD)):
        place = folder / "data" / "test" / kind.replace("/", "-")
        place.mkdir(parents=True)
        for level in levels:
            Image.fromarray(bad_frame("structural", value=level) if level > 110 else good_frame()).save(place / f"{level}.png")
    path, trust, _ = make_tiny_bundle(folder / "model")
    return write_report(evaluate(path, folder / "data", trust=trust), folder / "out")


@pytest.fixture(scope="module")
def page(report: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
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
    browser.get(report.as_uri())
    yield browser
    browser.quit()


def move_limit(page: Any, limit: float) -> str:
    page.execute_script(
        "const s = document.getElementById('limit'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))", limit
    )
    return str(page.find_element("id", "said").text)


@pytest.mark.parametrize("limit", [0.5, 1.0, 1.5, 1.9])
def test_the_sentence_follows_the_slider(page, limit):
    scores = {name: (np.array(levels) - 100) / 50 for name, levels in (("good", GOOD), ("bad", BAD))}
    rejected, missed = int((scores["good"] > limit).sum()), int((scores["bad"] <= limit).sum())
    said = move_limit(page, limit)
    counts = [int(number) for number in re.findall(r"(\d+) of \d", said)]
    assert said.startswith(f"Limit at {limit:.2f}")
    assert counts == [rejected, missed]


def test_lines_and_bars_follow_the_slider(page):
    def lines() -> list[float]:
        code = "return [...document.querySelectorAll('[data-follows] line')].map(e => e.getBoundingClientRect().x)"
        return [float(x) for x in page.execute_script(code)]

    def wrong() -> int:
        return int(page.execute_script("return document.querySelectorAll('rect.wrong').length"))

    move_limit(page, 1.0)
    before, at_limit = lines(), wrong()
    assert (len(before), at_limit) == (2, 2)  # one good part rejected, one bad part missed: a bar each
    move_limit(page, 1.7)
    assert all(after > x + 20 for after, x in zip(lines(), before, strict=True))
    assert wrong() == 1  # the bad part at 0.6 alone
    page.find_element("id", "back").click()
    assert lines() == pytest.approx(before, abs=0.01)
    assert wrong() == at_limit


def test_names_in_the_data_cannot_write_into_the_page(page):
    assert page.execute_script("return document.querySelectorAll('b > *, script + b').length") == 0
    assert "<b>dent" in page.find_element("css selector", "table").text


@pytest.mark.parametrize("width", [1280, 480])
def test_nothing_sticks_out_sideways(page, width):
    page.set_window_size(width, 1000)
    assert page.execute_script("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_no_error_and_no_request(page, report):
    errors = [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
    asked = set()
    for entry in page.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(message["params"]["request"]["url"].partition(":")[0])
    # "chrome" is the browser's own empty tab, before the report.
    assert {"file", "data"} <= asked <= {"file", "data", "chrome"}
    assert report.as_uri() == page.current_url
