"""The updater step by step: a good model comes in, bad ones are refused with the right reason, and nothing ever mixes."""

import dataclasses
import hashlib
import subprocess

import msgspec
import pytest

from edge.errors import UpdateError
from edge.update.machine import MAX_GUARDS, Watched
from edge.update.prove import Proof, run_proof
from edge.update.reasons import PUT_OFF, REFUSED
from edge.update.release import model_path
from edge.update.state import Step, load_state
from edge.update.store import ModelStore
from export.repository.models import _give, withdraw
from tests.support.bundles import make_tiny_bundle
from tests.support.update_box import GOOD, Box
from tests.support.update_site import PRODUCT, SITE, UpdateSite


@pytest.fixture
def site(tmp_path):
    return UpdateSite(tmp_path / "site")


@pytest.fixture
def box(tmp_path, site):
    """A box that runs version 1."""
    site.publish(1)
    one = Box(tmp_path / "box", site)
    assert one.update().committed.version == 1
    return one


def refused(box, site, version=2, **variant):
    """Publish a bad model and let the box try it: (reason, text)."""
    before = box.running
    site.publish(version, **variant)
    state = box.update()
    assert state.step is Step.IDLE
    assert state.committed.version == 1
    assert box.running == before
    assert state.refused[-1].reason == state.reason
    assert state.reason in REFUSED
    return state.reason, state.text


def test_reasons_of_both_kinds_do_not_overlap():
    assert not set(PUT_OFF) & set(REFUSED)


def test_first_install_and_an_update(box, site):
    first = box.running
    published = site.publish(2, limit=0.9)
    state = box.update()
    assert (state.committed.version, state.previous.version) == (2, 1)
    assert hashlib.sha256(box.running).hexdigest() == published.sha256
    steps = [one.step.value for one in box.reports]
    assert steps[steps.index("download", 5) :] == ["download", "verify", "prove", "switch", "guard", "guard", "idle"]
    assert state.committed.ref.startswith("efficientad-s@sha256:")
    # The one before it never left the disk.
    assert (box.store.models / f"{state.previous.sha256}.onbelt").read_bytes() == first


def test_what_runs_already_is_not_brought_again(box):
    count = len(box.reports)
    box.update()
    assert len(box.reports) == count


def test_a_downgrade_is_newer_metadata_that_names_the_older_model(box, site):
    site.publish(2)
    box.update()
    site.promote(1)
    assert box.update().committed.version == 1


# --- bad models, each with its reason ---------------------------------------------------------------------------------------


def test_wrong_product(box, site):
    """A bundle for another product under this product's path: the publisher's key was misused."""
    path, _, _ = make_tiny_bundle(site.folder / "bundle", version=2, product="other", name="other")
    publish_as_is(site, path.read_bytes(), 2)
    reason_text = tried(box)
    assert reason_text[0] == "wrong-product"
    assert reason_text[1] == "expected a model for tiny, got one for other"


def test_unsigned(box, site):
    """Signed by a key the box's trust folder does not hold; the repository's own keys do not help."""
    path, _, _ = make_tiny_bundle(site.folder / "stranger-bundle", version=2)
    publish_as_is(site, path.read_bytes(), 2)
    assert tried(box)[0] == "bundle-unsigned"


@pytest.mark.parametrize("damage", ["truncated", "appended", "flipped"])
def test_a_damaged_bundle_in_a_well_signed_repository(box, site, damage):
    path, _, _ = make_tiny_bundle(site.folder / "bundle", version=2)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    publish_as_is(site, bytes(content[:-9] if damage == "truncated" else content + b"x" * (damage == "appended")), 2)
    assert tried(box)[0] == "bundle-damaged"


def test_wrong_version(box, site):
    path, _, _ = make_tiny_bundle(site.folder / "bundle", version=9)
    publish_as_is(site, path.read_bytes(), 2)
    assert tried(box) == ("wrong-version", "expected version 2 as published, the bundle says 9")


