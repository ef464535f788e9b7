"""`onbelt export` offers what it can do."""

import argparse

import pytest

from edge.bundle.manifest import BRANCHES
from export.commands import export
from export.pipeline import PRECISIONS
from training.networks.detector import Fusion


def test_every_precision_that_is_offered_is_one_the_exporter_writes(capsys):
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    (precision,) = (action for action in parser._actions if action.dest == "precision")
    assert tuple(precision.choices or ()) == PRECISIONS
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["run", "data", "--out", "a.onbelt", "--precision", "fp16"])
    assert caught.value.code == 2
    assert "int8" in capsys.readouterr().err


def test_the_manifest_names_the_branches_that_have_no_weight():
    assert Fusion().uncounted == []
    assert Fusion(global_weight=0.0).uncounted == ["global"]
    assert Fusion(st_weight=0.0, ae_weight=0.5, global_weight=0.0).uncounted == ["st", "global"]
    assert sorted(Fusion(st_weight=0.0, ae_weight=0.0, global_weight=0.0).uncounted) == sorted(BRANCHES)
