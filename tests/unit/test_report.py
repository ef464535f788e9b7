import dataclasses
import json
import re
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from edge import cli
from edge.errors import ConfigError
from tests.support.bundles import SIZE, bad_frame, good_frame, make_tiny_bundle
from training.evaluate import evaluate
from training.report import charts, write_report
from training.report.cautions import cautions
from training.report.gallery import outline
from training.report.page import render
from training.report.svg import Plot, Scale


@pytest.fixture
def product(tmp_path):
    root = tmp_path / "caps & <lids>"
    for part, count in (("train", 4), ("test", 5)):
        for i in range(count):
            path = root / part / "good" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(good_frame(seed=i + 10 * (part == "test"))).save(path)
    for i, value in enumerate((120, 220, 250)):
        path = root / "test" / "dent" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(bad_frame("structural", value=value, seed=i)).save(path)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[28:36, 28:36] = 255
        path = root / "ground_truth" / "dent" / f"{i}_mask.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    return root


@pytest.fixture
def evaluation(tmp_path, product):
    path, trust, _ = make_tiny_bundle(tmp_path / "model")
    return evaluate(path, product, trust=trust)


class Page(HTMLParser):
    """Collects what a page holds and fails on tags that do not close."""

    VOID = ("meta", "img", "input", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.urls: list[str | None] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.urls += [value for name, value in attrs if name in {"src", "href", "data", "xlink:href", "srcset"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def rows_of(text, first_head):
    table = text[text.index(f"<th>{first_head}</th>") :]
    table = table[: table.index("</table>")]
    heads = re.findall(r"<th>(.*?)</th>", table)
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in re.findall(r"<tr.*?>(.*?)</tr>", table)]
    assert all(len(row) == len(heads) for row in rows)
    return heads, {row[0]: row[1:] for row in rows}


def test_the_pixel_figures_stand_at_both_limits(evaluation):
    heads, rows = rows_of(render(evaluation), "pixels")
    pixels = evaluation.by_type["dent"].pixels
    values = (pixels.au_pro[0.05], pixels.au_pro[0.3], pixels.au_spro[0.05], pixels.au_spro[0.3], pixels.auroc, pixels.ap)
    assert rows["dent"] == [str(pixels.pictures), *(f"{value:.3f}" for value in values)]
    assert len(set(rows["dent"])) > 3, "figures of one value would hide a column in another's place"
    assert heads[2:] == ["AU-PRO, 5 %", "30 %", "AU-sPRO, 5 %", "30 %", "pixel AUROC", "pixel AP"]


def test_without_masks_there_is_no_table_of_pixels(evaluation):
    bare = {name: dataclasses.replace(figures, pixels=None) for name, figures in evaluation.by_type.items()}
    text = render(dataclasses.replace(evaluation, by_type=bare, by_defect={}))
    assert "<th>pixels</th>" not in text


def test_the_page_is_whole_and_asks_the_network_for_nothing(evaluation):
    text = render(evaluation)
    page = Page(text)
    assert page.open == []
    assert page.tags.count("svg") == 3
    assert page.urls
    assert all(url and url.startswith("data:image/jpeg;base64,") for url in page.urls)
    assert "link" not in page.tags
    assert not re.search(r"https?:|@import|url\(", text)


def test_names_are_escaped_wherever_they_appear(evaluation):
    text = render(evaluation)
    assert "caps &amp; &lt;lids&gt;" in text
    assert "<lids>" not in text


def test_scores_in_the_script_cannot_end_it(evaluation):
    (block,) = re.findall(r'<script type="application/json" id="scores">(.*?)</script>', render(evaluation))
    scores = json.loads(block)
    assert list(scores) == ["good", "dent"]
    assert [len(values) for values in scores.values()] == [5, 3]
    assert scores["dent"][-1] == pytest.approx(evaluation.judged[-1].judgement.cal, abs=1e-4)


def test_headline_figures_stand_on_the_page(evaluation):
    words = " ".join(Page(render(evaluation)).words)
    assert "1 of 3" in words
    assert "0 of 5" in words
    assert "Worst misses" in words
    assert "dent/0.png" in words
    assert "Closest to a false alarm" in words


def test_a_page_of_good_parts_alone_leaves_out_what_they_cannot_show(tmp_path):
    path, trust, _ = make_tiny_bundle(tmp_path / "model")
    (tmp_path / "fresh").mkdir()
    for i in range(4):
        Image.fromarray(good_frame(seed=i)).save(tmp_path / "fresh" / f"{i}.png")
    page = Page(render(evaluate(path, tmp_path / "fresh", trust=trust)))
    words = " ".join(page.words)
    assert "0 of 4" in words
    for absent in ("ROC curves", "Bad parts missed", "By type and defect", "Worst misses"):
        assert absent not in words
    assert page.tags.count("svg") == 2


def test_files_are_written_and_replaced(evaluation, tmp_path):
    report = write_report(evaluation, tmp_path / "new" / "report")
    assert report.name == "report.html"
    first = json.loads((report.parent / "evaluation.json").read_text())
    assert first["images"] == 8
    assert [row["verdict"] for row in first["pictures"]] == ["pass"] * 6 + ["reject"] * 2
    assert first["pictures"][-1]["cause"] == "structural"
    write_report(evaluation, report.parent)
    assert sorted(path.name for path in report.parent.iterdir()) == ["evaluation.json", "report.html"]


def test_a_folder_that_cannot_be_made_is_named(evaluation, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--report"):
        write_report(evaluation, tmp_path / "file" / "report")


def test_command_writes_the_report(tmp_path, product, capsys):
    path, _, trust_folder = make_tiny_bundle(tmp_path / "model")
    code = cli.main(["evaluate", str(path), str(product), "--trust", str(trust_folder), "--report", str(tmp_path / "r")])
    assert code == 0
    assert f"report: {tmp_path / 'r' / 'report.html'}" in capsys.readouterr().out
    assert (tmp_path / "r" / "report.html").stat().st_size > 10_000


def test_cautions_say_what_weakens_the_figures(evaluation):
    from dataclasses import replace

    assert [head for head, _ in cautions(replace(evaluation, baseline_auroc=0.5))] == []
    doubtful = replace(
        evaluation,
        baseline_auroc=1.0,
        leaked=(evaluation.judged[0].item,),
        limit=msgspec.structs.replace(evaluation.limit, kind="estimate"),
        warnings=("the hinge was never active",),
    )
    said = " ".join(f"{head} {text}" for head, text in cautions(doubtful))
    for words in ("has seen some", "Averages of colour", "promises nothing", "the hinge was never active"):
        assert words in said


def bars(svg: str) -> list[tuple[str, bool, float]]:
    return [
        (match["kind"], "wrong" in match["style"], float(match["low"]))
        for match in re.finditer(r'<rect class="(?P<style>[^"]*)"[^>]*data-low="(?P<low>[^"]*)" data-kind="(?P<kind>\w+)"', svg)
    ]


def test_bars_on_the_wrong_side_of_the_limit_are_marked_as_the_verdicts_are():
    # Exactly at the limit a part passes; just above it, it is rejected.
    svg = charts.score_chart({"good": np.array([0.2, 1.0, 1.001]), "dent": np.array([1.0, 1.001, 9.0])})
    assert {(kind, wrong) for kind, wrong, low in bars(svg) if low < 0.99} == {("good", False), ("bad", True)}
    assert {(kind, wrong) for kind, wrong, low in bars(svg) if low > 0.99} == {("good", True), ("bad", False)}
    assert len(bars(svg)) == 6


@pytest.mark.parametrize(("bad", "high"), [([1.5], 2.0), ([3.0, 3.5], 4.0), ([90.0], 8.0), ([], 2.0)])
def test_the_score_axis_reaches_most_bad_parts(bad, high):
    groups = {"good": np.array([0.5])} | ({"dent": np.array(bad)} if bad else {})
    assert charts.score_range(groups) == high
    charts.score_chart(groups)
    charts.what_if_chart(groups)


def polylines(svg: str) -> dict[str, list[tuple[float, ...]]]:
    return {
        match["style"]: [tuple(map(float, pair.split(","))) for pair in match["points"].split()]
        for match in re.finditer(r'<polyline class="(?P<style>[^"]*)" points="(?P<points>[^"]*)"', svg)
    }


def test_what_if_curves_agree_with_counting():
    groups = {"good": np.array([0.2, 0.4, 0.4, 1.2]), "dent": np.array([0.5, 1.5, 1.6])}
    plot = Plot(charts.score_scale(2.0), Scale(0.0, 1.0, ()), "")
    lines = polylines(charts.what_if_chart(groups))
    for limit in (0.1, 0.3, 0.45, 1.0, 1.3, 1.55, 1.9):
        for style, share in (
            ("curve c0", np.mean(groups["good"] > limit)),
            ("curve c1", np.mean(groups["dent"] <= limit)),
        ):
            at = plot.px(limit)
            before = [y for x, y in lines[style] if x <= at][-1]
            assert before == pytest.approx(plot.py(float(share)), abs=0.11), (style, limit)


def test_what_if_intervals_are_exact_and_hold_their_curves():
    groups = {"good": np.array([0.2, 0.4, 0.4, 1.2]), "dent": np.array([0.5, 1.5, 1.6])}
    plot = Plot(charts.score_scale(2.0), Scale(0.0, 1.0, ()), "")
    svg = charts.what_if_chart(groups)
    counts = {"band c0": lambda limit: (groups["good"] > limit).sum(), "band c1": lambda limit: (groups["dent"] <= limit).sum()}
    for style, n in (("band c0", 4), ("band c1", 3)):
        match = re.search(rf'<polygon class="{style}" points="([^"]*)"', svg)
        assert match is not None
        points = [tuple(map(float, pair.split(","))) for pair in match[1].split()]
        half = len(points) // 2
        for (x, low), (x_again, high) in zip(points[:half], reversed(points[half:]), strict=True):
            assert x == x_again
            limit = 2.0 * (x - plot.px(0.0)) / (plot.px(2.0) - plot.px(0.0))
            if min(abs(limit - score) for score in (0.2, 0.4, 0.5, 1.2, 1.5, 1.6)) < 0.01:
                continue  # the drawing rounds the place to a tenth of a pixel
            ends = stats.binomtest(int(counts[style](limit)), n).proportion_ci(method="exact")
            assert (low, high) == pytest.approx((plot.py(ends.low), plot.py(ends.high)), abs=0.11)


def test_roc_chart_without_good_parts_is_empty_and_many_types_are_one_line():
    assert set(polylines(charts.roc_chart({"dent": np.array([1.0])}))) == {"chance"}
    many = {"good": np.array([0.1])} | {f"t{i}": np.array([1.0 + i]) for i in range(9)}
    assert [name for name, _ in charts.curves(many)] == ["all 9 types"]


def test_outline_dims_the_part_and_rings_the_mask():
    picture = np.full((80, 80, 3), 200, np.uint8)
    mask = np.zeros((80, 80), bool)
    mask[30:50, 30:50] = True
    drawn = np.asarray(outline(picture, mask))
    assert tuple(drawn[40, 40]) == (200, 200, 200)
    assert tuple(drawn[5, 5]) == (100, 100, 100)
    assert tuple(drawn[30, 40]) == (0, 200, 255)


def test_values_outside_an_axis_are_drawn_at_its_end():
    scale = Scale(0.0, 2.0, ())
    assert [scale.at(value) for value in (-1.0, 0.5, 7.0)] == [0.0, 0.25, 1.0]
