"""Files written whole: a kill, or a full disk, leaves what was there before, never half of the new one."""

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from jaxsae.errors import DiskFullError, InputError, reraise_if_disk_full


def replace(path: str | Path, fill: Callable[[BinaryIO], object]) -> None:
    """Has `fill` write a file beside `path`, and moves it over it."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            fill(file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing(folder: Path, flag: str = "output") -> Iterator[Path]:
    """A new folder beside `folder` that takes its place at the end, or is removed where anything fails.

    Raises:
      InputError: it cannot be written; `flag` names it.
    """
    folder = folder.resolve()
    name = f".{folder.name}.{uuid.uuid4().hex[:8]}"
    staging, old = folder.with_name(f"{name}.partial"), folder.with_name(f"{name}.old")
    try:
        staging.mkdir(parents=True)
        yield staging
        if folder.exists():
            folder.rename(old)
        staging.rename(folder)
    except BaseException as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        if isinstance(error, Exception) and not isinstance(error, DiskFullError):
            reraise_if_disk_full(error, str(folder))
        if isinstance(error, PermissionError):
            raise InputError(f"--{flag}={folder}: cannot be written (permission denied).") from None
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` in UTF-8, whole."""
    path = Path(path)
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe: nothing may be moved over it
        path.write_text(text, encoding="utf-8")
    else:
        replace(path, lambda file: file.write(text.encode()))


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def bytes_under(directory: Path) -> int:
    """Of all files in it, also while some come and go."""
    total = 0
    for folder, _, names in os.walk(directory):  # which, unlike rglob, goes on where a folder is removed
        for name in names:
            with suppress(OSError):  # renamed or removed meanwhile
                total += os.stat(os.path.join(folder, name)).st_size
    return total


def check_writable(flag: str, path: str) -> None:
    """Raises `InputError` where `write_text` could not write the file that `flag` names; it is tried, not asked.

    The right to write says yes to root where nothing can be written.
    """
    try:
        if Path(path).is_dir():
            raise IsADirectoryError(0, "is a directory")
        with tempfile.TemporaryFile(dir=Path(path).absolute().parent):
            pass
    except OSError as error:
        raise InputError(
            f"--{flag}={path}: cannot be written there ({error.strerror}). Name a file in a folder that you may write to."
        ) from None
