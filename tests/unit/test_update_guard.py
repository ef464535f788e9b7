"""The guard's decisions, one cause at a time; windows; the signed desired state."""

import msgspec
import pytest

from edge.bundle.signing import TrustStore, generate_key, key_id, load_private
from edge.errors import ContractError
from edge.update.guard import Guard, GuardSettings, Shares, Usual
from edge.update.windows import is_open
from edge.wire.update import DESIRED_1, DESIRED_SCHEMA, Desired, open_desired, sign_desired
from tests.support.gate_messages import BOOT, MODEL, OTHER_BOOT, OTHER_MODEL, make_state, make_verdict

S = 1_000_000_000
SETTINGS = GuardSettings(parts=100, seconds=10.0, take_s=30.0, arm_s=5.0)
USUAL = Shares(rejected=20, invalid=0, late=0, parts=400)  # 5 %


def state(model=MODEL, boot=BOOT, **changes):
    return msgspec.structs.replace(make_state(boot, **changes), model=model)


def guard(usual=USUAL, promise=0.005):
    one = Guard(MODEL, SETTINGS, usual, promise, 0)
    one.on_state(state(), S)
    return one


def part(number, verdict="pass", *, slack_ms=100.0, model=MODEL):
    one = make_verdict(number, verdict)
    context = msgspec.structs.replace(one.ctx, model=model)
    return msgspec.structs.replace(one, ctx=context, t=msgspec.structs.replace(one.t, slack_ms=slack_ms))


def feed(one, count, every=0, **kinds):
    """`count` parts; each `every`-th is as `kinds` says. Returns the part at which the guard decided, and its decision."""
    for number in range(1, count + 1):
        one.on_verdict(part(number, **kinds) if every and number % every == 0 else part(number))
        seen = one.look(5 * S)
        if seen is not None:
            return number, seen
    return None, one.look(5 * S)


def test_a_model_as_good_as_the_one_before_is_committed():
    one = guard()
    assert feed(one, 120, every=20, verdict="reject") == (None, None)
    seen = one.look(11 * S)
    assert (seen.reason, seen.text) == ("", "120 parts: 6 rejected, 0 without a judgement, 0 late")


def test_too_few_parts_are_no_proof():
    one = guard()
    feed(one, 99)
    assert one.look(10_000 * S) is None


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [({"verdict": "reject"}, "rejects"), ({"verdict": "invalid"}, "invalids"), ({"slack_ms": -1.0}, "late")],
    ids=["rejects", "invalids", "late"],
)
def test_a_third_of_the_parts_is_seen_within_60(kinds, reason):
    number, seen = feed(guard(), 60, every=3, **kinds)
    assert number is not None
    assert seen.reason == reason
    assert "that is not what was promised or usual" in seen.text


def test_a_limit_that_passes_everything_is_seen():
    """It needs as many parts as its rarity asks for: 20 % scrap is missed within 250 parts."""
    number, seen = feed(guard(Shares(rejected=200, invalid=0, late=0, parts=1000)), 250)
    assert number is not None
    assert seen.reason == "passes"


def test_a_line_with_much_scrap_is_no_alarm():
    one = guard(Shares(rejected=80, invalid=0, late=0, parts=400))
    assert feed(one, 300, every=5, verdict="reject") == (None, None)


def test_parts_of_the_other_model_do_not_count():
    one = guard()
    for number in range(1, 200):
        one.on_verdict(part(number, "reject", model=OTHER_MODEL))
    assert one.look(5 * S) is None
    assert one.summary().startswith("0 parts")


def test_parts_nobody_judged_do_not_thin_out_the_rejected():
    one = guard(Shares(rejected=0, invalid=300, late=0, parts=400))
    number, seen = feed_mixed(one)
    assert number is not None
    assert seen.reason == "rejects"


def feed_mixed(one):
    for number in range(1, 200):
        one.on_verdict(part(number, ("invalid", "invalid", "reject", "pass")[number % 4]))
        seen = one.look(5 * S)
        if seen is not None:
            return number, seen
    return None, None


def test_the_daemon_never_takes_it():
    one = Guard(MODEL, SETTINGS, USUAL, 0.0, 0)
    one.on_state(state(OTHER_MODEL, reasons=["the new model is not taken: golden"]), S)
    assert one.look(29 * S) is None
    seen = one.look(31 * S)
    assert seen.reason == "not-taken"
    assert "the new model is not taken: golden" in seen.text


def test_nobody_says_anything():
    seen = Guard(MODEL, SETTINGS, USUAL, 0.0, 0).look(31 * S)
    assert (seen.reason, seen.text) == ("not-taken", "not taken within 30 s: the station says nothing")


def test_the_daemon_goes_back_by_itself():
    one = guard()
    one.on_state(state(OTHER_MODEL), 2 * S)
    assert one.look(3 * S).reason == "not-taken"


def test_not_armed():
    one = guard()
    one.on_state(state(armed=False, reasons=["golden frame differs"]), 2 * S)
    assert one.look(6 * S) is None
    seen = one.look(8 * S)
    assert (seen.reason, "golden frame differs" in seen.text) == ("not-armed", True)


