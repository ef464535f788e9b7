"""Many boxes in a few processes: each has its own updater (the real service, store, metadata client and broker connection).

python tests/support/fleet_boxes.py FOLDER INDEX OF     runs every OF-th box from INDEX on; prints "ready" when all are connected

What is light: a numpy engine in place of a real one, the proof in this process in place of one of its own, no comparison in the
shadow; and one thread that stands for the daemons of all boxes here: it looks where each link points, as a daemon does, and
says over MQTT what a daemon says. `fleet.json` in FOLDER describes the boxes; `FAULTS` says what can be wrong with one.
"""

import hashlib
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.bundle.reader import open_bundle
from edge.engine.base import Scores
from edge.errors import EngineError
from edge.mqtt.connection import Connection
from edge.mqtt.settings import Broker
from edge.update.config import load_update_config
from edge.update.prove import Proof, prove_on
from edge.update.service import UpdateService
from edge.update.state import Step
from edge.wire.station import BIRTH, STATE, STATUS
from edge.wire.topics import BIRTH as BIRTH_TOPIC
from edge.wire.topics import STATE as STATE_TOPIC
from edge.wire.topics import STATUS as STATUS_TOPIC
from edge.wire.topics import VERDICT, Topics
from edge.wire.verdict import encode_verdict
from tests.support.gate_messages import make_birth, make_state, make_status, make_verdict
from tests.support.station import NumpyEngine

TICK_S = 0.5
PARTS_A_TICK = 3
USUAL = 40  # parts a station judges after its model has changed, also when nobody watches
FAULTS = {
    "engine": "its engine cannot run the model",
    "not-taken": "its daemon never takes another model",
    "rejects": "on its line the new model rejects two parts of three",
    "dies": "it goes offline in the middle of the update",
    "disk-full": "no room on its disk",
    "unreachable": "it cannot reach the repository",
}


class LightEngine(NumpyEngine):
    """The tiny graph in numpy; every frame is computed once for all boxes of a process, since all prove the same models."""

    known: ClassVar[dict[bytes, Scores]] = {}

    def __init__(self, *, broken: bool) -> None:
        super().__init__()
        if broken:
            self.fail_with = EngineError("the driver is too old for this model")

    def infer(self, frame: NDArray[np.uint8]) -> Scores:
        if self.fail_with is not None:
            raise self.fail_with
        key = frame.tobytes()
        if key not in self.known:
            self.known[key] = super().infer(frame)
        return self.known[key]


class LightService(UpdateService):
    """The real service, which proves in its own process."""

    broken = False

    def _prove(self, new: Path, previous: Path | None) -> Proof:
        trust = self._trust
        before = open_bundle(previous, trust) if previous else None
        bundle = open_bundle(new, trust)
        with LightEngine(broken=self.broken and bundle.manifest.version > 1) as engine:
            return prove_on(engine, bundle, before, self._proof)


