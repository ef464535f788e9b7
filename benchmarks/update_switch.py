"""A whole update under running parts: is a trigger missed, or a verdict late?

    python benchmarks/update_switch.py --report docs/update-switch.md
    python benchmarks/update_switch.py --only shipped --rate 8 --shadow-parts 40 --guard-parts 40

Two runs. "light" is the update at 30 parts a second: a graph of known arithmetic that takes about 10 ms of one core, as the
network does where a GPU runs it; "shipped" is the shipped INT8 network at the rate two cores without VNNI can carry while a
second engine is built and judges beside it.

Everything else is the product: `onbelt run` and `onbelt update run` as processes of their own, mosquitto, a repository on disk.
Parts are made before and read from files, since a line's camera costs the box no rendering. The next version is the same network
signed anew: download, proof, shadow, a second engine beside the first, switch, guard and commit are those of any other model, and
both must judge alike.

Exit status: 0 every trigger has its verdict in time and the new version is committed, 1 not, 2 there is no mosquitto.
"""

import argparse
import collections
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the repository with all its keys is test code

from benchmarks.page import made_by  # noqa: E402
from edge.broker.launch import end_process, find_mosquitto, free_port, wait_until  # noqa: E402
from edge.bundle import format as bundle_format  # noqa: E402
from edge.bundle.reader import open_bundle  # noqa: E402
from edge.bundle.signing import TrustStore, default_trust, generate_key, load_private, sign  # noqa: E402
from edge.camera.base import Trigger  # noqa: E402
from edge.camera.belt import BeltCamera  # noqa: E402
from export.repository import models, roles  # noqa: E402
from export.repository.keyring import Keyring  # noqa: E402
from export.repository.store import RepositoryFolder  # noqa: E402
from tests.support.bundles import bad_frame, good_frame, make_tiny_bundle  # noqa: E402
from tests.support.rig import Ear, Line  # noqa: E402

SITE = "plant1"
PICTURES = 60
SETTLE_PARTS = 150


class Site:
    """A repository with two versions of one model, the second not given to the channel yet."""

    def __init__(self, folder: Path, bundle: Path, trust: TrustStore) -> None:
        self.folder = folder
        opened = open_bundle(bundle, trust)
        self.product, self.size = opened.manifest.product, opened.manifest.size
        generate_key(folder / "signing.key")
        (folder / "trusted").mkdir()
        (folder / "signing.key.pub").rename(folder / "trusted" / "signing.pub")
        self.trust = TrustStore.from_folders([folder / "trusted"])
        key = load_private(folder / "signing.key")
        self.repository = RepositoryFolder(folder / "repo")
        roles.init(self.repository, folder / "keys", root_keys=3, threshold=2)
        generate_key(folder / "keys" / "publisher.key")
        self.keys = Keyring([folder / "keys"])
        roles.add_key(self.repository, f"{SITE}/{self.product}", folder / "keys" / "publisher.key.pub", self.keys)
        others = {k: v for k, v in opened.members.items() if k not in {bundle_format.MANIFEST, bundle_format.SIGNATURE}}
        for version in (1, 2):
            head = msgspec.json.encode(msgspec.structs.replace(opened.manifest, version=version))
            path = folder / f"{version}.onbelt"
            path.write_bytes(
                bundle_format.pack({**others, bundle_format.MANIFEST: head, bundle_format.SIGNATURE: sign(head, key)})
            )
            models.publish(self.repository, path, SITE, self.trust, self.keys, channel="stable" if version == 1 else "")
        (folder / "root.json").write_bytes((self.repository.metadata / "1.root.json").read_bytes())

    def promote(self) -> None:
        """Boxes may have the second version from now on."""
        models.promote(self.repository, SITE, self.product, 2, "stable", self.keys)


def belt_pictures(folder: Path) -> None:
    """The shipped product's parts, one in ten with a defect."""
    with BeltCamera("tray", 1, size=256, logical_share=0.05, structural_share=0.05) as camera:
        camera.start()
        for number in range(1, PICTURES + 1):
            frame = camera.grab(Trigger(number, time.monotonic_ns()), 5.0)
            save(np.asarray(frame.pixels), folder, number)


def light_pictures(folder: Path) -> None:
    """Parts the light graph knows, one in ten with a defect."""
    for number in range(1, PICTURES + 1):
        make = bad_frame if number % 10 == 0 else good_frame
        save(make(size=256, seed=number), folder, number)


def save(pixels: np.ndarray, folder: Path, number: int) -> None:
    """One part as a file."""
    Image.fromarray(pixels).save(folder / f"{number:04d}.png", compress_level=1)


@dataclass(frozen=True)
class Case:
    """What runs, and how fast."""

    name: str
    rate_hz: float
    make_bundle: Callable[[Path], tuple[Path, TrustStore]]
    make_pictures: Callable[[Path], None]


