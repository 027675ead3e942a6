"""Paths that mean the same from any working directory."""

import os


def absolute(name: str, new: bool = False) -> str:
    """`name` from the root where it is a path, else as it is: a URL, a hub id, a word such as "shipped".

    Args:
      name: as a user gave it; `~` is the home directory.
      new: whether it is a path or a URL, and nothing needs to be there yet; else it is a path where something is.
    """
    path = os.path.expanduser(name)
    return os.path.abspath(path) if "://" not in name and (new or os.path.exists(path)) else name
