"""GStreamer for tests: is it here, a video file made by it, and an RTSP server as a network camera."""

import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import TracebackType

from edge.broker.launch import free_port
from tests.support import aravis

_SERVER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(); server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory(); factory.set_shared(True)
factory.set_launch("( videotestsrc is-live=true pattern=snow ! video/x-raw,format=I420,width=96,height=64,framerate=20/1 "
                   "! jpegenc ! rtpjpegpay name=pay0 pt=26 )")
server.get_mount_points().add_factory("/part", factory); server.attach(None); print("ready", flush=True)
GLib.MainLoop().run()
"""


def missing(folder: Path) -> str:
    """Why GStreamer cannot be used here, or an empty string; the system's binding is borrowed as for Aravis."""
    if shutil.which("gst-launch-1.0") is None:
        return "gst-launch-1.0 not found (apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good)"
    lack = aravis.borrow_gi(folder)
    if lack:
        return lack
    try:
        import gi

        gi.require_version("Gst", "1.0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)
            from gi.repository import Gst  # noqa: F401
    except (ValueError, ImportError) as exc:
        return f"{exc} (apt-get install gir1.2-gst-plugins-base-1.0)"
    return ""


def missing_server() -> str:
    """Why there is no RTSP server, or an empty string: the system's Python runs it."""
    code = 'import gi; gi.require_version("GstRtspServer", "1.0"); from gi.repository import GstRtspServer'
    tried = subprocess.run(["/usr/bin/python3", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return "" if tried.returncode == 0 else "no GstRtspServer (apt-get install gir1.2-gst-rtsp-server-1.0)"


def make_video(path: Path, frames: int = 12) -> Path:
    """A video of noise: no two frames alike."""
    words = (
        f"videotestsrc num-buffers={frames} pattern=snow ! video/x-raw,width=96,height=64,framerate=10/1 ! jpegenc ! avimux ! "
    )
    subprocess.run(["gst-launch-1.0", "-q", *words.split(), "filesink", f"location={path}"], check=True, timeout=60)
    return path


class RtspServer:
    """A camera on the network, on loopback."""

    def __init__(self) -> None:
        self._port = free_port()
        self.address = f"rtsp://127.0.0.1:{self._port}/part"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "RtspServer":
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            ["/usr/bin/python3", "-c", _SERVER, str(self._port)],
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "ready"
        time.sleep(0.1)
        return self

    def unplug(self) -> None:
        """Gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(5)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.unplug()
