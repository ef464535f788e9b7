"""The signing key of this machine: made on first use, so that a newcomer's first export can be judged at once.

A production line keeps its key elsewhere and passes `--key`.
"""

import logging
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.bundle.signing import generate_key, load_private, public_path

logger = logging.getLogger(__name__)


def default_signing_key() -> Ed25519PrivateKey:
    """Load ~/.config/onbelt/signing.key, or make it and trust its public half on this machine."""
    # The folder `edge.bundle.signing.default_trust` looks in: a key made elsewhere would not be believed.
    folder = Path.home() / ".config" / "onbelt"
    private = folder / "signing.key"
    if not private.exists():
        trusted = folder / "trusted"
        trusted.mkdir(parents=True, exist_ok=True)
        generate_key(private)
        public = public_path(private)
        (trusted / "this-machine.pub").write_bytes(public.read_bytes())
        logger.info("made a signing key, %s, and trusted its public half on this machine (%s)", private, trusted)
    return load_private(private)