def test_too_old(box, site):
    site.publish(3)
    site.publish(4, minimum=3)
    box.update()
    release = dataclasses.replace(box.source.version(1), minimum=0)
    with pytest.raises(UpdateError) as caught:
        box.machine.offer(release)
    assert caught.value.reason == "too-old"
    assert box.machine.state.committed.version == 4


def test_golden_frames_do_not_match(box, site):
    reason, text = refused(box, site, golden_error=0.01)
    assert reason == "golden"
    assert text.startswith("golden frame golden/good.png: expected raw")


def test_not_a_number(box, site):
    reason, text = refused(box, site, nan_above=10.0)
    assert reason == "not-finite"
    assert "expected finite scores" in text


def test_drifted_limit(box, site):
    """Consistent with itself, every golden frame holds, and it passes every part: the running model's frames tell."""
    reason, text = refused(box, site, limit=50.0)
    assert reason == "disagrees"
    assert "it scores 2.00 of the limit there and 0.04 here" in text


def test_too_slow(box, site):
    reason, text = refused(box, site, budget_ms=0.001)
    assert reason == "slow-model"
    assert "the budget is 0.001 ms" in text


def test_too_large_in_memory(tmp_path, site):
    site.publish(1)
    box = Box(tmp_path / "small", site, memory_mb=1.0)
    state = box.update()
    assert (state.committed, state.reason) == (None, "memory")


def test_a_certificate_is_asked_for(tmp_path, site):
    site.publish(1)
    state = Box(tmp_path / "strict", site, certificate=True).update()
    assert (state.committed, state.reason) == (None, "certificate")


def test_a_model_no_engine_can_run(box, site):
    reason, _ = refused(box, site, model=b"\x08\x0a" + b"\x00" * 64)
    assert reason == "engine"


def test_the_guard_sends_it_back(box, site):
    first = box.running
    box.verdict = Watched("rejects", "40 of 60 parts rejected")
    site.publish(2)
    state = box.update()
    assert (state.committed.version, state.reason, state.text) == (1, "rejects", "40 of 60 parts rejected")
    assert box.running == first


def test_a_refused_model_is_not_tried_again_until_asked_for(box, site):
    refused(box, site, golden_error=0.01)
    with pytest.raises(UpdateError) as caught:
        box.update()
    assert caught.value.reason == "refused-before"
    assert box.update(serial=7).reason == "golden"  # an operator's new desired state tries it once more
    with pytest.raises(UpdateError):
        box.update(serial=7)


def test_a_better_version_after_a_refused_one(box, site):
    refused(box, site, golden_error=0.01)
    site.publish(3)
    assert box.update().committed.version == 3


# --- a repository in trouble, a disk in trouble ------------------------------------------------------------------------------


def test_withdrawn_between_look_and_fetch(box, site):
    site.publish(2)

    def withdraw_it():
        site.promote(1)
        withdraw(site.repository, SITE, PRODUCT, 2, site.keys)

    state = box.update(before=withdraw_it)
    assert (state.committed.version, state.reason, state.refused) == (1, "not-listed", ())


def test_the_repository_is_gone(box, site):
    site.repository.folder.rename(site.folder / "elsewhere")
    with pytest.raises(UpdateError) as caught:
        box.update()
    assert caught.value.reason == "unreachable"
    assert box.start().machine.state.committed.version == 1
    assert box.running


def test_no_room_on_the_disk(box, site):
    site.publish(2)
    box.store._reserve_bytes = 2**60
    state = box.update()
    assert (state.reason, state.step, state.refused) == ("disk-full", Step.IDLE, ())
    box.store._reserve_bytes = 0
    assert box.update().committed.version == 2


def test_the_state_is_lost(box):
    """Whoever damaged it, the running model goes on and is adopted."""
    box.store.state.write_bytes(b"{")
    state = box.start().machine.state
    assert (state.committed.version, state.reason) == (1, "malformed")


def test_the_link_is_lost(box):
    content = box.running
    box.store.current.unlink()
    box.start()
    assert box.running == content


