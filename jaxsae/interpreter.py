"""Python processes of our own that see the same modules as this one, whatever lies in the working directory."""

import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

PACKAGES = str(Path(__file__).parents[1])  # where this package was found


def command(module: str, *arguments: str) -> list[str]:
    """The command line of a module: `-P`, since `-m` alone would put the working directory before the installed modules."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's, with this package to be found; `more` comes over it."""
    path = [PACKAGES, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)} | dict(more or {})


def end_with_parent() -> None:
    """From here on this process ends within a second of its parent, however that ended.

    A compiler listens to nobody for minutes, and a kernel that hangs would hold its device for ever.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
