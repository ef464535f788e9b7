"""A station with a limit file of its own: daemon, proof and shadow judge a model with the limit it will have there."""

import logging
import sys
import time

import pytest

from edge.bundle.reader import open_bundle
from edge.bundle.signing import TrustStore, generate_key, load_private
from edge.daemon import build
from edge.errors import LimitError
from edge.limits.apply import model_hash
from edge.limits.file import write_limit
from edge.update.limited import limited
from edge.update.prove import ProofSettings, run_proof
from edge.update.shadowing import Shadowing, ShadowSettings
from edge.update.state import Model
from tests.support.bundles import make_tiny_bundle
from tests.support.limits import form_for
from tests.support.station import station_config

LOW = 0.69  # the largest of the limit file's scores; the bundles' own limit is 1.0 unless a test says otherwise


class Shop:
    """Bundles of one signer, and limit files for their networks."""

    def __init__(self, folder):
        self.folder = folder
        self.first = self.bundle(1)
        self.trust_folder = folder / "trusted"
        self.trust = TrustStore.from_folders([self.trust_folder])

    def bundle(self, version, **variant):
        """A signed bundle; `work` gives it another network."""
        path, _, _ = make_tiny_bundle(self.folder, version=version, **variant)
        return path.rename(self.folder / f"{version}.onbelt")

    def limit(self, bundle, raw=LOW, **form):
        """A limit file for the bundle's network, signed by a key this box has for limits."""
        key = self.folder / "box.key"
        if not key.exists():
            generate_key(key)
            (self.trust_folder / "limits").mkdir()
            key.with_name("box.key.pub").rename(self.trust_folder / "limits" / "box.pub")
        path = self.folder / "station.limit"
        write_limit(path, form_for(model_hash(open_bundle(bundle, self.trust)), raw, **form), load_private(key))
        return str(path)


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def test_a_limit_counts_for_its_network_and_no_other(shop, caplog):
    limit = shop.limit(shop.first)
    same = limited(open_bundle(shop.bundle(2, limit=0.8), shop.trust), limit, shop.trust)
    assert same.manifest.limit.raw == LOW
    with caplog.at_level(logging.WARNING):
        other = limited(open_bundle(shop.bundle(3, limit=0.8, work=1), shop.trust), limit, shop.trust)
    assert other.manifest.limit.raw == pytest.approx(0.8)
    assert "is for another network (tiny) than version 3" in caplog.text
    assert limited(other, "", shop.trust) is other


def test_a_limit_nobody_vouches_for_is_no_limit(shop):
    limit = shop.limit(shop.first)
    with pytest.raises(LimitError):
        limited(open_bundle(shop.first, shop.trust), limit, TrustStore())


def test_the_daemon_starts_with_the_next_network_where_an_updater_moves_the_link(shop, tmp_path):
    """With a plain file somebody has named two things that do not belong together; with a link the network has changed."""
    limit = shop.limit(shop.first)
    other = shop.bundle(2, work=1)
    link = tmp_path / "current"
    link.symlink_to(other)
    model = {"limit": limit, "trust": [str(shop.trust_folder)], "engine": "onnxruntime", "threads": 1}
    by_link = station_config(tmp_path, model={"bundle": str(link), **model})
    assert build.load_bundle(by_link).manifest.limit.raw == 1.0
    with pytest.raises(LimitError, match="expected a limit of model"):
        build.load_bundle(station_config(tmp_path, model={"bundle": str(other), **model}))
    link.unlink()
    link.symlink_to(shop.first)
    assert build.load_bundle(by_link).manifest.limit.raw == LOW


def test_a_proof_compares_with_the_limits_that_will_be_in_force(shop):
    """By its own limit the new model passes the running one's bad part. Here both judge by the station's: nothing changes."""
    new = shop.bundle(2, limit=3.0)
    limit = shop.limit(shop.first)
    plain = ProofSettings((str(shop.trust_folder),), "onnxruntime", 1)
    assert run_proof(new, shop.first, plain).reason == "disagrees"
    with_limit = ProofSettings((str(shop.trust_folder),), "onnxruntime", 1, limit=limit)
    assert run_proof(new, shop.first, with_limit).reason in {"", "busy"}


def test_a_limit_file_that_cannot_be_used_is_not_held_against_the_model(shop, tmp_path):
    limit = shop.limit(shop.first)
    (tmp_path / "station.limit").write_bytes(b"x" * 400)
    settings = ProofSettings((str(shop.trust_folder),), "onnxruntime", 1, limit=limit)
    assert run_proof(shop.bundle(2), None, settings).reason == "limit"
    models = tmp_path / "models"
    models.mkdir()
    (models / f"{'a' * 64}.onbelt").write_bytes(shop.first.read_bytes())
    shadowing = Shadowing(ShadowSettings(settings, 10), models, tmp_path, tmp_path / "reports")
    end = time.monotonic() + 120
    try:
        while (seen := shadowing.judge(Model("a" * 64, 1))).reason == "shadow" and time.monotonic() < end:
            sys.stdout.flush()
    finally:
        shadowing.end()
    assert seen.reason == "limit"
    assert "station.limit" in seen.text
