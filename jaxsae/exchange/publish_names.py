"""Names fit for others to read: paths of this machine become the names of what they lead to."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CARD, MARK = "README.md", "jaxsae itself takes it in with"  # a card has these words
_PATH = re.compile(r"(?<![\w:/.~-])(?:~|\.{1,2})?/(?:[^\s/'\"`,;|]+/)*([^\s/'\"`,;|]+)/?")
_URL = re.compile(r"(?:file|gs|s3)://\S*?([^\s/'\"`,;|]+)/?(?=[\s'\"`,;|]|$)")
PLACES = ("store", "workdir", "initialize_from", "source_run")  # flags that name places, be they relative


def is_card(path: Path) -> bool:
    """Whether a file is a card that an export wrote."""
    return path.name == CARD and MARK in path.read_text(encoding="utf-8", errors="replace")


def is_local(name: str) -> bool:
    """Whether it is a path of this machine, or a URL of a bucket; a hub id or a word is none."""
    return bool(_URL.fullmatch(name)) or name.startswith(("/", "~", "./", "../"))


def last_part(name: str) -> str:
    """What a path or a URL leads to; anything else as it is."""
    return name.rstrip("/").rpartition("/")[2] if is_local(name) else name


def without_paths(text: str) -> str:
    """Prose, in which paths and URLs of buckets are reduced to their last parts."""
    return _PATH.sub(r"\1", _URL.sub(r"\1", text))


def flag_line(line: str) -> str:
    """`--name=value`, in which paths are reduced to their last parts."""
    name, _, value = line.removeprefix("--").partition("=")
    if name in PLACES:
        value = value.rstrip("/").rpartition("/")[2]
    return f"--{name}={','.join(map(last_part, value.split(',')))}"


def public(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a dictionary, in which paths are reduced to their last parts."""
    return {name: last_part(value) if isinstance(value, str) else value for name, value in metadata.items()}
