"""Documents out of plain text and JSONL files."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO

from jaxsae.errors import InputError
from jaxsae.harvest.text_config import TextConfig

JSON = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".json.gz")
PLAIN = (".txt", ".text", ".md", ".txt.gz")


class Entry:
    """One entry of `--text`.

    Attributes:
      texts: skip -> the documents after the first `skip`.
      countable: whether their number can be had without reading a network's data to the end.
    """

    def __init__(self, texts: Callable[[int], Iterable[str]], countable: bool, size: Callable[[], int]):
        self.texts, self.countable, self._size = texts, countable, size
        self._counted: int | None = None

    def count(self) -> int:
        """Documents there are."""
        if self._counted is None:
            self._counted = self._size()
        return self._counted


def open_file(path: str, config: TextConfig) -> Entry:
    """A file as JSONL where its name says so, else as plain text.

    Raises:
      InputError: flags that are for data sets.
    """
    for flag in ("text_split", "text_name"):
        if value := getattr(config, flag):
            raise InputError(f"--{flag}={value}: is for data sets, and --text={path} is a file. Leave it out.")
    make = (lambda: _json_lines(path, config.text_field)) if path.endswith(JSON) else (lambda: _plain(path, config))
    return Entry(lambda skip: islice(make(), skip, None), True, lambda: sum(1 for _ in make()))


def _plain(path: str, config: TextConfig) -> Iterator[str]:
    """Files, paragraphs or lines; empty ones too, so that numbers stay those of the file."""
    with _reading(path) as file:
        if config.text_unit == "file":
            yield _decoded(file.read(), path, 0)
            return
        lines: list[str] = []
        for number, line in enumerate(file):
            line = _decoded(line, path, number)
            if config.text_unit == "line":
                yield line.rstrip("\r\n")
            elif line.strip():
                lines.append(line)
            elif lines:
                yield "".join(lines).rstrip("\r\n")
                lines = []
        if lines:
            yield "".join(lines).rstrip("\r\n")


def _json_lines(path: str, field: str) -> Iterator[str]:
    with _reading(path) as file:
        for number, line in enumerate(file):
            if not line.strip():
                continue
            try:
                record = json.loads(_decoded(line, path, number))
            except json.JSONDecodeError as error:
                raise InputError(
                    f"--text={path}: line {number + 1} is not JSON ({error.msg} at its character {error.pos + 1}). Mend "
                    'it; each line holds one object, such as {"text": "..."}.'
                ) from None
            yield text_of(record, field, f"--text={path}: line {number + 1}")


def text_of(record: Any, field: str, where: str) -> str:
    """The text in a record; null, as tables have it where there is none, is an empty text.

    Raises:
      InputError: there is no such field, or no text in it; begins with `where`.
    """
    if not isinstance(record, dict) or field not in record:
        names = ", ".join(record) if isinstance(record, dict) else f"a {type(record).__name__}"
        raise InputError(f"{where} has no field {field!r}, it has: {names}. Name the one with text by --text_field.")
    if record[field] is None:
        return ""
    if not isinstance(record[field], str):
        raise InputError(
            f"{where}: field {field!r} holds {type(record[field]).__name__}, not text. Name another by --text_field."
        )
    try:
        record[field].encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(record[field][error.start]):04x}"
        raise InputError(
            f"{where}: field {field!r} holds half a character ({half}), which is no text. Mend it."
        ) from None
    return record[field]


@contextmanager
def _reading(path: str) -> Iterator[BinaryIO]:
    """The file, unpacked; what fails while it is read, as a damaged archive does, is told as an `InputError`."""
    try:
        with gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"--text={path}: cannot be read ({error}).") from None


def _decoded(data: bytes, path: str, line: int) -> str:
    try:
        return data.decode("utf-8-sig" if line == 0 else "utf-8")  # the mark that some editors put in front is no text
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, at = line + before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise InputError(
            f"--text={path}: not UTF-8 text (line {line}, byte {at}). Convert it, by iconv for one."
        ) from None
