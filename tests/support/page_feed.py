"""Parts for the page: frames of the simulated belt with maps, scores and gate answers that fit them, deterministic by seed."""

import json
import sys
import threading
import time
from dataclasses import replace
from typing import Any
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge.belt import Part, render
from edge.page.live import GateAckView, LiveView, PartView
from edge.page.server import PageServer
from edge.regions import Region

GRID = 24  # cells of the map of a model with 128 px input
STATE: dict[str, Any] = {
    "station": "line3-st2",
    "line": "packing",
    "armed": True,
    "reasons": [],
    "boot": "01JD8Q7ZK3M5V9X2T4W6Y8A0BC",
    "camera": "c1 online",
    "broker": "connected",
    "gate_deadline_ms": 400.0,
    "model": {
        "name": "tray-128",
        "version": 7,
        "model": "dfsc-efficientad-s",
        "precision": "int8",
        "engine": "openvino 2026.4.1 int8 2 threads",
        "check": "chk-20261121-0600",
        "limit": {"raw": 0.1978, "false_reject": 0.005, "confidence": 0.95, "kind": "guarantee", "n": 600},
    },
}


def anomaly_map(mask: NDArray[np.uint8], level: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """A map like the judge's: noise below half the limit, and a hill of this height where the mask is."""
    small = np.asarray(Image.fromarray(mask).resize((GRID + 8, GRID + 8), Image.Resampling.BOX), dtype=np.float32)[4:-4, 4:-4]
    noise = rng.uniform(0.05, 0.4, (GRID, GRID)).astype(np.float32)
    if small.max() == 0:
        return noise
    hill: NDArray[np.float32] = np.asarray(Image.fromarray(small / small.max()).resize((GRID, GRID)), dtype=np.float32)
    for _ in range(2):
        padded = np.pad(hill, 1, mode="edge")
        hill = np.asarray(
            (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] + 2 * hill) / 6, dtype=np.float32
        )
    scaled: NDArray[np.float32] = np.maximum(noise, hill / hill.max() * np.float32(level)).astype(np.float32)
    return scaled


def boxes(mask: NDArray[np.uint8], level: float, branch: str) -> tuple[Region, ...]:
    """The box around what is marked."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return ()
    side = mask.shape[0]
    x, y = max(0, columns.min() - 6) / side, max(0, rows.min() - 6) / side
    right, bottom = min(side, columns.max() + 7) / side, min(side, rows.max() + 7) / side
    return (Region(float(x), float(y), float(right - x), float(bottom - y), level, branch),)


class Feed:
    """Pushes parts into a view; frames are drawn once and repeat."""

    def __init__(self, view: LiveView, product: str = "tray", seed: int = 7, frames: int = 24) -> None:
        self.view = view
        self.rng = np.random.default_rng(seed)
        kinds = ["good"] * (frames - 4) + ["logical", "logical", "structural", "structural"]
        self.parts: dict[str, list[Part]] = {"good": [], "logical": [], "structural": []}
        for index, kind in enumerate(kinds):
            self.parts[kind].append(render(product, seed, index, kind=kind))
        self.seq = 0

    def part(self, kind: str = "good", verdict: str | None = None) -> PartView:
        """The next part: of kind good, logical or structural, or "invalid" for one that was not judged."""
        self.seq += 1
        trig_us = 1795302862000000 + self.seq * 100_000
        part_id = f"SN-{49122 + self.seq:07d}"
        if kind == "invalid":
            return PartView(
                self.seq, part_id, "invalid", ("lost",), None, None, None, None, None, None, -12.0, trig_us, verdict_ms=412.0
            )
        made = self.parts[kind][self.seq % len(self.parts[kind])]
        level = float(self.rng.lognormal(1.0, 0.7)) + 1.05 if kind != "good" else 0.0
        cal = level if kind != "good" else float(np.clip(self.rng.normal(0.52, 0.12), 0.2, 0.97))
        if verdict == "uncertain":
            cal = float(self.rng.uniform(0.93, 1.04))
        branch = {"logical": "ae", "structural": "st"}.get(kind, "")
        infer = float(self.rng.gamma(60, 0.15) + 1)
        total = infer + float(self.rng.gamma(4, 1.5)) + 4
        return PartView(
            seq=self.seq,
            part_id=part_id,
            verdict=verdict or ("pass" if kind == "good" else "reject"),
            reasons=() if kind == "good" and verdict in {None, "pass"} else (("near-limit",) if kind == "good" else (kind,)),
            cal=cal,
            p=float(np.clip(1.1 - cal, 0.0007, 0.99)) if kind == "good" else 0.0007,
            st=level if branch == "st" else cal * 0.7,
            ae=level if branch == "ae" else cal * 0.85,
            global_=cal * 0.5,
            infer_ms=infer,
            slack_ms=400 - total,
            trig_us=trig_us,
            pixels=made.frame,
            anomaly_map=anomaly_map(made.truth.mask, level, self.rng),
            regions=boxes(made.truth.mask, level, branch),
            verdict_ms=total,
        )

    def push(self, kind: str = "good", verdict: str | None = None, *, ack: bool = True) -> PartView:
        """Add the next part, and the gate's answer to it."""
        part = self.part(kind, verdict)
        self.view.add_part(part)
        if ack:
            opened = part.verdict == "pass"
            why = "missing" if kind == "invalid" else "verdict"
            slack = None if kind == "invalid" else part.slack_ms
            self.view.add_ack(GateAckView(part.seq, "pass" if opened else "reject", why, "g1", slack, not opened, None))
        return part

    def mixed(self) -> PartView:
        """Add a part as a line brings them: now and then a defect, an uncertain one, a lost one."""
        roll = float(self.rng.random())
        if roll < 0.03:
            return self.push("logical")
        if roll < 0.055:
            return self.push("structural")
        if roll < 0.065:
            return self.push("invalid")
        if roll < 0.075:
            return self.push("good", "uncertain")
        return self.push()


class Runner:
    """Feeds at a steady rate from a thread of its own until closed."""

    def __init__(self, feed: Feed, per_second: float) -> None:
        self._feed = feed
        self._period_s = 1 / per_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._feed.mixed()
            due += self._period_s

    def __enter__(self) -> "Runner":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)


def serve(per_second: float, seconds: float) -> None:
    """Serve a page in this process, print its address, and once a browser has come and so much time has passed, the CPU share.

    Parts are drawn beforehand: what is measured is the view, the server and the encoding.
    """
    view = LiveView()
    view.set_state(STATE)
    feed = Feed(view, frames=8)
    parts = [feed.part("logical" if index == 50 else "good") for index in range(100)]
    with PageServer(view) as page:
        print(page.url, flush=True)
        seq, due, begun = feed.seq, time.monotonic(), (0.0, 0.0)
        end = due + 60
        while time.monotonic() < end:
            due += 1 / per_second
            time.sleep(max(0.0, due - time.monotonic()))
            seq += 1
            view.add_part(replace(parts[seq % len(parts)], seq=seq))
            view.add_ack(GateAckView(seq, "pass", "verdict", "g1", 300.0, fired=False))
            if begun == (0.0, 0.0) and json.loads(urlopen(page.url + "healthz", timeout=5).read())["readers"]:
                begun = (time.monotonic(), time.process_time())
                end = begun[0] + seconds
        print((time.process_time() - begun[1]) / (time.monotonic() - begun[0]), flush=True)


if __name__ == "__main__":
    serve(float(sys.argv[1]), float(sys.argv[2]))
