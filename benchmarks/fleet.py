"""A fleet on one machine updates in waves over one mosquitto; some boxes are faulty, one model is bad. Does it stop in time?

    python benchmarks/fleet.py --report docs/fleet.md            # 1000 boxes, 5 % faulty
    python benchmarks/fleet.py --boxes 40 --faulty 10 --take-s 5 --wave-s 40

The rollouts are the real command, `onbelt fleet roll`, in a process of its own. What is real of the boxes and what is light says
tests/support/fleet_boxes.py. Three rollouts follow each other on the same fleet:

1. a good model where a tenth of the boxes may fail     reaches all, the faulty ones stay with what they ran
2. a model that judges worse on every line              stops with the first wave, whose boxes go back by themselves
3. a good model where nobody allows for faulty boxes    stops as soon as the share of failures is known to be too high

Exit status: 0 all of that happened, 1 it did not, 2 there is no mosquitto.
"""

import argparse
import json
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the boxes are test code

from benchmarks.page import made_by  # noqa: E402
from edge.broker.launch import end_process, find_mosquitto, free_port, wait_until  # noqa: E402
from edge.bundle.reader import open_bundle  # noqa: E402
from edge.bundle.signing import TrustStore, generate_key  # noqa: E402
from edge.wire.verdict import references  # noqa: E402
from tests.support.fleet_boxes import FAULTS  # noqa: E402
from tests.support.update_site import PRODUCT, SITE, UpdateSite  # noqa: E402

VERSIONS = {1: "runs at the beginning", 2: "good", 3: "judges worse", 4: "good"}