def _light(folder: Path) -> tuple[Path, TrustStore]:
    path, trust, _ = make_tiny_bundle(folder / "light", size=256, name="light", work=2)
    return path, trust


def _shipped(_: Path) -> tuple[Path, TrustStore]:
    return ROOT / "edge" / "data" / "demo.onbelt", default_trust()


CASES = (Case("light", 30.0, _light, light_pictures), Case("shipped", 5.0, _shipped, belt_pictures))


def configure(site: Site, case: Case, ports: tuple[int, int], args: argparse.Namespace) -> Path:
    """station.toml and update.toml; returns the latter."""
    folder = site.folder
    pictures = folder / "pictures"
    pictures.mkdir()
    case.make_pictures(pictures)
    sections: dict[str, dict[str, Any]] = {
        "station": {"site": SITE, "area": "hall2", "line": "line3", "station": "st2"},
        "model": {"bundle": str(folder / "update" / "current"), "trust": [str(folder / "trusted")]},
        "camera": {"kind": "folder"},
        "camera.folder": {"path": str(pictures), "loop": True},
        "trigger": {"listen": f"127.0.0.1:{ports[1]}"},
        "deadline": {"valid_ms": args.valid_ms},
        "journal": {"path": str(folder / "journal.db")},
        "evidence": {"path": str(folder / "evidence")},
        "page": {"enabled": False},
        "mqtt": {"port": ports[0]},
    }
    (folder / "station.toml").write_text("".join(f"[{name}]\n" + _lines(keys) for name, keys in sections.items()))
    update = {
        "station": "station.toml",
        "metadata_url": site.repository.metadata.as_uri() + "/",
        "target_url": site.repository.targets.as_uri() + "/",
        "root": "root.json",
        "product": site.product,
        "folder": str(folder / "update"),
        "poll_s": 1.0,
        "shadow_parts": args.shadow_parts,
        "guard_parts": args.guard_parts,
        "guard_s": 10.0,
    }
    (folder / "update.toml").write_text(_lines(update))
    return folder / "update.toml"


def _lines(keys: dict[str, Any]) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def onbelt(*words: str, wait: bool = False) -> subprocess.Popen[bytes]:
    """A command of the product."""
    process = subprocess.Popen([sys.executable, "-m", "edge.cli", *words], cwd=ROOT)
    if wait and process.wait() != 0:
        raise RuntimeError(f"onbelt {' '.join(words)} failed")
    return process


def run(folder: Path, case: Case, args: argparse.Namespace) -> dict[str, Any]:
    """One update under the belt; what was seen."""
    mqtt, udp = free_port(), free_port(socket.SOCK_DGRAM)
    (folder / "mosquitto.conf").write_text(f"listener {mqtt} 127.0.0.1\nallow_anonymous true\nlog_type error\n")
    processes = [subprocess.Popen([find_mosquitto(), "-c", str(folder / "mosquitto.conf")])]
    try:
        site = Site(folder, *case.make_bundle(folder))
        config = configure(site, case, (mqtt, udp), args)
        onbelt("update", "install", str(folder / "1.onbelt"), "--config", str(config), wait=True)
        ear, line = Ear(mqtt), Line(("127.0.0.1", udp))
        processes.append(onbelt("run", "--config", str(folder / "station.toml")))
        processes.append(onbelt("update", "run", "--config", str(config)))
        if not wait_until(lambda: bool(ear.last("state").get("armed")), 180.0):
            raise RuntimeError(f"the station is not armed: {ear.last('state')}")
        belt = Belt(line, args.rate or case.rate_hz)
        belt.until(lambda: belt.sent >= SETTLE_PARTS)
        site.promote()
        begin, first = time.monotonic(), belt.sent
        done = belt.until(lambda: (ear.last("update/reported").get("committed") or {}).get("version") == 2, args.longest_s)
        seconds, last = time.monotonic() - begin, belt.sent
        belt.until(lambda: belt.sent >= last + SETTLE_PARTS)
        wait_until(lambda: len(ear.verdicts()) + len(ear.verdicts("verdict-late")) >= belt.sent, 5.0)
        return measure(ear, belt, done, seconds, (first, last))
    finally:
        for process in reversed(processes):
            end_process(process, signal.SIGTERM, 20.0)


class Belt:
    """Parts at a steady rate, for as long as somebody waits for something."""

    def __init__(self, line: Line, rate_hz: float) -> None:
        self.sent = 0
        self.rate_hz = rate_hz
        self._line = line
        self._period_s = 1.0 / rate_hz
        self._next_s = time.monotonic()

    def until(self, true: Any, most_s: float = 600.0) -> bool:
        """Send parts until something holds; False when it did not in time."""
        end = time.monotonic() + most_s
        looked = 0.0
        while time.monotonic() < end:
            time.sleep(max(0.0, self._next_s - time.monotonic()))
            self._next_s = max(self._next_s + self._period_s, time.monotonic() - 1.0)
            self.sent = self._line.part()
            if time.monotonic() - looked > 0.2:
                looked = time.monotonic()
                if true():
                    return True
        return False


