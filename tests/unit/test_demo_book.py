"""The summary compares truth, passage and verdict; each combination lands where it belongs."""

import pytest

from edge.demo.book import PartBook, Tally


def book(*parts: tuple[bool, bool, str]) -> PartBook:
    made = PartBook()
    for count, (good, through, verdicts) in enumerate(parts, start=1):
        made.launched(count, good=good)
        made.passage(count, through=through)
        for verdict in verdicts.split():
            made.verdict(count, verdict)
    return made


@pytest.mark.parametrize(
    ("good", "through", "verdicts", "expected"),
    [
        (True, True, "pass", "good_passed"),
        (False, True, "pass", "misses"),
        (True, True, "", "unjudged"),
        (False, True, "", "unjudged"),
        (True, True, "reject", "against_verdict"),
        (True, True, "pass reject", "against_verdict"),
        (False, True, "invalid", "against_verdict"),
        (True, False, "reject", "false_rejects"),
        (True, False, "uncertain", "false_rejects"),
        (True, False, "invalid", "good_lost"),
        (True, False, "pass", "good_lost"),
        (True, False, "", "good_lost"),
        (False, False, "reject", "bad_rejected"),
        (False, False, "", "bad_rejected"),
        (False, False, "pass", "bad_rejected"),
    ],
)
def test_every_combination_has_its_place(good, through, verdicts, expected):
    tally = book((good, through, verdicts)).tally()
    assert tally.parts == 1
    assert {name for name in Tally.__dataclass_fields__ if getattr(tally, name)} == {"parts", expected}
    assert tally.escapes == (expected in {"unjudged", "against_verdict"})


def test_a_part_that_has_not_reached_the_rejector_is_not_counted():
    made = book((True, True, "pass"))
    made.launched(2, good=True)
    made.verdict(2, "pass")
    assert made.tally().parts == 1
    assert made.verdicts() == {"pass": 2, "reject": 0, "invalid": 0, "uncertain": 0, "none": 0}


def test_misses_and_false_rejects_are_named():
    made = book((True, True, "pass"), (False, True, "pass"), (True, False, "reject"), (False, False, "reject"), (True, False, ""))
    assert list(made.missed()) == [2]
    assert list(made.falsely_rejected()) == [3]
    assert made.verdicts()["none"] == 1


def test_verdicts_about_unknown_parts_are_ignored():
    made = book((True, True, "pass"))
    made.verdict(0, "reject")
    made.verdict(2, "reject")
    assert made.tally().good_passed == 1


def test_numbers_follow_each_other():
    with pytest.raises(ValueError, match="expected part 1 next, got 2"):
        PartBook().launched(2, good=True)
