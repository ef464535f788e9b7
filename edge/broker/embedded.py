"""rumqttd (written in Rust) from the wheel `iotcore`, as a process: the only file that imports it.

    python -m edge.broker.embedded PORT

MQTT 5 on loopback, nothing written to disk: retained messages live as long as the process, no session outlives its connection.
It ends with its parent.
"""

import logging
import sys
import tempfile
from pathlib import Path

from iotcore import IotCoreBroker

from edge.broker.lifeline import tie

MAX_CONNECTIONS = 64  # daemon 2, gate 1, the demo's observer 1; the rest for the curious

# Segments are rumqttd's memory per topic log: 10 of 1 MB each bound what slow subscribers can make it keep.
_CONFIG = """\
id = 0
[router]
id = 0
max_connections = {connections}
max_outgoing_packet_count = 200
max_segment_size = 1048576
max_segment_count = 10
[v5.1]
name = "loopback"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 0
[v5.1.connections]
connection_timeout_ms = 5000
max_payload_size = 65536
max_inflight_count = 100
dynamic_filters = true
"""


def main(argv: list[str]) -> int:
    """Serve on the port until killed."""
    port = int(argv[1])
    tie()
    # rumqttd logs each packet as an error span; only silence keeps that off the terminal.
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="onbelt-broker-") as folder:
        config = Path(folder) / "rumqttd.toml"
        config.write_text(_CONFIG.format(port=port, connections=MAX_CONNECTIONS))
        broker = IotCoreBroker(config_path=str(config))
    broker.run_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