def test_a_dead_daemon_is_not_armed_whatever_the_broker_retains():
    one = guard()
    assert one.look(2 * S) is None
    one.on_offline("connection lost")
    seen = one.look(8 * S)
    assert (seen.reason, "offline: connection lost" in seen.text) == ("not-armed", True)


def test_a_daemon_that_dies_again_and_again():
    one = guard()
    boots = [BOOT, OTHER_BOOT, "01JD8Q7ZK3C0000000000000CC", "01JD8Q7ZK3D0000000000000DD"]
    for number, boot in enumerate(boots):
        one.on_state(state(boot=boot), (2 + number) * S)
    assert one.look(7 * S).reason == "daemon-died"


def test_usual_begins_anew_with_another_model():
    usual = Usual()
    for number in range(1, 11):
        usual.add(part(number, "reject"))
    usual.add(part(11, model=OTHER_MODEL))
    assert usual.shares() == Shares(0, 0, 0, 1)
    assert usual.shares(OTHER_MODEL) == Shares(10, 0, 0, 10)  # the one on trial is not what was usual
    usual.add(part(12))
    assert usual.shares() == Shares(10, 0, 0, 11)  # it is back, and what was known of it, too
    for number in range(13, 20):
        usual.add(part(number, model=f"{number}{OTHER_MODEL[2:]}"))
    assert len(usual._models) == 3


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [("22:00-04:30", "03:59", "04:30"), ("22:00-04:30", "22:00", "21:59"), ("08:00-16:00", "12:00", "16:00")],
)
def test_windows(window, inside, outside):
    def at(clock):
        hours, minutes = clock.split(":")
        return (20_000 * 86_400 + int(hours) * 3600 + int(minutes) * 60) * 1_000_000

    assert is_open([], at(outside))
    assert is_open([window], at(inside))
    assert not is_open([window], at(outside))


@pytest.fixture
def operator(tmp_path):
    generate_key(tmp_path / "operator.key")
    (tmp_path / "trusted").mkdir()
    (tmp_path / "operator.key.pub").rename(tmp_path / "trusted" / "operator.pub")
    return load_private(tmp_path / "operator.key"), TrustStore.from_folders([tmp_path / "trusted"])


def desired(**changes):
    plain = Desired(DESIRED_SCHEMA, "plant1", "tiny", 1, "follow", "stable", 0, ["22:00-04:30"], 2, "me", "0" * 64)
    return msgspec.structs.replace(plain, **changes)


def test_a_desired_state_comes_back_as_it_was_signed(operator):
    key, trust = operator
    opened = open_desired(sign_desired(desired(), key), trust)
    assert (opened.site, opened.mode, opened.windows) == ("plant1", "follow", ["22:00-04:30"])


@pytest.mark.parametrize("place", [0, 30, 60, 200, -3, -140])
def test_any_changed_byte_is_refused(operator, place):
    key, trust = operator
    payload = bytearray(sign_desired(desired(), key))
    payload[place] ^= 1
    with pytest.raises(ContractError):
        open_desired(bytes(payload), trust)


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"x" * 5000, b',"sig":"' + b"g" * 128 + b'"}'], ids=["empty", "object", "long", "hex"]
)
def test_what_is_no_desired_state_is_refused(operator, payload):
    with pytest.raises(ContractError):
        open_desired(payload, operator[1])


def test_a_stranger_is_no_operator(operator):
    with pytest.raises(ContractError, match="not signed by an operator this box trusts"):
        open_desired(sign_desired(desired(), operator[0]), TrustStore())


def test_a_pin_needs_its_version(operator):
    with pytest.raises(ContractError, match="expected a version with mode pin"):
        sign_desired(desired(mode="pin"), operator[0])


def signed_as(schema, message, key):
    """A message as its signer wrote it, whatever is in it."""
    head = msgspec.json.encode(message)[:-1]
    return head + b',"sig":"' + key.sign(schema.encode() + b"\n" + head).hex().encode() + b'"}'


def of_major_1(key, **changes):
    plain = msgspec.to_builtins(desired())
    del plain["to"]
    return {**plain, "sch": DESIRED_1, "key": key_id(key.public_key()), **changes}


def test_a_desired_state_of_major_1_is_still_obeyed(operator):
    """One lies on the box's disk and on the broker when its software is renewed: a pin must hold. It names no box."""
    key, trust = operator
    opened = open_desired(signed_as(DESIRED_1, of_major_1(key, mode="pin", version=3), key), trust)
    assert (opened.mode, opened.version, opened.to) == ("pin", 3, "")


def test_majors_do_not_mix(operator):
    """A field of major 2 in a message of major 1, and a signature over one major under the name of another."""
    key, trust = operator
    with pytest.raises(ContractError, match=r"to came with onbelt\.update-desired/2"):
        open_desired(signed_as(DESIRED_1, of_major_1(key, to="onbelt/v1/a/b/c/d"), key), trust)
    with pytest.raises(ContractError, match=r"signed as onbelt\.update-desired/2, says onbelt\.update-desired/1"):
        open_desired(signed_as(DESIRED_SCHEMA, of_major_1(key), key), trust)
    with pytest.raises(ContractError, match="expected schema"):
        open_desired(signed_as(DESIRED_SCHEMA, of_major_1(key, sch="onbelt.update-desired/3"), key), trust)
