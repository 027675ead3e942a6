"""Flag files, read as editors and shells write them: UTF-8 whatever the locale, with a byte-order mark or without."""

import codecs
import io
import os
from collections.abc import Iterable

from jaxsae.errors import InputError

_COMMENT = ("#", "//")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # what PowerShell's `>` writes


def expand(arguments: Iterable[str], inside: tuple[str, ...] = ()) -> list[str]:
    """Arguments with each `--flagfile=FILE` replaced by the lines of the file, comments and empty ones left out.

    Args:
      inside: the files that are being read, outermost first.

    Raises:
      InputError: a file that cannot be read, is no text or names itself.
    """
    out, waiting = [], iter(arguments)
    for argument in waiting:
        name, equals, path = argument.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            out.append(argument)
            continue
        path = os.path.expanduser((path if equals else next(waiting, "")).strip())
        if not path and not equals:
            raise InputError("--flagfile: names no file. Give --flagfile=FILE.")
        if path in inside:
            raise InputError(f"--flagfile={path}: names itself ({' -> '.join((*inside, path))}). Take that line out.")
        if path:
            out += expand(_lines(path), (*inside, path))
    return out


def comments(path: str | os.PathLike) -> list[str]:
    """The comments of a file, in order.

    Raises:
      InputError: as `expand`.
    """
    return [line for line in _stripped(str(path)) if line.startswith(_COMMENT)]


def _lines(path: str) -> list[str]:
    return [line for line in _stripped(path) if line and not line.startswith(_COMMENT)]


def _stripped(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InputError(f"--flagfile={path}: cannot be read ({error.strerror}).") from None
    encoding = "utf-16" if data.startswith(_UTF16) else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in data:
        raise InputError(
            f"--flagfile={path}: holds zero bytes, as UTF-16 without a byte-order mark does. Save it as UTF-8."
        )
    try:
        # Not `splitlines`, which ends lines at characters that a name may hold.
        lines = io.StringIO(data.decode(encoding), newline=None).readlines()
    except UnicodeDecodeError as error:
        raise InputError(f"--flagfile={path}: is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    return [line.strip() for line in lines]
