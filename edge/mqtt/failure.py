"""Why there is no connection, in words, and what to do about it."""

import socket
import ssl

TAKEN_OVER = "the broker accepts us and hangs up again and again"
_REMEDIES = {
    TAKEN_OVER: "another client uses our name: is a second daemon running for this station?",
    "Bad user name or password": "check mqtt.user and its password file",
    "Not authorized": "give this user access in the broker's ACL, or check mqtt.user and its password file",
    "Session taken over": "another client uses our name: is a second daemon running for this station?",
    "Unsupported protocol version": "the other protocol version is tried next",
}


def remedy(why: str) -> str:
    """What to look at first."""
    return next((text for name, text in _REMEDIES.items() if name in why), "is the broker running there?")


def is_about_protocol(why: str) -> bool:
    """Whether another version of the protocol may be accepted where this one was not."""
    # A broker that knows 3.1.1 only says so, hangs up, or (amqtt) falls silent.
    return any(sign in why for sign in ("protocol version", "closed the connection", "Unspecified", "no answer to CONNECT"))


def reason(exc: Exception) -> str:
    """What a failed attempt to connect says."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the broker's certificate does not verify ({exc.verify_message}); check mqtt.ca and mqtt.host"
    if isinstance(exc, socket.gaierror):
        return f"the name does not resolve ({exc.strerror})"
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
