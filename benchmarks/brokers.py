"""Latency of one verdict through each broker while inference owns the processor.

    python benchmarks/brokers.py --seconds 20
    python benchmarks/brokers.py --brokers mosquitto,amqtt --rounds 3 --json

Three real processes per measurement: broker, publisher (which also computes, as the daemon does), subscriber (the gate).
A verdict-sized message (900 bytes, QoS 1) is published 11 times a second; the payload carries CLOCK_MONOTONIC, which all
processes of a machine share. Loads:

    idle      nothing computed
    line      a 55 ms matrix product on all cores before each message, as one inference of the demo's model takes
    full      matrix products back to back on all cores while the messages go out
    overload  `full`, and one more busy process per core

The brokers take turns inside each round, so that a change of the machine's mood hits all of them. docs/adr/0003 quotes it.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

LOADS = ("idle", "line", "full", "overload")
RATE_HZ = 11.0
PAYLOAD_BYTES = 900
BURST_MS = 55.0
TOPIC = "onbelt/v1/bench/verdict"

_AMQTT = """
import asyncio, sys
from amqtt.broker import Broker
config = {"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}}, "sys_interval": 0,
          "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}}
async def main():
    broker = Broker(config)
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _installed() -> list[str]:
    found = []
    if shutil.which("mosquitto"):
        found.append("mosquitto")
    found += [name for name, module in (("rumqtt", "iotcore"), ("amqtt", "amqtt")) if importlib.util.find_spec(module)]
    return found


@contextlib.contextmanager
def _broker(name: str, folder: Path, nice: int) -> Iterator[int]:
    port = _free_port()
    if name == "mosquitto":
        conf = folder / "mosquitto.conf"
        conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        argv = ["mosquitto", "-c", str(conf)]
    else:
        program = ["-c", _AMQTT] if name == "amqtt" else ["-m", "edge.broker.embedded"]
        argv = [sys.executable, *program, str(port)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if nice:
        os.setpriority(os.PRIO_PROCESS, process.pid, nice)
    try:
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if time.monotonic() > end:
                raise SystemExit(f"{name} did not listen on port {port} within 20 s")
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def _client(port: int, name: str, protocol: str) -> mqtt.Client:
    # amqtt speaks MQTT 3.1.1 only; the demo's embedded broker listens for MQTT 5 only.
    version = mqtt.MQTTv5 if protocol == "5" else mqtt.MQTTv311
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=version)
    client.connect("127.0.0.1", port, keepalive=30)
    return client


def _publish(port: int, protocol: str, load: str, seconds: float) -> None:
    """The daemon's part: compute, then publish."""
    client = _client(port, "bench-publisher", protocol)
    client.loop_start()
    a = np.ones((1024, 1024), np.float32)
    stop = threading.Event()

    def burn() -> None:
        while not stop.is_set():
            np.matmul(a, a)

    if load in {"full", "overload"}:
        threading.Thread(target=burn, daemon=True).start()
    period = 1.0 / RATE_HZ
    start = time.monotonic()
    for n in range(int(seconds * RATE_HZ)):
        due = start + n * period
        time.sleep(max(0.0, due - time.monotonic()))
        if load == "line":
            until = time.monotonic() + BURST_MS / 1000
            while time.monotonic() < until:
                np.matmul(a, a)
        stamp = b"%d " % time.monotonic_ns()
        client.publish(TOPIC, stamp + b"x" * (PAYLOAD_BYTES - len(stamp)), qos=1)
    time.sleep(1.0)
    stop.set()
    client.disconnect()
    client.loop_stop()


def _subscribe(port: int, protocol: str) -> None:
    """The gate's part: print the latency of each message in ms, one a line, until told to stop."""
    client = _client(port, "bench-subscriber", protocol)

    def on_message(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        now = time.monotonic_ns()
        print((now - int(message.payload.split(b" ", 1)[0])) / 1e6, flush=True)

    def on_connect(*_: Any) -> None:
        client.subscribe(TOPIC, qos=1)

    def on_subscribe(*_: Any) -> None:
        print("ready", flush=True)

    client.on_message, client.on_connect, client.on_subscribe = on_message, on_connect, on_subscribe
    signal.signal(signal.SIGTERM, lambda *_: client.disconnect())
    client.loop_forever()


def _measure(name: str, load: str, seconds: float, nice_broker: int, nice_publisher: int) -> list[float]:
    me = [sys.executable, str(Path(__file__).resolve()), "--protocol", "3.1.1" if name == "amqtt" else "5"]
    with tempfile.TemporaryDirectory() as folder, _broker(name, Path(folder), nice_broker) as port:
        gate = subprocess.Popen([*me, "--role", "subscribe", "--port", str(port)], stdout=subprocess.PIPE, text=True)
        assert gate.stdout is not None
        if gate.stdout.readline().strip() != "ready":
            raise SystemExit(f"{name}: the subscriber was not accepted")
        busy = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"])
            for _ in range((os.cpu_count() or 1) if load == "overload" else 0)
        ]
        try:
            daemon = [*me, "--role", "publish", "--port", str(port), "--load", load, "--seconds", str(seconds)]
            subprocess.run(["nice", "-n", str(nice_publisher), *daemon], check=True, timeout=seconds * 3 + 60)
        finally:
            for process in busy:
                process.kill()
                process.wait()
            gate.terminate()
        out, _ = gate.communicate(timeout=10)
        return [float(line) for line in out.split()]


def main() -> None:
    """Measure and print one row per broker and load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", default="", help="comma-separated; default: all that are installed")
    parser.add_argument("--loads", default=",".join(LOADS), help="comma-separated")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of one measurement (default 20)")
    parser.add_argument("--rounds", type=int, default=2, help="how often the brokers take turns (default 2)")
    parser.add_argument("--nice-broker", type=int, default=0, help="priority of the broker; below 0 needs root")
    parser.add_argument("--nice-publisher", type=int, default=0, help="priority of the computing publisher")
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    parser.add_argument("--role", choices=["publish", "subscribe"], help=argparse.SUPPRESS)
    parser.add_argument("--protocol", choices=["5", "3.1.1"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--load", choices=LOADS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role == "publish":
        _publish(args.port, args.protocol, args.load, args.seconds)
        return
    if args.role == "subscribe":
        _subscribe(args.port, args.protocol)
        return
    brokers = args.brokers.split(",") if args.brokers else _installed()
    for load in args.loads.split(","):
        seen: dict[str, list[float]] = {name: [] for name in brokers}
        for _ in range(args.rounds):
            for name in brokers:
                seen[name] += _measure(name, load, args.seconds, args.nice_broker, args.nice_publisher)
        for name, latencies in seen.items():
            p50, p99 = np.percentile(latencies, [50, 99])
            row = {
                "load": load,
                "broker": name,
                "n": len(latencies),
                "sent": args.rounds * int(args.seconds * RATE_HZ),
                "p50_ms": round(float(p50), 2),
                "p99_ms": round(float(p99), 2),
                "max_ms": round(max(latencies), 2),
            }
            text = f"{load:9} {name:10} n {row['n']}/{row['sent']}  p50 {p50:7.2f}  p99 {p99:7.2f}  max {max(latencies):7.2f} ms"
            print(json.dumps(row) if args.json else text, flush=True)


if __name__ == "__main__":
    main()
