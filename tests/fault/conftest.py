"""One cell per broker for all fault tests: the belt runs on from test to test, as a line does."""

from collections.abc import Iterator

import pytest

from edge.broker.launch import BrokerKind, find_mosquitto
from tests.conftest import skip_unless
from tests.support.gate_cell import Cell

KINDS = (BrokerKind.EMBEDDED, BrokerKind.MOSQUITTO)


@pytest.fixture(scope="session")
def _cells() -> Iterator[dict[BrokerKind, Cell]]:
    cells: dict[BrokerKind, Cell] = {}
    yield cells
    for cell in cells.values():
        cell.close()


def _running(kind: BrokerKind, cells: dict[BrokerKind, Cell], tmp_path_factory: pytest.TempPathFactory) -> Cell:
    if kind in cells and not cells[kind].healthy:
        cells.pop(kind).close()
    if kind not in cells:
        cells[kind] = Cell(tmp_path_factory.mktemp(kind.value), kind)
        cells[kind].start()
    cells[kind].wait_for_passes(2)
    return cells[kind]


@pytest.fixture
def cell(_cells: dict[BrokerKind, Cell], tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A running line with the embedded broker, parts going through."""
    return _running(BrokerKind.EMBEDDED, _cells, tmp_path_factory)


@pytest.fixture(params=[BrokerKind.EMBEDDED, pytest.param(BrokerKind.MOSQUITTO, marks=pytest.mark.broker)], ids=lambda k: k.value)
def any_cell(request: pytest.FixtureRequest, _cells: dict[BrokerKind, Cell], tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A running line with each broker in turn."""
    kind: BrokerKind = request.param
    skip_unless(kind is BrokerKind.EMBEDDED or bool(find_mosquitto()), "mosquitto is not installed (apt-get install mosquitto)")
    return _running(kind, _cells, tmp_path_factory)
