"""The files the page is made of: nothing from elsewhere, nothing inline, nothing missing."""

import re
from importlib.resources import files

import pytest

from edge.page.site import STATIC


@pytest.mark.parametrize("name", sorted(name for name, _ in STATIC.values()))
def test_a_shipped_file_needs_nothing_from_elsewhere_and_nothing_inline(name):
    text = (files("edge.page") / "static" / name).read_text()
    links = set(re.findall(r"https?://[^\s\"'`)]+", text))
    assert links <= {"http://www.w3.org/2000/svg"}
    if name.endswith(".html"):
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", text)
        for target in re.findall(r'(?:src|href)="([^"#]+)"', text):
            assert target in STATIC, target


def test_the_script_puts_in_text_only():
    script = "".join((files("edge.page") / "static" / name).read_text() for name in ("page.js", "whatif.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", script)


def test_every_element_the_script_asks_for_is_in_the_page():
    folder = files("edge.page") / "static"
    html = (folder / "index.html").read_text()
    script = "".join((folder / name).read_text() for name in ("page.js", "whatif.js"))
    asked = set(re.findall(r'byId\("([\w-]+)"\)', script))
    there = re.findall(r'\sid="([\w-]+)"', html)
    assert asked <= set(there)
    assert len(there) == len(set(there))
