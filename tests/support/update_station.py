"""A whole box: repository, real broker, a daemon that judges, and its updater, all on one machine."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge.bundle.reader import open_bundle
from edge.bundle.signing import TrustStore, generate_key, load_private
from edge.camera.base import Frame, Trigger
from edge.config.file import load_config, render
from edge.daemon.daemon import Daemon
from edge.update.config import load_update_config
from edge.update.service import UpdateService
from edge.wire.update import DESIRED_SCHEMA, Desired, sign_desired
from tests.support.bundles import good_frame
from tests.support.rig import Ear, Line, TestCamera, until
from tests.support.station import station_config
from tests.support.update_site import PRODUCT, SITE, UpdateSite

VOID_US = 4_000_000_000_000_000  # the year 2096


class GoodCamera(TestCamera):
    """Good parts only, each a little different."""

    def grab(self, trigger: Trigger, timeout_s: float) -> Frame:
        now = time.monotonic_ns()
        pixels: Any = np.asarray(good_frame(seed=trigger.count))
        return Frame(pixels, trigger.count, now, now, complete=True)


class UpdateStation:
    """A box under a running belt.

    Args:
        folder: everything is made in it. port: of a broker.
        update: keys of update.toml that differ.
    """

    def __init__(self, folder: Path, port: int, **update: Any) -> None:
        self.folder = folder
        self.site = UpdateSite(folder / "site")
        first = self.site.publish(1)
        (folder / "operators").mkdir()
        generate_key(folder / "operator.key")
        (folder / "operator.key.pub").rename(folder / "operators" / "operator.pub")
        (folder / "root.json").write_bytes(self.site.root)
        self.state = folder / "update"
        trust = self.site.trust_folder
        config = station_config(
            folder,
            model={"bundle": str(self.state / "current"), "trust": [str(trust)], "threads": 1, "engine": "onnxruntime"},
            mqtt={"port": port},
        )
        (folder / "station.toml").write_text(render(config))
        keys: dict[str, Any] = {
            "station": "station.toml",
            "metadata_url": self.site.metadata_url,
            "target_url": self.site.target_url,
            "root": "root.json",
            "product": PRODUCT,
            "folder": str(self.state),
            "operators": ["operators"],
            "poll_s": 1.0,
            "shadow_parts": 0,
            "guard_parts": 20,
            "guard_s": 0.5,
            **update,
        }
        self.config = folder / "update.toml"
        self.config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
        self.port = port
        self.ear = Ear(port)
        self.service = self.make_service()
        self.service.install(self.site.folder / "bundle" / "tiny.onbelt")
        assert self.service.machine.state.committed is not None
        assert self.service.machine.state.committed.sha256 == first.sha256
        self.line: Line | None = None
        self._serving: threading.Thread | None = None
        self._belt = threading.Event()
        self._beating: threading.Thread | None = None
        self.start_daemon()

    def make_service(self) -> UpdateService:
        """An updater over the same files."""
        return UpdateService(*load_update_config(self.config))

    def start_daemon(self) -> None:
        """Start the daemon and wait until it is armed."""
        config = load_config(self.folder / "station.toml")
        bundle = open_bundle(self.state / "current", TrustStore.from_folders([self.site.trust_folder]))
        self.daemon = Daemon(config, bundle, camera=GoodCamera())
        self.daemon.start()
        if self.line is not None:
            self.line.close()
        self.line = Line(self.daemon.trigger.address)  # type: ignore[attr-defined]
        assert until(lambda: self.daemon.station.armed, 30)

    def serve(self) -> None:
        """Start the updater."""
        self._serving = threading.Thread(target=self.service.run, daemon=True)
        self._serving.start()

    def belt(self, rate_hz: float = 10.0) -> None:
        """Let parts come from now on."""

        def run() -> None:
            while not self._belt.wait(1 / rate_hz):
                self.line.part()

        self._beating = threading.Thread(target=run, daemon=True)
        self._beating.start()

    def reported(self) -> dict[str, Any]:
        """What the box reports."""
        return self.ear.last("update/reported")

    def committed(self, version: int, timeout_s: float = 60.0) -> bool:
        """Wait until this version has proved itself."""
        return until(lambda: (self.reported().get("committed") or {}).get("version") == version, timeout_s)

    def idle_because(self, reason: str, timeout_s: float = 60.0) -> bool:
        """Wait until the box reports this reason and nothing under way."""
        return until(lambda: (self.reported().get("step"), self.reported().get("reason")) == ("idle", reason), timeout_s)

    def desire(self, serial: int, mode: str = "follow", *, key: Path | None = None, **changes: Any) -> None:
        """Publish a signed desired state, retained."""
        plain = {"channel": "stable", "version": 0, "windows": [], "not_after_us": VOID_US, "issuer": "test", "key": "0" * 64}
        desired = Desired(
            DESIRED_SCHEMA, **{"site": SITE, "product": PRODUCT, "serial": serial, "mode": mode, **plain, **changes}
        )
        payload = sign_desired(desired, load_private(key or self.folder / "operator.key"))
        self.ear.client.publish("onbelt/v1/plant1/hall2/line3/st2/update/desired", payload, 1, retain=True)

    def steps(self) -> list[str]:
        """The steps as reported, each once in a row."""
        found = [json.loads(payload)["step"] for payload in self.ear.payloads("update/reported")]
        return [step for number, step in enumerate(found) if number == 0 or found[number - 1] != step]

    def texts(self) -> list[str]:
        """What the box said with every report, oldest first."""
        return [json.loads(payload)["text"] for payload in self.ear.payloads("update/reported")]

    def stop_service(self) -> None:
        """Stop the updater."""
        self.service.stop()
        if self._serving is not None:
            self._serving.join(10)
            assert not self._serving.is_alive()

    def close(self) -> None:
        """Stop everything."""
        self._belt.set()
        if self._beating is not None:
            self._beating.join(5)
        self.stop_service()
        self.daemon.stop()
        self.line.close()
        self.ear.close()
