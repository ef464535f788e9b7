"""Every error `edge` raises on purpose, grouped by who must act.

    OnbeltError
    ├── PictureError        a picture file or frame cannot be used (whoever supplied it)
    ├── BundleError         a bundle is malformed, altered or does not fit (whoever publishes models)
    │   └── SignatureError  unsigned, or signed by a key this box does not trust
    ├── LimitError          a limit file is malformed, altered, unsigned or of another model (whoever sets limits)
    ├── EngineError         the inference engine cannot be built or run (whoever runs the box)
    ├── CameraError         the camera cannot deliver a frame (whoever runs the box)
    ├── ConfigError         station.toml or gate.toml is wrong (the integrator)
    ├── BrokerError         the broker cannot be reached or refuses us (the integrator)
    ├── ContractError       a message from outside breaks the verdict contract (its sender)
    ├── JournalError        the verdict journal cannot be written (whoever runs the box)
    │   └── ChainError      its chain, a seal or a replayed score does not hold (whoever trusts it)
    ├── EvidenceError       a frame cannot be kept, or is not the one that was judged (whoever runs the box)
    ├── DataError           a data set cannot be used (the engineer who trains)
    └── UpdateError         an update cannot be fetched, or the model it brings is refused (whoever publishes models)

A message says what was expected, what came, where, and what to do. `exit_code` is what the command line ends with:
1 fault, 2 usage, 3 verification failed.
"""


class OnbeltError(Exception):
    """Root of all errors raised on purpose."""

    exit_code = 1


class PictureError(OnbeltError):
    """A picture cannot be read, or is not of a kind that can be judged."""


class BundleError(OnbeltError):
    """A bundle is malformed, altered, too large or made for something else.

    Attributes:
        member: name of the offending member of the bundle, or an empty string.
    """

    exit_code = 3

    def __init__(self, message: str, *, member: str = "") -> None:
        super().__init__(message)
        self.member = member


class SignatureError(BundleError):
    """A bundle is unsigned, or its signature does not verify under any trusted key."""


class LimitError(OnbeltError):
    """A limit file is malformed, altered, not signed by a trusted key, or belongs to another model."""

    exit_code = 3


class EngineError(OnbeltError):
    """An engine cannot be built, or failed while running."""


class CameraError(OnbeltError):
    """The camera delivered no usable frame.

    Attributes:
        have: of several cameras on one part, those that did deliver.
    """

    def __init__(self, text: str, *, have: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.have = have


class ConfigError(OnbeltError):
    """A configuration file is unreadable, has an unknown key or an impossible value."""

    exit_code = 2


class BrokerError(OnbeltError):
    """The MQTT broker cannot be reached or refuses the connection."""


class ContractError(OnbeltError):
    """A message from outside breaks the verdict contract."""


class JournalError(OnbeltError):
    """The verdict journal cannot be read or written."""


class ChainError(JournalError):
    """The verdict journal does not verify: something was altered, removed or inserted."""

    exit_code = 3


class EvidenceError(OnbeltError):
    """Evidence cannot be kept or read, or is not what its hash says.

    Attributes:
        gone: it is simply not kept any more.
    """

    def __init__(self, message: str, *, gone: bool = False) -> None:
        super().__init__(message)
        self.gone = gone


class DataError(OnbeltError):
    """A data set is missing, empty or inconsistent."""


class UpdateError(OnbeltError):
    """An update cannot be fetched, or what it brings is refused.

    Attributes:
        reason: one word for machines and reports, of `edge.update.reasons`.
    """

    exit_code = 3

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