def test_a_torn_download_is_fetched_again(box, site):
    site.publish(2)
    box.machine.offer(box.source.channel("stable"))
    box.machine.advance()
    box.store.staged(box.machine.state.candidate.sha256).write_bytes(b"torn")
    assert box.start().finish().committed.version == 2


def test_a_proved_model_the_disk_lost_is_fetched_again(box, site):
    site.publish(2)
    box.machine.offer(box.source.channel("stable"))
    while box.machine.state.step is not Step.SWITCH:
        box.machine.advance()
    box.store.path(box.machine.state.candidate.sha256).write_bytes(b"rot")
    box.machine.advance()
    assert box.machine.state.step.value == "download"
    assert box.finish().committed.version == 2


def test_a_box_that_dies_in_every_guard_goes_back(box, site):
    site.publish(2)

    class PowerCutError(Exception):
        pass

    def die(_model):
        raise PowerCutError

    box._guard = die
    box.start()
    box.machine.offer(box.source.channel("stable"))
    for _ in range(MAX_GUARDS):
        with pytest.raises(PowerCutError):
            box.finish()
        box.start()
        assert box.machine.state.step is Step.GUARD
    state = box.finish()
    assert (state.committed.version, state.reason) == (1, "daemon-died")
    assert hashlib.sha256(box.running).hexdigest() == state.committed.sha256


def test_the_switch_waits_for_its_window(box, site):
    first = box.running
    site.publish(2)
    box.held = Watched("window", "opens at 22:00 UTC")
    box.machine.offer(box.source.channel("stable"))
    for _ in range(6):
        box.machine.advance()
    assert (box.machine.state.step, box.machine.state.reason) == (Step.SWITCH, "window")
    assert box.running == first
    box.held = GOOD
    assert box.finish().committed.version == 2


def test_only_three_models_stay_on_the_disk(box, site):
    for version in range(2, 7):
        site.publish(version)
        box.update()
    assert len(list(box.store.models.iterdir())) == 2
    assert not list(box.store.staging.glob("*.onbelt"))


def test_state_of_a_newer_schema_is_refused(tmp_path):
    store = ModelStore(tmp_path)
    store.state.write_bytes(msgspec.json.encode({"schema": 2}))
    with pytest.raises(UpdateError, match="expected schema 1, got 2"):
        load_state(store.state)


# --- the proof's own process -------------------------------------------------------------------------------------------------


def test_the_proof_as_a_process_of_its_own(box, site):
    path, _, _ = make_tiny_bundle(site.folder / "bundle", version=2)
    proof = run_proof(path, box.store.current, box.proof_settings)
    assert proof.reason == "", proof
    assert proof.compared == 3
    assert proof.memory_mb > 10


def test_a_proof_that_dies_or_hangs_is_a_refusal(tmp_path, box, monkeypatch):
    settings = dataclasses.replace(box.proof_settings, seconds=0.001)
    assert run_proof(box.store.current, None, settings).reason == "prove-failed"
    died = subprocess.CompletedProcess([], -9, b"", b"")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: died)
    assert run_proof(box.store.current, None, box.proof_settings) == Proof(
        "prove-failed", "the proof ended with SIGKILL and no answer: "
    )


# --- helpers -----------------------------------------------------------------------------------------------------------------


def publish_as_is(site, content, version):
    """List these bytes as a model, without the checks `onbelt repo publish` makes."""
    role = site.repository.targets_of(f"{SITE}~{PRODUCT}")
    path = model_path(SITE, PRODUCT, version)
    role.signed.targets[path] = site.repository.add_target(path, content)
    _give(site.repository, role, SITE, PRODUCT, "stable", version, 0)
    site.repository.write({f"{SITE}~{PRODUCT}": role}, site.keys)


def tried(box):
    before = box.running
    state = box.update()
    assert (state.step, state.committed.version) == (Step.IDLE, 1)
    assert box.running == before
    return state.reason, state.text
