"""Stages that most stations do not have: anchors of the journal, the Sparkplug node. They end with everything else."""

import threading
from collections.abc import Callable
from pathlib import Path

from edge.clock import Clock
from edge.config.station import StationConfig
from edge.daemon.pulse import Pulse
from edge.daemon.stages.anchoring import Anchoring
from edge.daemon.stages.figures import Figures
from edge.daemon.stages.publish import Publisher
from edge.daemon.state.phase import Station
from edge.daemon.talk.sparkplug import SparkplugBridge
from edge.mqtt.link import Link
from edge.wire import topics

Run = Callable[[threading.Event], None]


def extra_stages(
    config: StationConfig, publisher: Publisher, rest: Link, station: Station, figures: Figures, pulse: Pulse, clock: Clock
) -> list[tuple[str, Run]]:
    """Those the configuration asks for, by name. Raises ConfigError: a key is missing."""
    found: list[tuple[str, Run]] = []
    key = config.anchor_key()
    if key is not None:
        who, audit = publisher.who, config.topics().topic(topics.AUDIT)
        anchoring = Anchoring(
            Path(config.journal.path),
            who.station,
            who.boot,
            key,
            config.journal.anchor_s,
            lambda payload: rest.publish(audit, payload, qos=topics.AUDIT.qos) is not None,
            station,
            clock,
        )
        found.append(("anchors", anchoring.run))
    if config.bridge.sparkplug:
        bridge = SparkplugBridge(config, config.broker(), lambda: publisher.who, station, figures, pulse.tally, clock)
        found.append(("sparkplug", bridge.run))
    return found
