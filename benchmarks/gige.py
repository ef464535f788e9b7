"""GigE Vision frames over loopback: every complete one judged or counted as skipped, damaged ones never judged, stalls timed.

    python benchmarks/gige.py --report docs/gige.md         # a minute at 512x512 and 100 frames/s, then the faults
    python benchmarks/gige.py --seconds 5 --rate 25

Aravis' fake camera is the peer: the real protocol over a real network stack. Each frame taken goes through the daemon's frame
check and the engine of the demo's bundle.

Exit status: 0 the books agree, a fault is said within two frame periods, and frames come again within two seconds; 1 not;
2 Aravis is missing.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the fake camera's handling is test code

from benchmarks.page import made_by  # noqa: E402
from edge.bundle.reader import open_bundle  # noqa: E402
from edge.bundle.signing import default_trust  # noqa: E402
from edge.camera.base import MissedError, Trigger  # noqa: E402
from edge.daemon.stages.framecheck import FrameCheck  # noqa: E402
from edge.daemon.stages.parts import NS_PER_MS, Ticket  # noqa: E402
from edge.engine import open_engine  # noqa: E402
from edge.errors import CameraError  # noqa: E402
from edge.preprocess import fit  # noqa: E402
from tests.support import aravis  # noqa: E402

VALID_MS = 400.0
SAID_PERIODS = 2  # a fault is said within so many frame periods
RESUMED_S = 2.0  # frames come again so soon after the camera is back
UNACCOUNTED = 16  # the stream may complete a few more frames between our last look and its end


@dataclass(frozen=True, slots=True)
class Timed:
    """How long something took, and may take, in seconds."""

    what: str
    took_s: float
    most_s: float


def settings(device: str, rate: float) -> Any:
    """As an integrator would set it."""
    from edge.camera.genicam import GenicamSettings

    # The fake camera's picture darkens with the logarithm of its exposure and is black at 1 ms: one black frame is like another.
    return GenicamSettings(device, rate_hz=rate, exposure_us=8000.0, region=(0, 0, 512, 512))


def count_frames(rate: float, seconds: float, lost: int) -> dict[str, Any]:
    """Take and judge frames; what became of all of them."""
    from gi.repository import Aravis

    from edge.camera.genicam import GenicamCamera

    bundle = open_bundle(ROOT / "edge" / "data" / "demo.onbelt", default_trust())
    fates: Counter[str] = Counter()
    with aravis.FakeCamera("GV31", lost) as fake, open_engine(bundle, "auto", 1) as engine:
        camera = GenicamCamera(settings(fake.device, rate))
        camera.start()
        check, seq = FrameCheck(20.0), 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            seq += 1
            now_ns = time.monotonic_ns()
            trigger = Trigger(seq, now_ns)
            ticket = Ticket(seq, trigger, 0, now_ns + round(VALID_MS * NS_PER_MS), now_ns + round(0.9 * VALID_MS * NS_PER_MS))
            try:
                frame = camera.grab(trigger, VALID_MS / 1000)
            except CameraError:
                fates["no frame in time"] += 1
                time.sleep(1.0 / rate)  # a stall is said at once: do not ask in a circle
                continue
            finding = check.look(frame, ticket)
            if finding is None:
                engine.infer(fit(frame.pixels, engine.size))
                fates["judged"] += 1
            else:
                fates[finding.reason] += 1
        stream = camera._stream  # noqa: SLF001 - its own count is the other side of the books
        camera.close()
        completed, failed, underruns = Aravis.Stream.get_statistics(stream)
        waiting = camera.waiting
        taken = fates["judged"] + fates["stale"] + fates["frozen"]
        return {
            "completed": completed,
            "failed": failed,
            "underruns": underruns,
            "skipped": camera.skipped + waiting,
            "incomplete": camera.incomplete,
            "fates": dict(fates),
            "unaccounted": completed - taken - camera.skipped - waiting,
        }


def time_faults(rate: float) -> list[Timed]:
    """A stall and an unplugged camera: seconds until said, and until a frame comes again."""
    from edge.camera.genicam import GenicamCamera

    found = []
    with aravis.FakeCamera("GV32") as fake:
        camera = GenicamCamera(settings(fake.device, rate))
        camera.start()
        until_frame(camera, restart=False)
        for what, begin, end, restart in (
            ("frozen (SIGSTOP for a second)", fake.freeze, fake.thaw, False),
            ("unplugged (SIGKILL), opened anew at once when it is back", fake.unplug, fake.start, True),
        ):
            begin_s = time.monotonic()  # frames go on while a process is being ended: what that takes counts too
            begin()
            until_error(camera)
            found.append(Timed(f"{what}: said after", time.monotonic() - begin_s, SAID_PERIODS / rate))
            time.sleep(1.0)
            end()
            found.append(Timed(f"{what}: frames again after", until_frame(camera, restart=restart), RESUMED_S))
        camera.close()
    return found


def until_error(camera: Any) -> float:
    """Seconds until `grab` says that something is wrong."""
    return until(lambda: not comes(camera), "a fault nobody noticed")


def until_frame(camera: Any, *, restart: bool) -> float:
    """Seconds until a frame comes again; `restart` opens the camera anew, as the daemon does."""
    return until(lambda: comes(camera, restart=restart), "no frame any more")


def until(condition: Callable[[], bool], otherwise: str) -> float:
    """Seconds until it holds."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > 60:
            raise RuntimeError(otherwise)
    return time.monotonic() - begin


