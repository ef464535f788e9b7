"""The curve for the page: what another limit would do to the good parts the limit in force stands on."""

import json

import msgspec
import pytest

from edge.bundle.reader import open_bundle
from edge.limits.curve import Rate, false_rejects
from edge.page.live import LiveView
from tests.support.bundles import make_tiny_bundle


def test_the_curve_counts_the_calibration_parts_in_units_of_the_limit(tmp_path):
    path, trust, _ = make_tiny_bundle(tmp_path)
    bundle = open_bundle(path, trust)
    scores = sorted([0.01 * i for i in range(1, 200)] + [3.0])
    limit = msgspec.structs.replace(bundle.manifest.limit, raw=2.0)
    manifest = msgspec.structs.replace(bundle.manifest, calibration=scores, limit=limit)
    found = false_rejects(manifest, bundle.golden)
    assert found["n"] == 200
    assert found["highest"][0] == 1.5
    for at, above, low, high in found["points"]:
        assert above == sum(score > at * 2.0 * (1 + 1e-12) for score in scores)
        assert 0.0 <= low <= above / 200 <= high <= 1.0
    at_limit = next(point for point in found["points"] if point[0] == 1.0)
    assert at_limit[1] == 1
    assert at_limit[3] == pytest.approx(Rate.counted(1, 200).high)
    assert len(found["points"]) <= 90
    assert {verdict for _, _, verdict in found["golden"]} == {"pass", "reject"}
    view = LiveView()
    view.set_whatif(found)
    assert json.loads(view.whatif)["n"] == 200


def test_few_scores_make_a_curve_too(tmp_path):
    path, trust, _ = make_tiny_bundle(tmp_path)
    bundle = open_bundle(path, trust)
    for n in (1, 2, 9):
        found = false_rejects(msgspec.structs.replace(bundle.manifest, calibration=[0.1] * n), bundle.golden)
        assert (found["n"], found["points"][0][1]) == (n, 0)
