"""What a repository calls things, and the channel document: shared by the box and by whoever publishes.

    {site}/{product}/{product}-{version}.onbelt     a model
    {site}/{product}/{channel}.json                 which model the channel holds

Both are TUF targets of one delegated role per site and product, so a site's key can publish for that site and product only.
A channel that lists an older model is how a legitimate downgrade looks: newer metadata that names an older target.
"""

import re
from typing import Annotated

import msgspec

from edge.errors import UpdateError

CHANNEL_SCHEMA = 1
MAX_CHANNEL_BYTES = 4096
MAX_VERSION = 2**31 - 1

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Version = Annotated[int, msgspec.Meta(ge=1, le=MAX_VERSION)]
Target = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,32}/[A-Za-z0-9._-]{1,32}/[A-Za-z0-9._-]{1,56}\Z")]


class Channel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of a channel document.

    Attributes:
        schema: version of this form. site, product, channel: what it is for; compared with its path.
        target: path of the model. version: of the model, as in its manifest. sha256: of the bundle file.
        minimum: lowest version a box may run; a box never goes below the highest minimum it has seen.
    """

    schema: int
    site: Name
    product: Name
    channel: Name
    target: Target
    version: Version
    sha256: Sha256
    minimum: Annotated[int, msgspec.Meta(ge=0, le=MAX_VERSION)] = 0


def role_name(site: str, product: str) -> str:
    """The delegated role that signs for a site and product; '~' occurs in neither name."""
    return f"{site}~{product}"


def model_path(site: str, product: str, version: int) -> str:
    """Target path of a model."""
    return f"{site}/{product}/{product}-{version}.onbelt"


def channel_path(site: str, product: str, channel: str) -> str:
    """Target path of a channel document."""
    return f"{site}/{product}/{channel}.json"


def encode_channel(channel: Channel) -> bytes:
    """The bytes of a channel document."""
    return msgspec.json.format(msgspec.json.encode(channel), indent=1) + b"\n"


def decode_channel(content: bytes, site: str, product: str, channel: str) -> Channel:
    """Read a channel document that has been verified.

    Raises:
        UpdateError: not of this form, or made for something else ("malformed").
    """
    where = channel_path(site, product, channel)
    try:
        document = msgspec.json.decode(content, type=Channel)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise UpdateError(
            f"{where}: not as agreed ({exc}); publish again with this version of onbelt", reason="malformed"
        ) from exc
    expected = (CHANNEL_SCHEMA, site, product, channel, model_path(site, product, document.version))
    got = (document.schema, document.site, document.product, document.channel, document.target)
    if got != expected:
        raise UpdateError(
            f"{where}: expected schema, site, product, channel and target {expected}, got {got}; publish again",
            reason="malformed",
        )
    return document