def toml(keys: dict[str, Any]) -> str:
    """Keys and values as lines; what JSON and TOML write alike."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


class FleetBox:
    """One box: its files, its updater, and what its station says."""

    def __init__(self, folder: Path, number: int, fault: str, fleet: dict[str, Any]) -> None:
        self.number = number
        self.fault = fault
        self.state = folder / "update"
        self.link = str(self.state / "current")
        folder.mkdir(parents=True)
        name = f"box{number:04d}"
        self.names = Topics(fleet["site"], "hall2", f"line{number // 100}", name)
        self.boot = f"01JD8Q7ZK3{number:016d}"
        model = {"bundle": str(self.state / "current"), "trust": [fleet["trust"]], "threads": 1, "engine": "onnxruntime"}
        sections: dict[str, dict[str, Any]] = {
            "station": {"site": fleet["site"], "area": "hall2", "line": self.names.line, "station": name},
            "model": {**model, "budget_ms": 60_000.0},  # a thousand boxes share two cores: no clock is judged here
            "deadline": {"valid_ms": 400.0},
            "camera": {"kind": "belt"},
            "journal": {"path": "journal.db"},
            "page": {"enabled": False},
            "trigger": {"listen": "127.0.0.1:0"},
            "mqtt": {"port": fleet["port"], "keepalive_s": 60},  # a box may wait long for its turn
        }
        lines = (f"[{section}]\n" + toml(keys) for section, keys in sections.items())
        (folder / "station.toml").write_text("".join(lines))
        keys = {
            "station": "station.toml",
            "metadata_url": fleet["metadata_url"] if fault != "unreachable" else "file:///nowhere/metadata/",
            "target_url": fleet["target_url"],
            "root": fleet["root"],
            "product": fleet["product"],
            "folder": str(self.state),
            "operators": [fleet["operators"]],
            "poll_s": 86_400.0,  # the desired state alone drives it
            "reserve_mb": 1.0 if fault != "disk-full" else 1e9,
            "memory_mb": 1e6,  # all boxes of a process share its memory
            "shadow_parts": 0,
            "guard_parts": 20,
            "guard_s": 1.0,
            "take_s": fleet["take_s"],
            "arm_s": 30.0,
        }
        (folder / "update.toml").write_text(toml(keys))
        self.service = LightService(*load_update_config(folder / "update.toml"))
        self.service.broken = fault == "engine"
        self.service.install(Path(fleet["first"]))
        self.runs = ""
        self.dead = False
        self.parts = 0
        self.thread = threading.Thread(target=self.service.run, daemon=True)

    def tick(self, voice: Connection, models: dict[str, dict[str, Any]], payloads: dict[tuple[str, str], bytes]) -> None:
        """What the daemon of this box does in half a second."""
        if self.dead:
            return
        machine = self.service.machine
        if self.fault == "dies" and machine.state.step is Step.GUARD:
            self.dead = True
            self.service.stop()
            voice.keep(self.names.topic(STATUS_TOPIC), STATUS.encode(make_status("offline", self.boot)))
            return
        target = self._target()
        if target != self.runs and target in models and (not self.runs or self.fault != "not-taken"):
            self.runs, self.parts = target, 0  # what is usual is counted anew for each model
            model = models[target]["ref"]
            voice.keep(self.names.topic(STATE_TOPIC), STATE.encode(msgspec.structs.replace(make_state(self.boot), model=model)))
            voice.keep(self.names.topic(BIRTH_TOPIC), BIRTH.encode(msgspec.structs.replace(make_birth(self.boot), model=model)))
            voice.keep(self.names.topic(STATUS_TOPIC), STATUS.encode(make_status("online", self.boot)))
        if self.parts < USUAL or machine.state.step is Step.GUARD:
            self._judge(voice, models[self.runs], payloads)

    def _judge(self, voice: Connection, model: dict[str, Any], payloads: dict[tuple[str, str], bytes]) -> None:
        worse = model["worse"] or (self.fault == "rejects" and model["version"] > 1)
        for _ in range(PARTS_A_TICK):
            self.parts += 1
            bad = self.parts % 20 == 0 or (worse and self.parts % 3 != 0)
            key = (model["ref"], "reject" if bad else "pass")
            if key not in payloads:
                payloads[key] = encode_verdict(make_verdict(self.parts, key[1], model=key[0]))
            voice.publish(self.names.topic(VERDICT, "g1"), payloads[key], qos=0)

    def _target(self) -> str:
        try:
            return os.path.basename(os.readlink(self.link)).removesuffix(".onbelt")  # noqa: PTH115, PTH119 - a thousand, twice a second
        except OSError:
            return ""

    def whole(self, models: dict[str, dict[str, Any]]) -> str:
        """What is wrong with what this box would run, or empty."""
        content = (self.state / "current").read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in models:
            return f"box {self.number}: runs a file nobody published"
        state = self.service.machine.state
        if state.step is Step.IDLE and (state.committed is None or state.committed.sha256 != sha256):
            return f"box {self.number}: runs {models[sha256]['version']}, has committed {state.committed}"
        return ""


def main() -> None:
    """Run the boxes until the input ends; then say what each would run."""
    folder, index, of = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    logging.basicConfig(level=logging.CRITICAL)
    fleet = json.loads((folder / "fleet.json").read_text())
    boxes = [
        FleetBox(folder / "boxes" / f"{number:04d}", number, fleet["faults"].get(str(number), ""), fleet)
        for number in range(index, fleet["boxes"], of)
    ]
    voice = Connection(Broker("127.0.0.1", fleet["port"]), f"daemons-{index}", queue=20_000, quiet=True)
    voice.start()
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    payloads: dict[tuple[str, str], bytes] = {}
    for box in boxes:
        box.thread.start()
    said = False
    while not ended.is_set():
        begin = time.monotonic()
        for box in boxes:
            box.tick(voice, fleet["models"], payloads)
        if not said and all(box.parts >= USUAL and box.service.ear.connection.connected for box in boxes):
            said = True
            print("ready", flush=True)
        ended.wait(max(0.05, TICK_S - (time.monotonic() - begin)))
    wrong = [text for text in (box.whole(fleet["models"]) for box in boxes) if text]
    print(json.dumps(wrong), flush=True)
    os._exit(0)  # a thousand threads need not be joined one by one


if __name__ == "__main__":
    main()
