"""Are the four import names really ours, and are the installed files the ones we shipped?

`edge`, `export`, `calibration` and `training` are ordinary words, and another distribution may bring one of them: installing
it would overwrite our files without a warning from the installer. A box checks this at start and in `onbelt doctor`
(docs/adr/0001).
"""

import base64
import hashlib
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

DISTRIBUTION = "onbelt"
IMPORT_NAMES = ("edge", "export", "calibration", "training")


@dataclass(frozen=True, slots=True)
class InstallationReport:
    """What was found.

    Attributes:
        kind: "wheel", "editable" (a checkout: nothing to verify) or "none" (run from a folder, not installed).
        faults: one sentence per fault, empty when all is well.
    """

    kind: str
    faults: tuple[str, ...]


def verify_installation() -> InstallationReport:
    """Check the owner of each import name and the SHA-256 of every installed file against RECORD."""
    try:
        ours = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return InstallationReport("none", ())
    if _is_editable(ours):
        return InstallationReport("editable", ())
    faults: list[str] = []
    owners = packages_distributions()
    for name in IMPORT_NAMES:
        found = sorted(set(owners.get(name, [])))
        if found != [DISTRIBUTION]:
            faults.append(
                f"import name {name!r}: expected only {DISTRIBUTION}, found {', '.join(found) or 'nobody'}; "
                "uninstall the other distribution and reinstall onbelt in a virtual environment of its own"
            )
    for file in ours.files or []:
        if file.hash is None or file.hash.mode != "sha256":
            continue
        path = Path(str(file.locate()))
        try:
            digest = hashlib.sha256(path.read_bytes()).digest()
        except OSError as error:
            faults.append(f"{path}: installed file cannot be read ({error.strerror}); reinstall onbelt")
            continue
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            faults.append(f"{path}: differs from what onbelt {ours.version} installed; reinstall onbelt")
    return InstallationReport("wheel", tuple(faults))


def _is_editable(dist: Distribution) -> bool:
    # An editable install records a .pth file and none of our modules.
    return not any(str(file).startswith("edge/") for file in dist.files or [])