class Fleet:
    """The boxes, their broker and their repository.

    Args:
        folder: everything is made in it.
        boxes: how many there are.
        faulty: share of them.
        seed: draws the faulty ones.
        processes: the boxes are spread over.
        take_s: time a daemon has to take a model.
    """

    def __init__(self, folder: Path, boxes: int, faulty: float, seed: int, processes: int, take_s: float) -> None:
        self.folder = folder
        self.port = free_port()
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\n")
        self.broker = subprocess.Popen([find_mosquitto(), "-c", str(config)])
        site = UpdateSite(folder / "site")
        trust = TrustStore.from_folders([site.trust_folder]) if site.trust_folder.exists() else None
        models = {}
        for version in VERSIONS:
            published = site.publish(version, channel="", limit=1.0 - version / 100)
            trust = trust or TrustStore.from_folders([site.trust_folder])
            bundle = site.folder / "bundle" / "tiny.onbelt"
            if version == 1:
                (folder / "first.onbelt").write_bytes(bundle.read_bytes())
            opened = open_bundle(bundle, trust)
            ref = references(opened.manifest, opened.sha256)[0]
            models[published.sha256] = {"version": version, "ref": ref, "worse": version == 3}
        (folder / "operators").mkdir()
        self.key = folder / "operator.key"
        generate_key(self.key)
        self.key.with_name("operator.key.pub").rename(folder / "operators" / "operator.pub")
        (folder / "root.json").write_bytes(site.root)
        dice = random.Random(seed)
        numbers = dice.sample(range(boxes), round(boxes * faulty))
        self.faults = {number: list(FAULTS)[place % len(FAULTS)] for place, number in enumerate(numbers)}
        plain = {
            "boxes": boxes,
            "port": self.port,
            "site": SITE,
            "product": PRODUCT,
            "trust": str(site.trust_folder),
            "metadata_url": site.metadata_url,
            "target_url": site.target_url,
            "root": str(folder / "root.json"),
            "operators": str(folder / "operators"),
            "first": str(folder / "first.onbelt"),
            "take_s": take_s,
            "models": models,
            "faults": self.faults,
        }
        (folder / "fleet.json").write_text(json.dumps(plain))
        begin = time.monotonic()
        script = ROOT / "tests" / "support" / "fleet_boxes.py"
        self.workers = [
            subprocess.Popen(
                [sys.executable, str(script), str(folder), str(index), str(processes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for index in range(processes)
        ]
        for worker in self.workers:
            assert worker.stdout is not None
            if worker.stdout.readline() != "ready\n":
                self.close()
                raise RuntimeError("boxes did not start")
        self.start_s = time.monotonic() - begin

    def roll(self, version: int, allowed: float, wave_s: float, waves: str) -> dict[str, Any]:
        """One rollout by the real command, and how the fleet stands afterwards."""
        begin = time.monotonic()
        words = ["--key", str(self.key), "--site", SITE, "--product", PRODUCT, "--version", str(version), "--waves", waves]
        words += ["--allowed", str(allowed), "--wave-hours", str(wave_s / 3600), "--soak-minutes", "0"]
        report = self._onbelt("roll", *words)
        report["seconds"] = time.monotonic() - begin
        report["versions"] = self.versions()
        return report

    def versions(self) -> dict[int, int]:
        """How many boxes have committed which version, by `onbelt fleet status`."""
        found: dict[int, int] = {}
        for box in self._onbelt("status")["boxes"]:
            found[box["version"]] = found.get(box["version"], 0) + 1
        return dict(sorted(found.items()))

    def close(self) -> list[str]:
        """End everything; returns what is wrong with what boxes would run."""
        wrong: list[str] = []
        for worker in self.workers:
            said = worker.communicate("", timeout=120)[0].strip().splitlines()
            wrong += json.loads(said[-1]) if said else ["a process of boxes died"]
        end_process(self.broker, signal.SIGTERM, 5.0)
        return wrong

    def _onbelt(self, action: str, *words: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "edge.cli", "fleet", action, "--mqtt", f"127.0.0.1:{self.port}", "--json", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if not done.stdout.strip():
            raise RuntimeError(done.stderr)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def judge(name: str, report: dict[str, Any], boxes: int) -> list[str]:
    """What of a rollout was not as it should be."""
    told = sum(report["waves"][: report["wave"]])
    if name == "good" and not (report["ok"] and report["done"] + len(report["failed"]) == boxes):
        return ["the good model did not reach every box"]
    if name == "worse" and (report["ok"] or report["wave"] != 1 or report["done"] or 3 in report["versions"]):
        return ["the worse model did not stop with the first wave, or stayed somewhere"]
    early = told < sum(report["waves"]) or boxes < 200  # few faulty boxes may all be drawn for the last wave
    if name == "strict" and (report["ok"] or not early or report["versions"].get(4, 0) > told):
        return ["the strict rollout did not stop, or went further than it had told anybody"]
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description="a fleet on one machine updates in waves")
    parser.add_argument("--boxes", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--faulty", type=float, default=5.0, help="percent of them (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="draws the faulty ones (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=4, help="the boxes are spread over (default: %(default)s)")
    parser.add_argument("--take-s", type=float, default=60.0, help="s a daemon has to take a model (default: %(default)s)")
    parser.add_argument("--wave-s", type=float, default=180.0, help="longest time of a wave (default: %(default)s)")
    parser.add_argument("--waves", default="1,10,50,100", help="percent of the boxes (default: %(default)s)")
    parser.add_argument("--report", type=Path, help="page to write")
    args = parser.parse_args()
    if not find_mosquitto():
        print("mosquitto is not installed (apt-get install mosquitto)")
        return 2
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8 * args.boxes + 1024)), hard))
    memory = Path("/dev/shm")  # noqa: S108 - files of a thousand boxes, for minutes
    reports, wrong = {}, []
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        fleet = Fleet(Path(folder), args.boxes, args.faulty / 100, args.seed, args.processes, args.take_s)
        print(f"{args.boxes} boxes up after {fleet.start_s:.0f} s, {len(fleet.faults)} of them faulty", flush=True)
        try:
            wait_until(lambda: fleet.versions().get(1) == args.boxes, 300.0)
            for name, version, allowed in (("good", 2, 10.0), ("worse", 3, 10.0), ("strict", 4, 1.0)):
                reports[name] = fleet.roll(version, allowed, args.wave_s, args.waves)
                wrong += judge(name, reports[name], args.boxes)
                print(f"{reports[name]['seconds']:.0f} s: {reports[name]['text']}", flush=True)
                time.sleep(2.0)
        finally:
            wrong += fleet.close()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    page = render(args, fleet, reports, used.ru_utime + used.ru_stime)
    print(page)
    print("\n".join(wrong) or "all as it should be")
    if args.report and not wrong:
        args.report.write_text(page)
    return 1 if wrong else 0


def render(args: argparse.Namespace, fleet: Fleet, reports: dict[str, Any], cpu_s: float) -> str:
    """The page of results; `cpu_s`: processor time of boxes, broker and rollouts."""
    lines = [
        "# A fleet in waves",
        made_by("fleet", f"seed {args.seed}"),
        f"{args.boxes} boxes over one mosquitto on loopback, {len(fleet.faults)} of them faulty,",
        f"in {args.processes} processes; up after {fleet.start_s:.0f} s. Each box is the real updater: service, state on disk,",
        "metadata client, broker connection. Light are the engine, the proof's process and the daemon; models are not compared",
        "in the shadow (`tests/support/fleet_boxes.py`). The rollouts are `onbelt fleet roll` in a process of its own, in waves",
        f"of {args.waves} percent; what had not ended {args.wave_s:g} s after the beginning of its wave counted as failed.",
        f"Boxes, broker and rollouts took {cpu_s:.0f} s of processor time; the rest is waiting for boxes that never answer.",
        "",
        "| rollout | allowed to fail | what happened | s | boxes by version afterwards |",
        "|---|---|---|---|---|",
    ]
    said = {"good": ("a good model", "10 %"), "worse": ("a model that judges worse", "10 %"), "strict": ("a good model", "1 %")}
    for name, report in reports.items():
        versions = ", ".join(f"{count} on {version}" for version, count in report["versions"].items())
        lines.append(f"| {said[name][0]} | {said[name][1]} | {report['text']} | {report['seconds']:.0f} | {versions} |")
    reasons: dict[str, int] = {}
    for why in reports["good"]["failed"].values():
        word = why.split(":")[0] if not why.startswith("idle:") else why.split()[1]
        reasons[word] = reasons.get(word, 0) + 1
    kinds = {fault: list(fleet.faults.values()).count(fault) for fault in FAULTS}
    lines += ["", "| fault | boxes |", "|---|---|", *(f"| {FAULTS[fault]} | {count} |" for fault, count in kinds.items())]
    lines += [
        "",
        "Why boxes failed in the first rollout, as they reported it: " + ", ".join(f"`{k}` {n}" for k, n in reasons.items()),
    ]
    lines += ["", "At the end no box ran a file nobody had published, or another one than it had committed."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
