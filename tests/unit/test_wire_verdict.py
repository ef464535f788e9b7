"""The verdict on the wire: exact bytes, exact refusals, and never more than 1 kB."""

import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle.manifest import Limit, Manifest, Provenance
from edge.errors import ContractError
from edge.wire import verdict as wire
from edge.wire.codec import Codec, significant

BOOT = "01JD8Q7ZK30000000000000000"
KEY = b"sixteen bytes ok"


def make(**changes) -> wire.Verdict:
    fields = {
        "sch": wire.SCHEMA,
        "id": f"st2/{BOOT}/184467",
        "station": "st2",
        "boot": BOOT,
        "seq": 184467,
        "part": wire.Part("SN-0049122", "barcode", "L2211", 88412377, 912044),
        "gate": "g1",
        "verdict": "reject",
        "reason": ["logical"],
        "score": wire.Score(0.0831, 1.42, 0.003, 0.27, 1.42, 0.18),
        "roi": [wire.Roi(412, 96, 60, 44, 1.42, "ae")],
        "t": wire.Times(1795302862123456, 1795302862127456, 1795302862137256, 1795302862138456, 220.0, 9.8, 205.0),
        "clk": wire.Clk("ntp", 12, 180, 88231455120),
        "ctx": wire.Context("bottle-500@7", "dfsc-efficientad-s@sha256:" + "9f" * 16, "sha256:" + "77" * 16, "chk-20261121-0600"),
        "cam": wire.Cam(["c1"], ["c1"], 4.1),
        "ev": None,
        "prev": wire.GENESIS,
    }
    return wire.Verdict(**{**fields, **changes})


def passing(**changes) -> wire.Verdict:
    return make(verdict="pass", reason=[], score=wire.Score(0.02, 0.42, 0.31, 0.27, 0.42, 0.18), roi=[], **changes)


GOLDEN = (
    b'{"sch":"onbelt.verdict/1","id":"st2/01JD8Q7ZK30000000000000000/184467","station":"st2",'
    b'"boot":"01JD8Q7ZK30000000000000000","seq":184467,'
    b'"part":{"id":"SN-0049122","src":"barcode","lot":"L2211","enc":88412377,"trig":912044},'
    b'"gate":"g1","verdict":"reject","reason":["logical"],'
    b'"score":{"raw":0.0831,"cal":1.42,"p":0.003,"st":0.27,"ae":1.42,"global":0.18},'
    b'"roi":[{"x":412,"y":96,"w":60,"h":44,"peak":1.42,"branch":"ae"}],'
    b'"t":{"trig_us":1795302862123456,"exp_us":1795302862127456,"done_us":1795302862137256,"pub_us":1795302862138456,'
    b'"valid_ms":220.0,"infer_ms":9.8,"slack_ms":205.0},'
    b'"clk":{"src":"ntp","off_us":12,"unc_us":180,"mono_us":88231455120},'
    b'"ctx":{"recipe":"bottle-500@7","model":"dfsc-efficientad-s@sha256:' + b"9f" * 16 + b'",'
    b'"limit":"sha256:' + b"77" * 16 + b'","check":"chk-20261121-0600"},'
    b'"cam":{"need":["c1"],"have":["c1"],"frame_age_ms":4.1},"ev":null,"prev":"sha256:' + b"00" * 16 + b'"}'
)


def test_golden_bytes():
    assert wire.encode_verdict(make()) == GOLDEN
    assert wire.decode_verdict(GOLDEN) == make()


def test_golden_bytes_sealed():
    sealed = wire.encode_verdict(make(), KEY)
    assert sealed.startswith(GOLDEN[:-1] + b',"mac":"')
    assert len(sealed) == len(GOLDEN) + len(',"mac":""') + 32
    assert wire.verify_mac(sealed, KEY)
    assert wire.decode_verdict(sealed).seq == 184467


def test_any_changed_byte_breaks_the_mac():
    sealed = wire.encode_verdict(passing(), KEY)
    for at in range(0, len(sealed), 7):
        changed = bytearray(sealed)
        changed[at] ^= 1
        assert not wire.verify_mac(bytes(changed), KEY), at
    assert not wire.verify_mac(sealed, b"another key, long")
    assert not wire.verify_mac(wire.encode_verdict(passing()), KEY)


def test_a_short_mac_key_is_refused():
    with pytest.raises(ContractError, match="at least 16 bytes, got 5"):
        wire.encode_verdict(make(), b"short")


def test_history_is_marked_and_sealed_anew():
    late = wire.as_history(wire.encode_verdict(make(), KEY), KEY)
    assert wire.decode_verdict(late).hist is True
    assert wire.verify_mac(late, KEY)
    assert json.loads(late)["id"] == make().id
    with pytest.raises(ContractError, match="not back-filled yet"):
        wire.as_history(late, KEY)


def test_a_verdict_that_cannot_fit_is_refused_not_cut():
    with pytest.raises(ContractError, match="at most 1024 bytes"):
        wire.encode_verdict(make(cam=wire.Cam(["c" * 32, "d" * 32], ["c" * 32, "d" * 32], 4.1), gate="g" * 32), KEY)


