"""The limit a model is judged with on a station that has a signed limit file of its own (`model.limit`).

Such a file belongs to one network. On a box whose models come from an updater the network changes and station.toml does not,
so the file counts for the network it was fitted for and for no other: a new network judges with the limit it was published with,
and an old one that comes back finds its file again. Refusing instead would leave the box without a model at its next start.
Daemon, proof and shadow ask here, so that a model is compared with the limit it will judge with.
"""

import logging
from pathlib import Path

from edge.bundle.reader import Bundle
from edge.bundle.signing import TrustStore
from edge.limits.apply import model_hash, with_limit
from edge.limits.file import read_limit

logger = logging.getLogger(__name__)


def limited(bundle: Bundle, limit: str, trust: TrustStore) -> Bundle:
    """A model with the limit it has on this station.

    Args:
        bundle: a verified model.
        limit: the station's limit file, empty for none.
        trust: the keys this box believes.

    Raises:
        LimitError: the file cannot be read or verified, or lets a golden picture pass without saying so.
        ConfigError: a file among the trusted keys is no key.
    """
    if not limit:
        return bundle
    signed = read_limit(Path(limit), trust)
    if signed.form.model != model_hash(bundle):
        logger.warning(
            "%s is for another network (%s) than version %d: that one judges with its own limit; fit one with onbelt limit",
            limit,
            signed.form.name[:32],
            bundle.manifest.version,
        )
        return bundle
    return with_limit(bundle, signed)
