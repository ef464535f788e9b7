"""Faults on order: what to break, when, and for how long.

    kill-daemon@12,kill-broker@20      at these seconds of the run
    kill-daemon,kill-gate,kill-broker  spread evenly over it

A killed process comes back half a second later, as a service manager would bring it; a frozen one goes on after two seconds.
"""

from dataclasses import dataclass

from edge.errors import ConfigError

RESTART_S = 0.5
FREEZE_S = 2.0
KINDS = {
    "kill-daemon": "SIGKILL to the daemon",
    "kill-gate": "SIGKILL to the gate",
    "kill-broker": "SIGKILL to the broker",
    "freeze-daemon": "SIGSTOP to the daemon for 2 s",
    "freeze-gate": "SIGSTOP to the gate for 2 s",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when (seconds after the belt's start), what to do ("kill", "freeze"), and to whom."""

    at_s: float
    act: str
    target: str

    @property
    def over_s(self) -> float:
        """When it is undone."""
        return self.at_s + (RESTART_S if self.act == "kill" else FREEZE_S)

    def __str__(self) -> str:
        return f"{self.act}-{self.target}"


def parse_faults(text: str, seconds: float) -> list[Fault]:
    """Read the list given on the command line.

    Args:
        text: comma-separated; empty for none.
        seconds: length of the run, which faults without a time are spread over.

    Raises:
        ConfigError: an unknown fault, or a time outside the run.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    faults = []
    for turn, word in enumerate(words, start=1):
        kind, given, when = word.partition("@")
        if kind not in KINDS:
            raise ConfigError(f"--faults: expected {', '.join(KINDS)}, each with @SECONDS or without, got {word!r}")
        try:
            at_s = float(when) if given else seconds * turn / (len(words) + 1)
        except ValueError as exc:
            raise ConfigError(f"--faults: expected seconds after the @, got {word!r}") from exc
        if not 0 <= at_s < seconds:
            raise ConfigError(f"--faults: expected a time within the run of {seconds:g} s, got {word!r}")
        act, _, target = kind.partition("-")
        faults.append(Fault(at_s, act, target))
    return sorted(faults, key=lambda fault: fault.at_s)
