"""The GigE benchmark fails where what is promised does not hold."""

import pytest

from benchmarks.gige import Timed, page, shortcomings

RUN = {"completed": 100, "unaccounted": 0, "skipped": 50, "incomplete": 0, "fates": {"judged": 50}}
RUNS = [("clean", RUN), ("lossy", RUN | {"incomplete": 7})]
SAID, AGAIN = Timed("frozen: said after", 0.0196, 0.02), Timed("frozen: frames again after", 1.9, 2.0)


def test_what_holds_is_no_shortcoming():
    assert shortcomings(RUNS, [SAID, AGAIN]) == []


@pytest.mark.parametrize(
    ("runs", "faults", "said"),
    [
        (RUNS, [Timed("frozen: said after", 0.0204, 0.02), AGAIN], "frozen: said after 20.4 ms, expected at most 20 ms"),
        (RUNS, [SAID, Timed("frozen: frames again after", 2.01, 2.0)], "again after 2010.0 ms, expected at most 2000 ms"),
        ([("clean", RUN | {"unaccounted": 17}), RUNS[1]], [SAID, AGAIN], "clean: 17 complete frames unaccounted for"),
        ([("clean", RUN | {"unaccounted": -1}), RUNS[1]], [SAID, AGAIN], "clean: -1 complete frames unaccounted for"),
        ([RUNS[0], ("lossy", RUN)], [SAID, AGAIN], "lossy: no frame was damaged"),
    ],
)
def test_each_shortcoming_is_said(runs, faults, said):
    (found,) = shortcomings(runs, faults)
    assert said in found


def test_the_page_shows_milliseconds_and_what_may_be():
    assert "| frozen: said after | 0.020 | 0.020 |" in page(RUNS, [SAID, AGAIN], 100, 60)
    assert "| frozen: said after | 0.019 | 0.020 |" in page(RUNS, [Timed("frozen: said after", 0.0191, 0.02)], 100, 60)
