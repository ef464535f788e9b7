"""A repository in memory whose every version is kept and served over real HTTP, and the conformance protocol's client over it.

Roles are edited freely (`site.signed[role]`); `publish` signs them as the next version. What must be malformed in a way the
update framework's own classes refuse to write is changed as plain JSON (`replace`).
"""

import datetime as real_datetime
import http.server
import json
import threading
import types
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from edge.update import conformance

ROOT, TIMESTAMP, SNAPSHOT, TARGETS = "root", "timestamp", "snapshot", "targets"
TOP = (ROOT, TIMESTAMP, SNAPSHOT, TARGETS)
LATER = (TARGETS, SNAPSHOT, TIMESTAMP)  # the order in which one describes the other


def in_days(days: float) -> datetime:
    """A moment, as metadata writes it."""
    return datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=days)


class TufSite:
    """The repository.

    Attributes:
        signed: what the next version of each role says. signers: who signs it. versions: what was published, oldest first.
        meta_hashes: list length and hash of metadata in snapshot and timestamp.
        asked: (role, version or None) of every metadata request, as the client spelled the role; files: of every target request.
        targets: content by path.
    """

    def __init__(self) -> None:
        self.signed: dict[str, Any] = {
            TARGETS: Targets(expires=in_days(30)),
            SNAPSHOT: Snapshot(expires=in_days(30)),
            TIMESTAMP: Timestamp(expires=in_days(30)),
            ROOT: Root(expires=in_days(30)),
        }
        self.signers: dict[str, list[CryptoSigner]] = {role: [] for role in TOP}
        self.versions: dict[str, list[bytes]] = {}
        self.meta_hashes = False
        self.targets: dict[str, bytes] = {}
        self.asked: list[tuple[str, int | None]] = []
        self.files: list[str] = []
        for role in TOP:
            self.add_key(role)
        self.publish(*LATER, ROOT)

    # --- what it says -----------------------------------------------------------------------------------------------------

    def add_key(self, role: str, signer: CryptoSigner | None = None, *, delegator: str = ROOT) -> CryptoSigner:
        """One more key for a role, which signs from now on; the delegator has to be published."""
        signer = signer or CryptoSigner.generate_ed25519()
        self.signed[delegator].add_key(signer.public_key, role)
        self.signers.setdefault(role, []).append(signer)
        return signer

    def new_keys(self, role: str) -> None:
        """Other keys in the place of all a role has."""
        threshold = self.signed[ROOT].roles[role].threshold
        self.signed[ROOT].roles[role].keyids.clear()
        self.signers[role].clear()
        for _ in range(threshold):
            self.add_key(role)

    def delegate(
        self,
        delegator: str,
        role: str,
        paths: Iterable[str] = ("*",),
        *,
        terminating: bool = False,
        expires: datetime | None = None,
    ) -> None:
        """Let a role speak for paths."""
        parent = self.signed[delegator]
        if parent.delegations is None:
            parent.delegations = Delegations({}, roles={})
        parent.delegations.roles[role] = DelegatedRole(role, [], 1, terminating, list(paths))
        self.signed.setdefault(role, Targets(expires=expires or in_days(30)))
        # Who delegates to a role that is there already trusts the key it has.
        if self.signers.get(role):
            parent.add_key(self.signers[role][0].public_key, role)
        else:
            self.add_key(role, delegator=delegator)

    def add_target(self, path: str, content: bytes, role: str = TARGETS, hashes: Iterable[str] = ("sha256",)) -> TargetFile:
        """List a file and serve it."""
        target = TargetFile.from_data(path, content, list(hashes))
        self.signed[role].targets[path] = target
        self.targets[path] = content
        return target

    def publish(self, *roles: str, bump: bool = True) -> None:
        """Sign roles as their next versions, in this order; snapshot and timestamp describe what lies there by then.

        Args:
            roles: which. bump: False publishes the version the role says, whatever was there before.
        """
        for role in roles:
            signed = self.signed[role]
            signed.version += bump and role in self.versions
            if role == SNAPSHOT:
                for one in self.signed:
                    if one not in {ROOT, SNAPSHOT, TIMESTAMP} and one in self.versions:
                        signed.meta[f"{one}.json"] = self._meta(one)
            if role == TIMESTAMP:
                signed.snapshot_meta = self._meta(SNAPSHOT)
            self.put(role)

    def put(self, role: str) -> None:
        """Sign a role as it stands and lay it down as its next file."""
        metadata: Metadata[Any] = Metadata(self.signed[role])
        for signer in self.signers[role]:
            metadata.sign(signer, append=True)
        self.versions.setdefault(role, []).append(metadata.to_bytes())

    def replace(self, role: str, change: Callable[[dict[str, Any]], None], *, sign: bool = True) -> None:
        """Change the newest file of a role as plain JSON: {"signed": ..., "signatures": [...]}.

        Args:
            role: which. change: edits the document in place. sign: sign it anew afterwards.
        """
        document = json.loads(self.versions[role][-1])
        change(document)
        if sign:
            content = (encode_canonical(document["signed"]) or "").encode()
            document["signatures"] = [
                {"keyid": one.public_key.keyid, "sig": one.sign(content).signature} for one in self.signers[role]
            ]
        self.versions[role][-1] = json.dumps(document).encode()

    def _meta(self, role: str) -> MetaFile:
        content = self.versions[role][-1]
        version = int(json.loads(content)["signed"]["version"])
        return MetaFile.from_data(version, content, ["sha256"]) if self.meta_hashes else MetaFile(version)

    # --- how it is served -------------------------------------------------------------------------------------------------

    def answer(self, path: str) -> bytes | None:
        """What lies under a path; None for nothing."""
        kind, _, name = path.lstrip("/").partition("/")
        if kind == "targets":
            self.files.append(name)
            folder, slash, file = name.rpartition("/")
            return self.targets.get(f"{folder}{slash}{file.partition('.')[2]}")
        if kind != "metadata" or not name.endswith(".json"):
            return None
        name = name.removesuffix(".json")
        number, _, role = name.partition(".")
        if name == TIMESTAMP:
            self.asked.append((TIMESTAMP, None))
            return self.versions[TIMESTAMP][-1] if self.versions.get(TIMESTAMP) else None
        self.asked.append((role, int(number)))
        published = next((files for one, files in self.versions.items() if quote(one, "") == role), [])
        # As in a folder: the file of a number is the one that was laid down under it, whatever it says inside.
        return published[int(number) - 1] if 0 < int(number) <= len(published) else None


