"""Private keys at hand, found by what the metadata asks for.

Keys are the same PEM files `onbelt keygen` makes (Ed25519, mode 0600). A command is given the folders that are mounted at the
moment: the online key on the publishing machine, a stick with a root key, or several.
"""

from collections.abc import Iterable
from pathlib import Path

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Key, Metadata, Role

from edge.bundle.signing import load_private, load_public
from edge.errors import ConfigError


class Keyring:
    """The signers in some folders (`*.key`), by key id.

    Raises:
        ConfigError: a folder is missing, or a file in it is no private key of ours.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = [str(folder) for folder in folders]
        self._signers: dict[str, CryptoSigner] = {}
        self.names: dict[str, str] = {}
        for folder in map(Path, self._folders):
            if not folder.is_dir():
                raise ConfigError(f"{folder}: expected a folder of private keys (*.key), there is none; mount it or name another")
            for path in sorted(folder.glob("*.key")):
                signer = CryptoSigner(load_private(path))
                self._signers[signer.public_key.keyid] = signer
                self.names[signer.public_key.keyid] = path.stem

    def sign(self, metadata: Metadata, roles: Iterable[Role]) -> None:  # type: ignore[type-arg]  # any kind of metadata
        """Add the signature of every key at hand that one of the roles names; signatures of other keys stay."""
        wanted = {keyid for role in roles for keyid in role.keyids}
        for keyid in sorted(wanted & set(self._signers)):
            metadata.sign(self._signers[keyid], append=True)

    def require(self, what: str, role: Role) -> None:
        """Make sure that the keys at hand can sign for a role alone.

        Raises:
            ConfigError: fewer than its threshold are here.
        """
        here = sorted(set(role.keyids) & set(self._signers))
        if len(here) < role.threshold:
            wanted = ", ".join(keyid[:12] for keyid in role.keyids)
            raise ConfigError(
                f"{what}: expected {role.threshold} of the keys {wanted}, found {len(here)} in "
                f"{', '.join(self._folders) or 'no folder'}; name their folder with --keys"
            )


def public_key(path: Path) -> Key:
    """A public key file of `onbelt keygen` as the metadata names it. Raises ConfigError."""
    return SSlibKey.from_crypto(load_public(path))
