"""Which keys sign for what: the root, the top-level roles, and one delegated role per site and product.

Changing keys of the top-level roles makes a new root, and a root needs signatures by the threshold of its old and of its new
keys, which never lie in one place. It therefore waits in `staged-root.json` beside the repository's served folders (not
in them) until enough keys have been brought.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Targets
from tuf.api.serialization.json import JSONSerializer

from edge.bundle.signing import generate_key
from edge.errors import ConfigError, DataError
from edge.update.files import write_atomic
from edge.update.release import role_name
from export.repository.keyring import Keyring, public_key
from export.repository.store import SIGN_ORDER, RepositoryFolder, expiry


@dataclass(frozen=True, slots=True)
class Signing:
    """How far a root is signed.

    Attributes:
        version: of the root. published: it has all it needs, and is in force.
        missing: signatures it still needs, by the keys of the old root and of the new one.
    """

    version: int
    published: bool
    missing: tuple[int, int]


def init(repository: RepositoryFolder, keys: Path, *, root_keys: int, threshold: int) -> list[Path]:
    """Make a repository and its keys.

    Args:
        repository: the folder to make.
        keys: folder for the private keys, made when missing.
        root_keys: how many root keys to make.
        threshold: how many of them sign a root together.

    Returns:
        The private keys: root-1.key and so on, targets.key, online.key (snapshot and timestamp).

    Raises:
        ConfigError: there is a repository or a key already; impossible numbers.
    """
    if not 1 <= threshold <= root_keys <= 16:
        raise ConfigError(f"expected 1 <= threshold <= root keys <= 16, got threshold {threshold} of {root_keys}")
    with repository.locked():
        if repository.metadata.exists():
            raise ConfigError(f"{repository.metadata}: exists; a repository is never overwritten: name another folder")
        keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        names = [*(f"root-{number}" for number in range(1, root_keys + 1)), "targets", "online"]
        paths = [keys / f"{name}.key" for name in names]
        for path in paths:
            generate_key(path)
        ring = Keyring([keys])
        root = Root(version=1, expires=expiry("root"), consistent_snapshot=True)
        for path in paths[:root_keys]:
            root.add_key(public_key(path.with_name(path.name + ".pub")), "root")
        root.roles["root"].threshold = threshold
        root.add_key(public_key(keys / "targets.key.pub"), "targets")
        for role in ("snapshot", "timestamp"):
            root.add_key(public_key(keys / "online.key.pub"), role)
        metadata = Metadata(root)
        ring.sign(metadata, [root.roles["root"]])
        repository.write_root(metadata)
        repository.targets.mkdir(exist_ok=True)
        first = Targets(expires=expiry("targets"))
        first.delegations = Delegations({}, {})
        repository.write({"targets": Metadata(first)}, ring)
    return paths


def add_key(repository: RepositoryFolder, role: str, public: Path, keys: Keyring, *, remove: str = "") -> Signing | None:
    """Let a key sign for a role, and take another one's right away in the same step where a rotation is wanted.

    Args:
        repository: where.
        role: root, targets, snapshot, timestamp, or SITE/PRODUCT (made when it is new).
        public: the public key file.
        keys: the private keys at hand.
        remove: id (or its beginning) of the key that loses the role, empty for none.

    Returns:
        How far the new root is signed, or None where a delegated role was changed and is in force.

    Raises:
        ConfigError: keys are missing, or `remove` names none of the role's keys. DataError: no repository here.
    """
    new = public_key(public)
    with repository.locked():
        if role in SIGN_ORDER:
            root = _next_root(repository)
            root.signed.add_key(new, role)
            if remove:
                root.signed.revoke_key(_keyid(remove, root.signed.roles[role].keyids, role), role)
            return _stage(repository, root, keys)
        site, _, product = role.partition("/")
        if not site or not product or "/" in product:
            raise ConfigError(f"expected a role {', '.join(SIGN_ORDER)} or SITE/PRODUCT, got {role!r}")
        name = role_name(site, product)
        targets = repository.targets_of()
        delegations = targets.signed.delegations or Delegations({}, {})
        roles = delegations.roles = delegations.roles or {}
        changed = {"targets": targets}
        if name not in roles:
            roles[name] = DelegatedRole(name, [], 1, terminating=True, paths=[f"{site}/{product}/*"])
            changed[name] = Metadata(Targets(expires=expiry(name)))
        else:
            changed[name] = repository.targets_of(name)
        targets.signed.delegations = delegations
        targets.signed.add_key(new, name)
        if remove:
            targets.signed.revoke_key(_keyid(remove, roles[name].keyids, role), name)
        # The role itself is signed anew: after a rotation its old signatures count for nothing.
        repository.write(changed, keys)
    return None


def sign_root(repository: RepositoryFolder, keys: Keyring) -> Signing:
    """Add the keys at hand to the waiting root; it comes into force when it has enough.

    Raises:
        DataError: no root is waiting.
    """
    with repository.locked():
        path = _staged(repository)
        if not path.exists():
            raise DataError(f"{path}: expected a root that waits for signatures, there is none; nothing to do")
        try:
            root = cast("Metadata[Root]", Metadata.from_file(str(path)))
        except RepositoryError as exc:
            raise DataError(f"{path}: cannot be read ({exc}); remove it and add the key again") from exc
        if root.signed.version != repository.root().signed.version + 1:
            raise DataError(
                f"{path}: expected version {repository.root().signed.version + 1}, got {root.signed.version}; remove it"
            )
        return _stage(repository, root, keys)


def _next_root(repository: RepositoryFolder) -> Metadata[Root]:
    if _staged(repository).exists():
        raise ConfigError(f"{_staged(repository)}: a root waits for signatures; finish it with onbelt repo sign, or remove it")
    root = repository.root()
    root.signed.version += 1
    root.signed.expires = expiry("root")
    root.signatures.clear()
    return root


def _stage(repository: RepositoryFolder, root: Metadata[Root], keys: Keyring) -> Signing:
    before = repository.root().signed
    keys.sign(root, [before.roles["root"], root.signed.roles["root"]])
    result = root.signed.get_root_verification_result(before, root.signed_bytes, root.signatures)
    missing = (result.first.missing, result.second.missing)  # of the old root's keys, of the new one's
    path = _staged(repository)
    if not result.verified:
        write_atomic(path, root.to_bytes(JSONSerializer(compact=False)))
        return Signing(root.signed.version, published=False, missing=missing)
    # Roles whose keys changed are signed anew at once: in between, clients refuse them and keep what they have.
    for role in ("targets", "snapshot", "timestamp"):
        if set(before.roles[role].keyids) != set(root.signed.roles[role].keyids):
            keys.require(role, root.signed.roles[role])
    repository.write_root(root)
    path.unlink(missing_ok=True)
    changed = {"targets": repository.targets_of()} if _changed("targets", before, root.signed) else {}
    if changed:
        repository.write(changed, keys)
    elif _changed("snapshot", before, root.signed) or _changed("timestamp", before, root.signed):
        repository.renew(keys, snapshot=True)
    return Signing(root.signed.version, published=True, missing=(0, 0))


def _changed(role: str, before: Root, after: Root) -> bool:
    return set(before.roles[role].keyids) != set(after.roles[role].keyids)


def _staged(repository: RepositoryFolder) -> Path:
    return repository.folder / "staged-root.json"


def _keyid(start: str, keyids: list[str], role: str) -> str:
    found = [keyid for keyid in keyids if keyid.startswith(start)]
    if len(found) != 1:
        raise ConfigError(f"--remove {start}: expected one of the keys of {role} ({', '.join(k[:12] for k in keyids)})")
    return found[0]