class TufServer:
    """Serves one site on loopback."""

    def __init__(self, site: TufSite) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                content = site.answer(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

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


class TufClient:
    """The device's client, driven by the conformance protocol.

    Args:
        folder: for its cache and its downloads. site: what it starts to trust: the first root. server: where it looks.
    """

    def __init__(self, folder: Path, site: TufSite, server: TufServer) -> None:
        self._folder = folder
        self._url = server.url
        self.cache = folder / "metadata"
        self.downloads = folder / "targets"
        self.downloads.mkdir(parents=True)
        assert self.init(site.versions[ROOT][0]) == 0

    def init(self, root: bytes) -> int:
        """Exit status of `init`."""
        (self._folder / "trusted.json").write_bytes(root)
        return conformance.main(["--metadata-dir", str(self.cache), "init", str(self._folder / "trusted.json")])

    def refresh(self) -> int:
        """Exit status of `refresh`."""
        return conformance.main(["--metadata-dir", str(self.cache), "--metadata-url", f"{self._url}/metadata", "refresh"])

    def download(self, path: str) -> int:
        """Exit status of `download`."""
        where = ["--metadata-dir", str(self.cache), "--metadata-url", f"{self._url}/metadata"]
        what = ["--target-name", path, "--target-base-url", f"{self._url}/targets", "--target-dir", str(self.downloads)]
        return conformance.main([*where, *what, "download"])

    def content(self, role: str) -> bytes | None:
        """What it keeps of a role."""
        path = self.cache / f"{quote(role, '')}.json"
        return path.read_bytes() if path.exists() else None

    def version(self, role: str) -> int:
        """Version of a role it trusts, 0 for none."""
        content = self.content(role)
        return int(json.loads(content)["signed"]["version"]) if content else 0

    def trusts(self) -> dict[str, int]:
        """Version of everything it trusts."""
        return {path.stem: int(json.loads(path.read_bytes())["signed"]["version"]) for path in self.cache.glob("*.json")}

    def got(self) -> set[bytes]:
        """What it has downloaded."""
        return {path.read_bytes() for path in self.downloads.rglob("*") if path.is_file()}


def live_in(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """For the client it is so many days later."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: real_datetime.tzinfo | None = None) -> "Later":
            moment = datetime.now(tz) + timedelta(days=days)
            return cls.fromtimestamp(moment.timestamp(), tz)

    fake = types.SimpleNamespace(datetime=Later, timezone=timezone)
    monkeypatch.setattr("tuf.ngclient._internal.trusted_metadata_set.datetime", fake)
