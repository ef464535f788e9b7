"""Kill the updater before every single change it makes to the disk, and look what is left.

python tests/support/update_kill.py FOLDER commit|revert STRIDE     prints one JSON object per kill

Every update runs in a process of its own, which kills itself (SIGKILL) before its k-th change: an open for writing, a rename, a
link, a removal, a new folder, as the interpreter's audit events tell them. Then what the daemon would open is checked, and
another process starts the updater again and lets it finish. k counts up until an update survives.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import onnxruntime  # noqa: F401 - imported once here, not in every process

from edge.update.machine import Watched
from edge.update.state import Model
from tests.support.update_box import GOOD, Box
from tests.support.update_site import UpdateSite

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {"os.rename", "os.symlink", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}


def in_child(work: Callable[[], Any]) -> tuple[int, Any]:
    """Run in a process of its own: (signal that ended it or 0, what it returned)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        answer = json.dumps(work()).encode()
        os.write(write, answer)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    status = os.waitpid(child, 0)[1]
    return (os.WTERMSIG(status), None) if os.WIFSIGNALED(status) else (0, json.loads(answer))


def kill_before_change(number: int, folder: Path) -> None:
    """From now on this process ends before its `number`-th change under `folder`."""
    left = [number]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        changes = isinstance(args[2], int) and bool(args[2] & _WRITES) if event == "open" else event in _CHANGES
        if not changes or not str(args[0]).startswith(str(folder)):
            return
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def compared(_model: Model) -> Watched:
    """The new model may take over."""
    return Watched("", "40 parts, none judged otherwise")


def main() -> None:
    folder, scenario, stride = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    site = UpdateSite(folder / "site")
    site.publish(1)
    box_folder = folder / "box"

    def first() -> str:
        return Box(box_folder, site).update().committed.sha256

    old = in_child(first)[1]
    new = site.publish(2).sha256
    verdict = GOOD if scenario == "commit" else Watched("rejects", "too many")
    as_it_was = folder / "as-it-was"
    shutil.copytree(box_folder, as_it_was, symlinks=True)
    number = 1
    while True:
        shutil.rmtree(box_folder)
        shutil.copytree(as_it_was, box_folder, symlinks=True)

        def update(number: int = number) -> bool:
            kill_before_change(number, box_folder)
            box = Box(box_folder, site, shadow=compared)
            box.verdict = verdict
            box.update()
            return True

        ended, _ = in_child(update)

        def recover() -> dict[str, Any]:
            box = Box(box_folder, site, shadow=compared)
            box.verdict = verdict
            found = box.machine.state.step.value
            box.finish()
            if not box.machine.state.refused:
                box.update()
            state = box.machine.state
            return {
                "step": found,
                "end": state.step.value,
                "committed": state.committed.sha256 if state.committed else "",
                "reason": state.reason,
                "running": hashlib.sha256(box.running).hexdigest(),
            }

        left = hashlib.sha256((box_folder / "update" / "current").read_bytes()).hexdigest()
        after = in_child(recover)[1]
        print(json.dumps({"kill": number, "signal": ended, "left": left, "old": old, "new": new, **after}), flush=True)
        if not ended:
            return
        number += stride


if __name__ == "__main__":
    main()