def test_regions_give_way_weakest_last_first():
    rois = [wire.Roi(412, 96, 60, 44, 9.0 - i, "ae") for i in range(8)]
    payload = wire.encode_verdict(make(roi=rois), KEY)
    kept = wire.decode_verdict(payload).roi
    assert 0 < len(kept) < 8
    assert kept == rois[: len(kept)]
    assert len(payload) <= 1024


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"onbelt.verdict/1"', b'"onbelt.verdict/2"', r"expected schema 'onbelt.verdict/1', got 'onbelt.verdict/2'"),
        (b'"seq":184467', b'"seq":"184467"', r"Expected `int`, got `str` - at `\$.seq`"),
        (b'"seq":184467', b'"seq":0', r"at `\$.seq`"),
        (b'"seq":184467', b'"seq":184468', r"at `\$.id`"),
        (b'"verdict":"reject"', b'"verdict":"ok"', r"at `\$.verdict`"),
        (b'"gate":"g1",', b"", r"missing required field `gate`"),
        (b'"gate":"g1"', b'"gate":"g1\\n"', r"at `\$.gate`"),
        (b'"gate":"g1"', b'"gate":"a/b"', r"at `\$.gate`"),
        (b'"ev":null', b'"ev":null,"extra":1', r"unknown field `extra`"),
        (b'"p":0.003', b'"p":1.5', r"at `\$.score.p`"),
        (b'"p":0.003', b'"p":NaN', "verdict: "),
        (b'"p":0.003', b'"p":null', r"at `\$.score.p`"),
        (b'"reason":["logical"]', b'"reason":[]', r"needs a reason"),
        (b'"valid_ms":220.0', b'"valid_ms":0', r"at `\$.t.valid_ms`"),
        (b'"reason":["logical"]', b'"reason":["Not Ours"]', r"at `\$.reason\[0\]`"),
    ],
)
def test_refused_with_the_path(old, new, words):
    assert old in GOLDEN
    with pytest.raises(ContractError, match=words):
        wire.decode_verdict(GOLDEN.replace(old, new))


def test_unknown_major_is_named_even_when_the_fields_differ():
    with pytest.raises(ContractError, match=r"got 'onbelt.verdict/9' - at `\$.sch`"):
        wire.decode_verdict(b'{"sch":"onbelt.verdict/9","something":"else"}')


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score": None}, "within the limit"),
        ({"score": wire.Score(0.2, 1.01, 0.0, 1.0, 0.1, 0.1)}, "within the limit"),
        ({"reason": ["logical"]}, "gives no reason"),
        ({"cam": wire.Cam(["c1", "c2"], ["c1"], 4.0)}, "every camera"),
        ({"ctx": msgspec.structs.replace(make().ctx, check="")}, "self-check"),
    ],
)
def test_a_pass_that_contradicts_itself_is_refused(changes, words):
    fields = msgspec.structs.asdict(passing()) | changes
    contradiction = wire.Verdict(**fields)
    with pytest.raises(ContractError, match=words):
        wire.encode_verdict(contradiction)
    with pytest.raises(ContractError, match=words):
        wire.decode_verdict(msgspec.json.encode(contradiction))


def test_values_out_of_range_never_leave():
    with pytest.raises(ContractError, match=r"\$.score.raw"):
        wire.encode_verdict(make(score=wire.Score(float("nan"), 1.4, 0.1, 1.0, 1.0, 1.0)))


def test_too_large_is_refused_unread():
    with pytest.raises(ContractError, match="expected at most 1024 bytes, got 2000"):
        wire.decode_verdict(b"x" * 2000)


@given(st.binary(max_size=1500))
def test_random_bytes_give_a_contract_error(payload):
    with pytest.raises(ContractError):
        wire.decode_verdict(payload)


@given(st.integers(0, len(GOLDEN) - 1), st.integers(0, 255))
def test_one_changed_byte_gives_a_verdict_or_a_contract_error(at, value):
    changed = bytearray(GOLDEN)
    changed[at] = value
    try:
        read = wire.decode_verdict(bytes(changed))
    except ContractError:
        return
    assert read.verdict == "reject"


def test_deep_nesting_is_a_contract_error():
    with pytest.raises(ContractError):
        wire.decode_verdict(b"[" * 1000)


def test_encode_reads_back_what_it_wrote():
    class Loose(msgspec.Struct):
        sch: str
        n: int

    codec = Codec("onbelt.loose/1", Loose, max_bytes=64)
    assert codec.encode(Loose("onbelt.loose/1", 1)) == b'{"sch":"onbelt.loose/1","n":1}'
    with pytest.raises(ContractError, match="at most 64 bytes"):
        codec.encode(Loose("onbelt.loose/1", 10**50))


def test_payload_hash_is_sha256_of_the_bytes():
    assert wire.payload_hash(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb924"


def test_references_name_model_recipe_and_limit():
    limit = Limit(0.5, 0.005, 0.95, "guarantee", 600, {"st": 1.0, "ae": 1.0, "global": 1.0})
    source = Provenance("sha256:0", 1, 1, "r", "t", "c", {})
    manifest = Manifest(
        1, "bottle", "bottle-500", 7, "dfsc-efficientad-s", 256, "rgb", "stretch-bilinear", "int8", "2026-11-22T00:00:00Z",
        limit, [0.1], 0.01, 20.0, {}, source,
    )  # fmt: skip
    model, recipe, named = wire.references(manifest, "9f" * 32)
    assert model == "dfsc-efficientad-s@sha256:" + "9f" * 16
    assert recipe == "bottle-500@7"
    assert (
        named
        == "sha256:"
        + hashlib.sha256(
            b'{"branches":{"ae":1.0,"global":1.0,"st":1.0},"confidence":0.95,"false_reject":0.005,"kind":"guarantee","n":600,"raw":0.5}'
        ).hexdigest()[:32]
    )
    other = msgspec.structs.replace(manifest, limit=msgspec.structs.replace(limit, raw=0.50001))
    assert wire.references(other, "9f" * 32)[2] != named


@pytest.mark.parametrize(("value", "text"), [(0.123456789, "0.123457"), (1.0, "1.0"), (123456.789, "123457.0"), (1e-9, "1e-09")])
def test_six_significant_digits(value, text):
    assert repr(significant(value)) == text
