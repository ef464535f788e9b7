"""How warm the machine is, as the kernel's thermal zones say: a hot box clocks down, and verdicts grow late.

Source: Documentation/driver-api/thermal/sysfs-api.rst of the kernel.
"""

from pathlib import Path

ROOT = Path("/sys/class/thermal")
ZONES = 8  # a Jetson has ten; the hottest ones are what a person looks for
_NAME_LETTERS = 24
_SENSIBLE_C = (-100.0, 250.0)  # drivers say -274 or 1000 where they know nothing


def temperatures(root: Path = ROOT) -> dict[str, float] | None:
    """Degrees Celsius by zone, the hottest first; None where the kernel names none, as in most containers.

    Zones that are switched off cannot be read and are left out. Of zones of one name the hottest stands.
    """
    found: dict[str, float] = {}
    for zone in root.glob("thermal_zone*"):
        try:
            celsius = int((zone / "temp").read_text()) / 1000
            kind = (zone / "type").read_text().strip()
        except (OSError, ValueError):
            continue
        if _SENSIBLE_C[0] < celsius < _SENSIBLE_C[1]:
            name = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_" for letter in kind)
            name = name[:_NAME_LETTERS] or zone.name
            found[name] = max(celsius, found.get(name, celsius))
    hottest = sorted(found.items(), key=lambda one: -one[1])[:ZONES]
    return {name: round(celsius, 1) for name, celsius in hottest} or None
