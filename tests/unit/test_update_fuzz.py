"""Every reader of the updater on thousands of altered inputs: the documented error comes out, or what was signed, or nothing.

The same targets as `make fuzz`, which has atheris look for branches; here hypothesis alters good inputs in ways that find faults
of readers: bits, cuts, repeats, numbers at the edge, nesting.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import TARGETS
from tests.support import fuzz_targets

EXAMPLES = 80
WORDS = (
    b"null",
    b"-1",
    b"1e400",
    b"9" * 400,
    b"18446744073709551616",
    b'"\\ud800"',
    b"[" * 200,
    b'{"a":' * 60,
    b"\x00",
    b"\xff\xfe",
    b"../",
)


@st.composite
def altered(draw, seeds):
    """A good input after one to four alterations, or bytes of no meaning."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["bit", "cut", "drop", "repeat", "word", "bytes"]))
        if kind == "bit" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "repeat":
            data[at:at] = data[at : at + draw(st.integers(1, 200))]
        elif kind == "word":
            data[at : at + draw(st.integers(0, 6))] = draw(st.sampled_from(WORDS))
        else:
            data[at:at] = draw(st.binary(max_size=20))
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_altered_input_is_refused_as_documented(name):
    run, seeds = fuzz_targets.make(name)
    for seed in seeds:
        run(seed)  # a target that refuses its good inputs would test nothing

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(altered(seeds))
    def refused(data):
        run(data)

    refused()


@pytest.mark.parametrize("name", ["bundle", "desired", "tuf"])
def test_a_target_sees_a_reader_that_believes_too_much(name, monkeypatch):
    """With the signature's check taken out, an altered file is believed, and the target says so."""
    run, seeds = fuzz_targets.make(name)
    if name == "bundle":
        monkeypatch.setattr(fuzz_targets, "read_bundle", lambda *_: None)
    elif name == "desired":
        monkeypatch.setattr("edge.wire.update.open_desired", lambda *_: None)
    else:
        monkeypatch.setattr(fuzz_targets, "_take", lambda *_: True)
    data = seeds[0].replace(b'"version":2', b'"version":9').replace(b"plant1", b"plant2")
    data = data if data != seeds[0] else data[:-1]
    with pytest.raises(AssertionError, match="was believed"):
        run(data)