def measure(ear: Ear, belt: Belt, done: bool, seconds: float, window: tuple[int, int]) -> dict[str, Any]:
    """Triggers against verdicts."""
    verdicts, late = ear.verdicts(), ear.verdicts("verdict-late")
    seen = collections.Counter(one.part.trig for one in [*verdicts, *late])
    invalid = collections.Counter(reason for one in verdicts if one.verdict == "invalid" for reason in one.reason)
    parts = {"before": (0, window[0]), "during": window, "after": (window[1], belt.sent)}
    slack = {
        name: sorted(one.t.slack_ms for one in verdicts if first < one.part.trig <= last) for name, (first, last) in parts.items()
    }
    reports = [json.loads(payload) for payload in ear.payloads("update/reported")]
    steps = [one["step"] for number, one in enumerate(reports) if number == 0 or reports[number - 1]["step"] != one["step"]]
    return {
        "rate_hz": belt.rate_hz,
        "parts": belt.sent,
        "committed": done,
        "seconds": round(seconds, 1),
        "missing": sorted(set(range(1, belt.sent + 1)) - set(seen))[:20],
        "twice": sorted(trigger for trigger, count in seen.items() if count > 1)[:20],
        "late": len(late),
        "invalid": dict(invalid),
        "by_model": dict(collections.Counter(one.ctx.recipe for one in verdicts)),
        "valid_ms": verdicts[0].t.valid_ms if verdicts else 0.0,
        "slack_ms": {name: {"least": one[0], "p1": one[len(one) // 100]} for name, one in slack.items() if one},
        "steps": steps,
        "text": reports[-1]["text"] if reports else "",
    }


def good(found: dict[str, Any]) -> bool:
    """Committed, and every trigger judged once and in time."""
    return bool(found["committed"]) and not (found["missing"] or found["late"] or found["twice"] or found["invalid"])


def render(found: dict[str, dict[str, Any]]) -> str:
    """The page of results."""
    lines = [
        "# An update under a running belt",
        made_by("update-switch"),
        "Everything as on a box: daemon, updater and mosquitto as processes, a signed repository; the next version is the same",
        "network signed anew (`benchmarks/update_switch.py`).",
        "",
        "| network | parts/s | parts | no verdict | late | twice | without a judgement | least slack before / during / after |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        slack = " / ".join(f"{moment['least']:.0f}" for moment in one["slack_ms"].values())
        lines.append(
            f"| {name} | {one['rate_hz']:g} | {one['parts']} | {len(one['missing'])} | {one['late']} | {len(one['twice'])} "
            f"| {sum(one['invalid'].values())} | {slack} of {one['valid_ms']:g} ms |"
        )
    lines.append("")
    for name, one in found.items():
        verdicts = ", ".join(f"{count} {recipe}" for recipe, count in one["by_model"].items())
        steps = " -> ".join(one["steps"])
        lines.append(f"- {name}: committed {one['seconds']:g} s after it was published; verdicts {verdicts}; steps {steps}.")
    lines += [
        "",
        "`light` is a graph of about 10 ms on one core, in place of a network on a GPU: two cores without VNNI take 55 ms for",
        "the shipped one, which is why that runs at a lower rate (a second engine is built, proved and judges beside the first).",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=[case.name for case in CASES], help="one of the two runs")
    parser.add_argument("--rate", type=float, help="parts a second (default: light 30, shipped 5)")
    parser.add_argument("--valid-ms", type=float, default=300.0, help="ms a verdict has (default: %(default)s)")
    parser.add_argument("--shadow-parts", type=int, default=150, help="compared before the switch (default: %(default)s)")
    parser.add_argument("--guard-parts", type=int, default=300, help="watched after it (default: %(default)s)")
    parser.add_argument("--longest-s", type=float, default=400.0, help="s the update may take (default: %(default)s)")
    parser.add_argument("--report", type=Path, help="page to write")
    args = parser.parse_args()
    if not find_mosquitto() or not shutil.which(find_mosquitto()):
        print("mosquitto is not installed (apt-get install mosquitto)", file=sys.stderr)
        return 2
    found = {}
    for case in CASES:
        if args.only in {None, case.name}:
            with tempfile.TemporaryDirectory() as folder:
                found[case.name] = run(Path(folder), case, args)
            print(json.dumps({case.name: found[case.name]}), flush=True)
    fine = all(good(one) for one in found.values())
    if args.report and fine:
        args.report.write_text(render(found))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