def comes(camera: Any, *, restart: bool = False) -> bool:
    """A frame comes."""
    try:
        if restart:
            camera.start()
        camera.grab(Trigger(1, time.monotonic_ns()), 1.0)
    except MissedError:  # one has come, too late for us: this machine does other things, the camera is well
        return True
    except CameraError:
        return False
    return True


def page(runs: list[tuple[str, dict[str, Any]]], faults: list[Timed], rate: float, seconds: float) -> str:
    """docs/gige.md."""
    lines = [
        "# GigE Vision frames",
        made_by("gige"),
        f"Aravis' fake camera over loopback, 512x512 at {rate:g} frames/s for {seconds:g} s; each frame taken is judged by the",
        "demo's bundle on one thread. A free-running camera exposes for nobody: frames begun before a trigger are skipped and",
        "counted.",
        "",
        "| run | complete in transport | judged | skipped | stale or frozen | damaged in transport, none judged | unaccounted |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, run in runs:
        fates = run["fates"]
        lines.append(
            f"| {name} | {run['completed']} | {fates.get('judged', 0)} | {run['skipped']} | "
            f"{fates.get('stale', 0) + fates.get('frozen', 0)} | "
            f"{run['incomplete']} | {run['unaccounted']} |"
        )
    lines += ["", "| fault | seconds | may take |", "|---|---|---|"]
    lines += [f"| {one.what} | {one.took_s:.3f} | {one.most_s:.3f} |" for one in faults]
    return "\n".join(lines) + "\n"


def shortcomings(runs: list[tuple[str, dict[str, Any]]], faults: list[Timed]) -> list[str]:
    """What does not hold, in words."""
    found = [
        f"{name}: {run['unaccounted']} complete frames unaccounted for"
        for name, run in runs
        if not 0 <= run["unaccounted"] <= UNACCOUNTED
    ]
    if not runs[-1][1]["incomplete"]:
        found.append(f"{runs[-1][0]}: no frame was damaged, so nothing was tried")
    found += [
        f"{one.what} {one.took_s * 1000:.1f} ms, expected at most {one.most_s * 1000:.0f} ms"
        for one in faults
        if one.took_s > one.most_s
    ]
    return found


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="of the clean run; a third for the damaged one")
    parser.add_argument("--rate", type=float, default=100.0, metavar="HZ", help="frames a second")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the page there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lack = aravis.missing(Path(folder))
        if lack:
            print(f"gige: {lack}", file=sys.stderr)
            return 2
        runs = [
            ("clean", count_frames(args.rate, args.seconds, 0)),
            ("2 of 1000 packets lost", count_frames(args.rate, args.seconds / 3, 2)),
        ]
        for name, run in runs:
            print(name, run, flush=True)
        faults = time_faults(args.rate)
        for one in faults:
            print(f"{one.what} {one.took_s:.3f} s", flush=True)
    if args.report:
        args.report.write_text(page(runs, faults, args.rate, args.seconds))
    missed = shortcomings(runs, faults)
    for line in missed:
        print(f"gige: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
