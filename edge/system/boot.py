"""The boot id: a ULID per start of the process, so that a verdict of an earlier start is told from one of this start.

Source: the ULID specification (github.com/ulid/spec): 48 bits of milliseconds, 80 random bits, Crockford's base 32, sortable.
"""

import secrets

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_boot(utc_us: int, entropy: int | None = None) -> str:
    """Make a boot id.

    Args:
        utc_us: wall clock, microseconds. A wrong clock costs the order of boots, not their uniqueness.
        entropy: 80 random bits; None draws them.

    Returns:
        26 characters.
    """
    entropy = secrets.randbits(80) if entropy is None else entropy
    number = (utc_us // 1000 % 2**48) << 80 | entropy
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
