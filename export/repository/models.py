"""Models in a repository: publish one, give it to a channel, take it back, and say how things stand."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import Metadata, TargetFile, Targets

from edge.bundle.reader import read_bundle
from edge.bundle.signing import TrustStore
from edge.errors import BundleError, ConfigError, DataError
from edge.update.release import (
    CHANNEL_SCHEMA,
    NAME,
    Channel,
    channel_path,
    decode_channel,
    encode_channel,
    model_path,
    role_name,
)
from export.repository.keyring import Keyring
from export.repository.store import RepositoryFolder


@dataclass(frozen=True, slots=True)
class Published:
    """A model in the repository. `path`: of the target. `sha256`: of the bundle file. `bytes`: its size."""

    path: str
    version: int
    sha256: str
    bytes: int


def publish(
    repository: RepositoryFolder,
    bundle: Path,
    site: str,
    trust: TrustStore,
    keys: Keyring,
    *,
    channel: str = "",
    minimum: int = 0,
) -> Published:
    """Add a model for a site, and give it to a channel where one is named.

    Args:
        repository: where.
        bundle: the signed model file; its manifest says product and version.
        site: whose boxes may fetch it.
        trust: keys the bundle must be signed by.
        keys: of the site's and product's role, of snapshot and timestamp.
        channel: channel that holds the model from now on, empty for none.
        minimum: lowest version its boxes may run.

    Raises:
        BundleError, SignatureError: the bundle is not to be used. ConfigError: keys are missing, or the version is taken.
        DataError: the site and product have no role yet.
    """
    if not bundle.is_file():
        raise BundleError(f"{bundle}: no such bundle; expected an .onbelt file there")
    content = bundle.read_bytes()
    manifest = read_bundle(content, trust, bundle).manifest
    path = model_path(site, manifest.product, manifest.version)
    digest = hashlib.sha256(content).hexdigest()
    with repository.locked():
        name = role_name(site, manifest.product)
        role = repository.targets_of(name)
        known = role.signed.targets.get(path)
        if known is not None and known.hashes.get("sha256") != digest:
            raise ConfigError(
                f"{path}: is published with other content (sha256 {known.hashes.get('sha256', '')[:12]}, this file has "
                f"{digest[:12]}); a version is never changed: export with the next --version"
            )
        role.signed.targets[path] = repository.add_target(path, content)
        if channel:
            _give(repository, role, site, manifest.product, channel, manifest.version, minimum)
        repository.write({name: role}, keys)
    return Published(path, manifest.version, digest, len(content))


def promote(
    repository: RepositoryFolder, site: str, product: str, version: int, channel: str, keys: Keyring, *, minimum: int = 0
) -> Channel:
    """Let a channel hold this version, newer or older than what it holds. Raises ConfigError, DataError."""
    with repository.locked():
        name = role_name(site, product)
        role = repository.targets_of(name)
        document = _give(repository, role, site, product, channel, version, minimum)
        repository.write({name: role}, keys)
    return document


def withdraw(repository: RepositoryFolder, site: str, product: str, version: int, keys: Keyring) -> None:
    """Take a model off the list: no box starts it any more. Its file stays until somebody removes it.

    Raises:
        ConfigError: a channel holds it. DataError: it is not listed.
    """
    with repository.locked():
        name = role_name(site, product)
        role = repository.targets_of(name)
        path = model_path(site, product, version)
        if path not in role.signed.targets:
            raise DataError(f"{path}: expected a published model; listed are {_versions(role.signed) or 'none'}")
        holding = [one.channel for one in channels(repository, role.signed, site, product) if one.version == version]
        if holding:
            raise ConfigError(
                f"{path}: channel {', '.join(holding)} holds it; first give the channel another version: "
                f"onbelt repo promote {repository.folder} {site}/{product} VERSION {holding[0]}"
            )
        del role.signed.targets[path]
        repository.write({name: role}, keys)


def channels(repository: RepositoryFolder, role: Targets, site: str, product: str) -> list[Channel]:
    """The channels of a site and product."""
    found = []
    for path, target in sorted(role.targets.items()):
        if path.endswith(".json"):
            channel = path.rpartition("/")[2].removesuffix(".json")
            found.append(decode_channel(repository.read_target(target), site, product, channel))
    return found


def models(role: Targets) -> dict[str, TargetFile]:
    """The published models of a role, by path."""
    return {path: target for path, target in sorted(role.targets.items()) if path.endswith(".onbelt")}


def _give(
    repository: RepositoryFolder, role: Metadata[Targets], site: str, product: str, channel: str, version: int, minimum: int
) -> Channel:
    if not NAME.fullmatch(channel):
        raise ConfigError(f"channel: expected 1 to 32 of A-Z a-z 0-9 . _ -, got {channel!r}")
    path = model_path(site, product, version)
    model = role.signed.targets.get(path)
    if model is None:
        raise DataError(f"{path}: expected a published model; listed are {_versions(role.signed) or 'none'}")
    before = [one for one in channels(repository, role.signed, site, product) if one.channel == channel]
    # The lowest version allowed never falls by itself: who wants it lower makes a new channel.
    minimum = max([minimum, *(one.minimum for one in before)])
    if version < minimum:
        raise ConfigError(f"{path}: version {version} is below the channel's lowest, {minimum}")
    document = Channel(CHANNEL_SCHEMA, site, product, channel, path, version, model.hashes["sha256"], minimum)
    where = channel_path(site, product, channel)
    role.signed.targets[where] = repository.add_target(where, encode_channel(document))
    return document


def _versions(role: Targets) -> str:
    return ", ".join(path.rpartition("/")[2] for path in models(role))
