"""Sparkplug B payloads, judged by Google's protobuf runtime; what a command may and may not do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import ContractError
from edge.wire.sparkplug import MAX_COMMAND_BYTES, REBIRTH, DataType, Metric, encode, topic, wants_rebirth

pytest.importorskip("google.protobuf", reason="the independent decoder: pip install protobuf")
from tests.support import sparkplug

FIELD = {
    DataType.INT64: "long_value",
    DataType.UINT64: "long_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    DataType.STRING: "string_value",
}
METRICS = st.one_of(
    st.builds(Metric, st.text(max_size=40), st.just(DataType.INT64), st.integers(-(2**63), 2**63 - 1)),
    st.builds(Metric, st.text(max_size=40), st.just(DataType.UINT64), st.integers(0, 2**64 - 1)),
    st.builds(Metric, st.text(max_size=40), st.just(DataType.DOUBLE), st.floats(allow_nan=False)),
    st.builds(Metric, st.text(max_size=40), st.just(DataType.BOOLEAN), st.booleans()),
    st.builds(Metric, st.text(max_size=40), st.just(DataType.STRING), st.text(max_size=300)),
    st.builds(Metric, st.text(max_size=40), st.sampled_from(list(DataType)), st.none()),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(METRICS, max_size=6), st.integers(0, 2**48), st.one_of(st.none(), st.integers(0, 255)))
def test_an_independent_decoder_reads_what_was_written(metrics, at_ms, seq):
    read = sparkplug.parse(encode(metrics, at_ms, seq))
    assert read.timestamp == at_ms
    assert read.HasField("seq") == (seq is not None)
    assert read.seq == (seq or 0)
    assert len(read.metrics) == len(metrics)
    for got, metric in zip(read.metrics, metrics, strict=True):
        assert (got.name, got.datatype, got.timestamp) == (metric.name, metric.kind, at_ms)
        assert got.is_null == (metric.value is None)
        assert got.WhichOneof("value") == (None if metric.value is None else FIELD[metric.kind])
        if metric.value is not None:
            value = getattr(got, FIELD[metric.kind])
            assert value == (metric.value % 2**64 if metric.kind is DataType.INT64 else metric.value)


def test_topics_are_those_of_the_namespace():
    assert topic("plant", "NBIRTH", "line3-st2") == "spBv1.0/plant/NBIRTH/line3-st2"


@pytest.mark.parametrize(("value", "asked"), [(True, True), (False, False), (1, False)])
def test_only_a_true_boolean_asks_for_a_birth(value, asked):
    assert wants_rebirth(sparkplug.command(REBIRTH, value)) is asked


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (sparkplug.command("Node Control/Reboot", value=True), "got 'Node Control/Reboot'; nothing else can be written"),
        (sparkplug.command("Parts/Good", 0), "nothing else can be written"),
        (sparkplug.command(REBIRTH, value=True) + sparkplug.command("Armed", value=True), "got 'Armed'"),
        (sparkplug.command(REBIRTH, value=True) * 17, "at most 16 metrics, got 17"),
        (sparkplug.command(REBIRTH, value=True)[:-3], "damaged protobuf"),
        (b"", "got 'nothing'"),
        (b"\xff" * 40, "damaged protobuf"),
        (b"\x12\x04\x0a\x02\xff\xfe", "damaged protobuf"),
        (b"x" * (MAX_COMMAND_BYTES + 1), f"at most {MAX_COMMAND_BYTES} bytes"),
    ],
)
def test_a_command_that_asks_for_anything_else_is_refused(payload, words):
    with pytest.raises(ContractError, match=words):
        wants_rebirth(payload)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_never_do_anything(payload):
    with pytest.raises(ContractError, match="NCMD"):
        wants_rebirth(payload)
