"""Python processes of our own that see the same modules as this one, whatever lies in the working directory."""

import os
import sys
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
