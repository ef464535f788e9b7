"""The repository as files: `metadata/` and `targets/`, nothing else, so that any static server can serve the folder.

    metadata/1.root.json  2.root.json  ...  timestamp.json  7.snapshot.json  3.targets.json  5.plant1~bottle.json
    targets/plant1/bottle/{sha256}.bottle-7.onbelt           consistent snapshots: a file never changes under its name

A change is written from the inside out: targets, their metadata, snapshot, and `timestamp.json` last. Until that one is in its
place, clients see the repository as it was before; a command that was killed leaves files nobody refers to, and the next one
writes over them. One command at a time: the folder is locked.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Key, Metadata, MetaFile, Role, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from edge.errors import ConfigError, DataError
from edge.update.files import write_atomic
from export.repository.keyring import Keyring

SIGN_ORDER = ("root", "targets", "snapshot", "timestamp")
MAX_METADATA_BYTES = 5_000_000  # what a client is willing to read

# Offline roles live long: a box must not stop trusting a repository because somebody was on holiday. The timestamp is short:
# it bounds how long an attacker can pass an old state off as the newest. `onbelt repo snapshot-cron` renews it.
LIFETIME = {
    "root": timedelta(days=730),
    "targets": timedelta(days=365),
    "snapshot": timedelta(days=14),
    "timestamp": timedelta(days=2),
}
AnyMetadata = Metadata[Any]


class RepositoryFolder:
    """A repository on disk.

    Args:
        folder: the folder that is served.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata = folder / "metadata"
        self.targets = folder / "targets"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one command. Raises ConfigError: another one is at work."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                raise ConfigError(f"{self.folder}: another `onbelt repo` is at work there; wait for its end") from exc
            yield
        finally:
            os.close(handle)

    # --- reading ----------------------------------------------------------------------------------------------------------

    def root(self) -> Metadata[Root]:
        """The newest root. Raises DataError: there is no repository here."""
        versions = [
            int(path.name.split(".")[0]) for path in self.metadata.glob("*.root.json") if path.name.split(".")[0].isdigit()
        ]
        if not versions:
            raise DataError(f"{self.folder}: expected an update repository, there is no root; make one with: onbelt repo init")
        return cast("Metadata[Root]", self._read(f"{max(versions)}.root"))

    def timestamp(self) -> Metadata[Timestamp]:
        """The timestamp in force. Raises DataError."""
        return cast("Metadata[Timestamp]", self._read("timestamp"))

    def snapshot(self) -> Metadata[Snapshot]:
        """The snapshot in force. Raises DataError."""
        version = self.timestamp().signed.snapshot_meta.version
        return cast("Metadata[Snapshot]", self._read(f"{version}.snapshot"))

    def targets_of(self, role: str = "targets") -> Metadata[Targets]:
        """The metadata of a targets role in force. Raises DataError: there is no such role."""
        meta = self.snapshot().signed.meta.get(f"{role}.json")
        if meta is None:
            raise DataError(
                f"{self.folder}: expected a role {role.replace('~', '/')}, there is none; onbelt repo add-key makes it"
            )
        return cast("Metadata[Targets]", self._read(f"{meta.version}.{role}"))

    def delegated(self) -> list[str]:
        """Names of the delegated roles."""
        delegations = self.targets_of().signed.delegations
        return sorted(delegations.roles) if delegations and delegations.roles else []

    def role(self, name: str) -> Role:
        """Keys and threshold of a role. Raises DataError."""
        if name in SIGN_ORDER:
            return self.root().signed.roles[name]
        delegations = self.targets_of().signed.delegations
        if delegations is None or not delegations.roles or name not in delegations.roles:
            raise DataError(
                f"{self.folder}: expected a role {name.replace('~', '/')}, there is none; onbelt repo add-key makes it"
            )
        return delegations.roles[name]

    def key(self, keyid: str) -> Key | None:
        """A public key the repository knows, by its id."""
        known = dict(self.root().signed.keys)
        delegations = self.targets_of().signed.delegations
        return (known | (delegations.keys if delegations else {})).get(keyid)

    def read_target(self, target: TargetFile) -> bytes:
        """Content of a target, checked against its metadata. Raises DataError."""
        path = self.targets / target.get_prefixed_paths()[0]
        try:
            content = path.read_bytes()
            target.verify_length_and_hashes(content)
        except (OSError, RepositoryError) as exc:
            raise DataError(f"{path}: expected the file its metadata describes ({exc}); restore the repository") from exc
        return content

    def _read(self, name: str) -> AnyMetadata:
        path = self.metadata / f"{name}.json"
        try:
            with path.open("rb") as file:
                content = file.read(MAX_METADATA_BYTES + 1)
            if len(content) > MAX_METADATA_BYTES:
                raise DataError(f"{path}: expected at most {MAX_METADATA_BYTES} bytes; restore the repository from its copy")
            return Metadata.from_bytes(content)
        except FileNotFoundError as exc:
            raise DataError(f"{path}: expected an update repository; make one with: onbelt repo init") from exc
        except (OSError, RepositoryError) as exc:
            raise DataError(f"{path}: cannot be read ({exc}); restore the repository from its copy") from exc

    # --- writing ----------------------------------------------------------------------------------------------------------

    def add_target(self, path: str, content: bytes) -> TargetFile:
        """Put a target's bytes in their place; nobody sees them before metadata names them."""
        target = TargetFile.from_data(path, content, ["sha256"])
        where = self.targets / target.get_prefixed_paths()[0]
        where.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(where, content)
        return target

    def write_root(self, root: AnyMetadata) -> None:
        """Publish a root that has all its signatures."""
        self.metadata.mkdir(parents=True, exist_ok=True)
        self._write(f"{root.signed.version}.root", root)

    def write(self, changed: dict[str, Metadata[Targets]], keys: Keyring) -> None:
        """Sign and publish changed targets roles, then a snapshot and a timestamp that name them.

        Args:
            changed: new content by role name; versions and expiry are set here.
            keys: must hold the keys of these roles, of the snapshot and of the timestamp.

        Raises:
            ConfigError: a key is missing; nothing has been written.
        """
        root = self.root().signed
        for name in changed:
            keys.require(name, self._role_after(name, changed))
        for name in ("snapshot", "timestamp"):
            keys.require(name, root.roles[name])
        snapshot = self._snapshot_or_new()
        for name, metadata in changed.items():
            before = snapshot.signed.meta.get(f"{name}.json")
            metadata.signed.version = before.version + 1 if before else 1
            content = self._sign(name, metadata, keys, [self._role_after(name, changed)])
            snapshot.signed.meta[f"{name}.json"] = MetaFile(
                metadata.signed.version, len(content), {"sha256": hashlib.sha256(content).hexdigest()}
            )
        self._write_snapshot(snapshot, keys, root)

    def renew(self, keys: Keyring, *, snapshot: bool) -> None:
        """Publish a new timestamp, and a new snapshot where it is asked for. Raises ConfigError: a key is missing."""
        root = self.root().signed
        keys.require("timestamp", root.roles["timestamp"])
        if snapshot:
            keys.require("snapshot", root.roles["snapshot"])
            self._write_snapshot(self.snapshot(), keys, root)
        else:
            self._write_timestamp(self.timestamp(), keys, root)

    def _snapshot_or_new(self) -> Metadata[Snapshot]:
        if (self.metadata / "timestamp.json").exists():
            return self.snapshot()
        first = Snapshot()
        first.version = 0  # counted up before it is written
        first.meta = {}
        return Metadata(first)

    def _role_after(self, name: str, changed: dict[str, Metadata[Targets]]) -> Role:
        """A role as the change leaves it: a delegation may be changed together with what it delegates to."""
        if name == "targets":
            return self.root().signed.roles[name]
        delegations = changed["targets"].signed.delegations if "targets" in changed else self.targets_of().signed.delegations
        if delegations is None or not delegations.roles or name not in delegations.roles:
            raise DataError(
                f"{self.folder}: expected a role {name.replace('~', '/')}, there is none; onbelt repo add-key makes it"
            )
        return delegations.roles[name]

    def _write_snapshot(self, snapshot: Metadata[Snapshot], keys: Keyring, root: Root) -> None:
        snapshot.signed.version += 1
        content = self._sign("snapshot", snapshot, keys, [root.roles["snapshot"]])
        if (self.metadata / "timestamp.json").exists():
            timestamp = self.timestamp()
        else:
            timestamp = Metadata(Timestamp())
            timestamp.signed.version = 0
        timestamp.signed.snapshot_meta = MetaFile(
            snapshot.signed.version, len(content), {"sha256": hashlib.sha256(content).hexdigest()}
        )
        self._write_timestamp(timestamp, keys, root)

    def _write_timestamp(self, timestamp: Metadata[Timestamp], keys: Keyring, root: Root) -> None:
        timestamp.signed.version += 1
        timestamp.signed.expires = expiry("timestamp")
        timestamp.signatures.clear()
        keys.sign(timestamp, [root.roles["timestamp"]])
        write_atomic(self.metadata / "timestamp.json", timestamp.to_bytes(JSONSerializer(compact=False)))

    def _sign(self, name: str, metadata: AnyMetadata, keys: Keyring, roles: list[Role]) -> bytes:
        metadata.signed.expires = expiry(name)
        metadata.signatures.clear()
        keys.sign(metadata, roles)
        return self._write(f"{metadata.signed.version}.{name}", metadata)

    def _write(self, name: str, metadata: AnyMetadata) -> bytes:
        content = metadata.to_bytes(JSONSerializer(compact=False))
        write_atomic(self.metadata / f"{name}.json", content)
        return content


def expiry(role: str) -> datetime:
    """When metadata of a role made now expires; delegated roles live as long as targets."""
    life = LIFETIME.get(role, LIFETIME["targets"])
    return datetime.now(timezone.utc).replace(microsecond=0) + life
