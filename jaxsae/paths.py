"""Paths that mean the same from any working directory, and those that cannot be written to."""

import os
import sys
from pathlib import Path

from jaxsae.errors import InputError


def check_encoding(name: str, path: str | Path) -> None:
    """Refuses a name that Python and TensorStore would write differently: Python in the locale's encoding, not UTF-8.

    Args:
      name: what stands before the path in the message, such as "--workdir=", or nothing.
      path: as a user gave it; where it is relative, the working directory counts too.
    """
    here = str(path)
    whole = here if "://" in here else os.path.abspath(here)
    if not whole.isascii() and sys.getfilesystemencoding() != "utf-8":
        raise InputError(
            f"{name}{whole!a}: this Python writes names in {sys.getfilesystemencoding()}, others in UTF-8. Start it with "
            "PYTHONUTF8=1 (the command `jaxsae` does so itself)."
        )


def check_above(name: str, path: str | Path) -> None:
    """Refuses a path below something that is no directory; arguments as of `check_encoding`."""
    above = next((p for p in Path(path).absolute().parents if p.exists()), None)
    if above is not None and not above.is_dir():
        raise InputError(f"{name}{path}: {above} is a file, so nothing can be written below it. Name another place.")


def absolute(name: str, new: bool = False) -> str:
    """`name` from the root where it is a path, else as it is: a URL, a hub id, a word such as "shipped".

    Args:
      name: as a user gave it; `~` is the home directory.
      new: whether it is a path or a URL, and nothing needs to be there yet; else it is a path where something is.
    """
    path = os.path.expanduser(name)
    return os.path.abspath(path) if "://" not in name and (new or os.path.exists(path)) else name
