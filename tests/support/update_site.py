"""A real update repository with real keys, a static server whose misbehaviour is a knob, and the client under test."""

import http.server
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata
from tuf.api.serialization.json import JSONSerializer

from edge.bundle.signing import generate_key
from edge.update import conformance
from export.repository import models, roles
from export.repository.keyring import Keyring
from export.repository.store import RepositoryFolder
from tests.support.bundles import make_tiny_bundle

SITE, PRODUCT = "plant1", "tiny"


class UpdateSite:
    """A repository of one site and product, with all its keys at hand.

    Args:
        folder: everything is made in it: `repo` (served), `keys`, `bundle`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = RepositoryFolder(folder / "repo")
        self.key_folder = folder / "keys"
        roles.init(self.repository, self.key_folder, root_keys=3, threshold=2)
        generate_key(self.key_folder / "publisher.key")
        self.keys = Keyring([self.key_folder])
        roles.add_key(self.repository, f"{SITE}/{PRODUCT}", self.key_folder / "publisher.key.pub", self.keys)
        self.root = (self.repository.metadata / "1.root.json").read_bytes()
        self.trust_folder = folder / "bundle" / "trusted"

    @property
    def metadata_url(self) -> str:
        """Where metadata lies, as a mounted stick would have it."""
        return self.repository.metadata.as_uri() + "/"

    @property
    def target_url(self) -> str:
        """Where targets lie."""
        return self.repository.targets.as_uri() + "/"

    def publish(self, version: int, channel: str = "stable", *, minimum: int = 0, **variant: Any) -> models.Published:
        """Publish a tiny bundle of this version; `variant` as `make_tiny_bundle` takes it."""
        variant.setdefault("product", PRODUCT)
        path, trust, _ = make_tiny_bundle(self.folder / "bundle", version=version, **variant)
        return models.publish(self.repository, path, SITE, trust, self.keys, channel=channel, minimum=minimum)

    def promote(self, version: int, channel: str = "stable") -> None:
        """Give the channel another version."""
        models.promote(self.repository, SITE, PRODUCT, version, channel, self.keys)

    def edit(self, name: str, change: Callable[[Any], None], *, keys: Keyring | None = None) -> None:
        """Change a metadata file in place and sign it again, as somebody with these keys could; versions stay as they are.

        Args:
            name: file without ".json". change: gets the signed part. keys: None takes the rightful ones.
        """
        path = self.repository.metadata / f"{name}.json"
        metadata: Metadata[Any] = Metadata.from_bytes(path.read_bytes())
        change(metadata.signed)
        role = name.rpartition(".")[2]
        metadata.signatures.clear()
        if keys is None:
            self.keys.sign(metadata, [self.repository.role(role)])
        else:
            for signer in keys._signers.values():
                metadata.sign(signer, append=True)
        path.write_bytes(metadata.to_bytes(JSONSerializer(compact=False)))

    def strangers(self) -> Keyring:
        """Keys nobody trusts."""
        folder = self.folder / "stranger"
        if not folder.exists():
            folder.mkdir()
            generate_key(folder / "stranger.key")
        return Keyring([folder])


class Client:
    """The conformance protocol's client over one cache."""

    def __init__(self, folder: Path, site: UpdateSite, *, metadata_url: str = "", target_url: str = "") -> None:
        self.metadata_dir = folder / "client-metadata"
        self.target_dir = folder / "client-targets"
        self.target_dir.mkdir(parents=True, exist_ok=True)
        self.metadata_url = metadata_url or site.metadata_url
        self.target_url = target_url or site.target_url
        root = folder / "client-root.json"
        root.write_bytes(site.root)
        assert self._main("init", str(root)) == 0

    def refresh(self) -> int:
        """Exit status of `refresh`."""
        return self._main("refresh")

    def download(self, target: str) -> int:
        """Exit status of `download`."""
        return self._main("download", target=target)

    def version(self, role: str) -> int:
        """Version of a role the client trusts; 0 for none."""
        path = self.metadata_dir / f"{role}.json"
        return int(Metadata.from_file(str(path)).signed.version) if path.exists() else 0

    def files(self) -> list[bytes]:
        """What was downloaded."""
        return [path.read_bytes() for path in self.target_dir.iterdir() if path.is_file()]

    def _main(self, verb: str, *words: str, target: str = "") -> int:
        options = ["--metadata-dir", str(self.metadata_dir), "--metadata-url", self.metadata_url]
        if target:
            options += ["--target-name", target, "--target-base-url", self.target_url, "--target-dir", str(self.target_dir)]
        return conformance.main([*options, verb, *words])


class StaticServer:
    """A static HTTP server over a folder, which can send without end, trickle, or hang up.

    Attributes:
        endless: paths (beginning of) that never end. trickle_s: pause before each 16 bytes of them, 0 sends at once.
        cut_after: bytes of a target after which the connection is cut, 0 never; cuts are counted down from `cuts`.
        ranges: answers Range requests. requests: paths asked for, with their Range header.
    """

    def __init__(self, folder: Path) -> None:
        self.endless: tuple[str, ...] = ()
        self.trickle_s = 0.0
        self.cut_after = 0
        self.cuts = 0
        self.ranges = True
        self.requests: list[tuple[str, str]] = []
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, directory=str(folder), **kwargs)

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                server.requests.append((self.path, self.headers.get("Range", "")))
                if server.endless and self.path.startswith(server.endless):
                    server._never_end(self)
                elif (server.cut_after and "/targets/" in self.path) or self.headers.get("Range"):
                    server._send_part(self, Path(self.translate_path(self.path)))
                else:
                    super().do_GET()

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _never_end(self, handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        end = time.monotonic() + 20
        try:
            while time.monotonic() < end:
                time.sleep(self.trickle_s)
                handler.wfile.write(b"x" * (16 if self.trickle_s else 65536))
        except OSError:
            pass

    def _send_part(self, handler: Any, path: Path) -> None:
        content = path.read_bytes()
        asked = handler.headers.get("Range", "")
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        handler.send_response(206 if begin else 200)
        if begin:
            handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - begin))
        handler.end_headers()
        stop = len(content)
        if self.cut_after and self.cuts > 0:
            self.cuts -= 1
            stop = min(stop, begin + self.cut_after)
        handler.wfile.write(content[begin:stop])
        handler.wfile.flush()
        handler.close_connection = True
