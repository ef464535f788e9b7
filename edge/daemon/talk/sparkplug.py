"""The station as a Sparkplug B edge node, for SCADA that speaks it. Optional, off by default (`bridge.sparkplug`).

It only reads what the station counts anyway; nothing can be switched from there but another birth. Verdicts do not go this way:
a gate never reads it.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from edge import __version__
from edge.clock import Clock
from edge.config.station import StationConfig
from edge.daemon.stages.figures import Figures
from edge.daemon.stages.identity import Identity
from edge.daemon.state.oee import Tally
from edge.daemon.state.phase import OPC, Station
from edge.mqtt.settings import Broker
from edge.mqtt.sparkplug import Node
from edge.wire.sparkplug import DataType, Metric

PERIOD_S = 1.0
REASON_LENGTH = 240


class SparkplugBridge:
    """Tells a node's metrics once a second where they have changed.

    Args:
        config: names and files. broker: where.
        who: identity that judges now. station, figures: what is told. tally: the OEE's counters since the start.
        clock: labels.
    """

    def __init__(
        self,
        config: StationConfig,
        broker: Broker,
        who: Callable[[], Identity],
        station: Station,
        figures: Figures,
        tally: Callable[[], Tally],
        clock: Clock,
    ) -> None:
        self._who = who
        self._station = station
        self._figures = figures
        self._tally = tally
        names = config.station
        self.node = Node(
            broker,
            f"onbelt-{names.line}-{names.station}-s",
            config.bridge.sparkplug_group or names.site,
            f"{names.line}-{names.station}",
            Path(config.journal.path).with_suffix(".bdseq"),
            self.metrics(),
            clock,
        )

    def run(self, stop: threading.Event) -> None:
        """Until told to stop; then the node says its death."""
        self.node.start()
        while not stop.wait(PERIOD_S):
            self.node.update(self.metrics())
        self.node.close()

    def metrics(self) -> dict[str, Metric]:
        """Everything there is, by name; always the same names."""
        who, snapshot, tally = self._who(), self._station.snapshot(), self._tally()
        own_ms = self._figures.own_ms.percentiles(99)
        found = [
            Metric("Properties/Software", DataType.STRING, f"onbelt {__version__}"),
            Metric("Properties/Boot", DataType.STRING, who.boot),
            Metric("Armed", DataType.BOOLEAN, snapshot.armed),
            Metric("State", DataType.STRING, OPC[snapshot.phase]),
            Metric("Reason", DataType.STRING, "; ".join(snapshot.reasons)[:REASON_LENGTH]),
            Metric("Model/Name", DataType.STRING, who.model),
            Metric("Model/Recipe", DataType.STRING, who.recipe),
            Metric("Model/Limit", DataType.STRING, who.limit),
            Metric("Parts/Good", DataType.UINT64, tally.good),
            Metric("Parts/Bad", DataType.UINT64, tally.bad),
            Metric("Parts/Invalid", DataType.UINT64, tally.invalid),
            Metric("Parts/Uncertain", DataType.UINT64, tally.uncertain),
            Metric("Parts/Late", DataType.UINT64, self._figures.late),
            Metric("Time/Running s", DataType.DOUBLE, round(tally.running_s, 1)),
            Metric("Time/Idle s", DataType.DOUBLE, round(tally.idle_s, 1)),
            Metric("Time/Down s", DataType.DOUBLE, round(tally.down_s, 1)),
            Metric("Time/Overhead p99 ms", DataType.DOUBLE, own_ms[0] if own_ms else None),
        ]
        return {metric.name: metric for metric in found}
