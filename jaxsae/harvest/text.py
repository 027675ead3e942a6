"""Documents out of text files, JSONL files and Hugging Face data sets, in a fixed order."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from jaxsae.errors import InputError
from jaxsae.harvest.text_config import TextConfig, parse_documents
from jaxsae.lm import libraries

_JSON = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".json.gz")
_PARQUET, _PLAIN = (".parquet",), (".txt", ".text", ".md", ".txt.gz")
_FILES = (*_JSON, *_PARQUET, *_PLAIN, ".npy")


class Documents:
    """The documents that a configuration names, read anew at each pass.

    Attributes:
      first, end: numbers of the first document and the one after the last, counted over all of `--text`;
        `end` is None where only reading to the end would tell.
    """

    def __init__(self, config: TextConfig):
        """Opens what `--text` names.

        Raises:
          InputError: no text, no such file or data set, a field that is not there.
        """
        if not config.text:
            raise InputError("--text= is empty: give text files, .jsonl files, or a data set's directory or hub id.")
        self._sources = [_open(entry, config) for entry in config.text]
        first, end = parse_documents(config.documents)
        if (first or 0) < 0 or (end or 0) < 0:
            count = self._count(config)
            first, end = (n if n is None or n >= 0 else max(0, count + n) for n in (first, end))
        self.first, self.end = first or 0, end

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """(number, text) of each document."""
        at = 0  # number of the source's first document
        for source in self._sources:
            skip = max(0, self.first - at)
            number = at + skip
            for text in source.texts(skip):
                if self.end is not None and number >= self.end:
                    return
                yield number, text
                number += 1
            at = number if number > at + skip or not skip else at + source.count()

    def _count(self, config: TextConfig) -> int:
        if any(not source.countable for source in self._sources):
            raise InputError(
                f"--documents={config.documents}: a streamed data set has no end to count from; give numbers from 0."
            )
        return sum(source.count() for source in self._sources)


class _Source:
    """One entry of `--text`."""

    def __init__(self, items: Callable[[int], Iterable[str]], countable: bool, size: Callable[[], int]):
        self.texts, self.countable, self._size = items, countable, size
        self._counted: int | None = None

    def count(self) -> int:
        """Documents there are."""
        if self._counted is None:
            self._counted = self._size()
        return self._counted


def _open(entry: str, config: TextConfig) -> _Source:
    path = Path(entry)
    if path.is_file():
        if path.suffix and not entry.endswith(_FILES):  # markup and keys would be trained on as if they were text
            raise InputError(
                f"--text={entry}: reads {', '.join(_FILES[:-1])} and files without a suffix as plain text."
            )
        if entry.endswith(_PARQUET):
            datasets = libraries.import_datasets()
            return _of_data_set(
                _loaded(entry, lambda: datasets.load_dataset("parquet", data_files=entry)), entry, config
            )
        make = (
            (lambda: _json_lines(entry, config.text_field))
            if entry.endswith(_JSON)
            else (lambda: _plain(entry, config))
        )
        return _Source(lambda skip: islice(make(), skip, None), True, lambda: sum(1 for _ in make()))
    if path.is_dir():
        return _of_data_set(_from_directory(path, config), entry, config)
    if entry.endswith(_FILES) or entry.startswith(("/", ".", "~")) or entry.count("/") > 1:
        raise InputError(f"--text={entry}: no such file or directory.")
    return _of_data_set(_from_hub(entry, config), entry, config)


def _plain(entry: str, config: TextConfig) -> Iterator[str]:
    """Files, paragraphs or lines; empty ones too, so that numbers stay those of the file."""
    with _reading(entry) as file:
        if config.text_unit == "file":
            yield _decoded(file.read(), entry, 0)
            return
        lines: list[str] = []
        for number, line in enumerate(file):
            line = _decoded(line, entry, number)
            if config.text_unit == "line":
                yield line.rstrip("\r\n")
            elif line.strip():
                lines.append(line)
            elif lines:
                yield "".join(lines).rstrip("\r\n")
                lines = []
        if lines:
            yield "".join(lines).rstrip("\r\n")


def _json_lines(entry: str, field: str) -> Iterator[str]:
    with _reading(entry) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise InputError(f"--text={entry}: line {number} is not JSON ({error}).") from None
            yield _text_of(record, field, f"--text={entry}: line {number}")


def _text_of(record: Any, field: str, where: str) -> str:
    if not isinstance(record, dict) or field not in record:
        names = ", ".join(record) if isinstance(record, dict) else f"a {type(record).__name__}"
        raise InputError(f"{where} has no field {field!r}, it has: {names}. Name the one with text by --text_field.")
    if not isinstance(record[field], str):
        raise InputError(f"{where}: field {field!r} holds {type(record[field]).__name__}, not text.")
    return record[field]


@contextmanager
def _reading(entry: str) -> Iterator[BinaryIO]:
    """The file, unpacked; what fails while it is read, as a damaged archive does, is told as an `InputError`."""
    try:
        with gzip.open(entry, "rb") if entry.endswith(".gz") else open(entry, "rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"--text={entry}: cannot be read ({error}).") from None


def _decoded(data: bytes, entry: str, line: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"--text={entry}: not UTF-8 text (line {line + 1}, byte {error.start}).") from None


def _of_data_set(data: Any, entry: str, config: TextConfig) -> _Source:
    """A source over a `datasets` data set, map-style or streamed."""
    if hasattr(data, "keys") and not hasattr(data, "features"):  # a dict of splits
        if config.text_split not in data:
            raise InputError(f"--text_split={config.text_split}: not in {entry}. There are: {', '.join(data)}")
        data = data[config.text_split]
    fields = list(data.features) if data.features else None
    if fields is not None and config.text_field not in fields:
        raise InputError(f"--text_field={config.text_field}: not in {entry}. There are: {', '.join(fields)}")
    read = lambda items: (_text_of(item, config.text_field, f"--text={entry}") for item in items)
    if hasattr(data, "__len__"):
        return _Source(lambda skip: read(data.select(range(min(skip, len(data)), len(data)))), True, lambda: len(data))
    return _Source(lambda skip: read(data.skip(skip)), False, lambda: sum(1 for _ in data))


def _from_directory(path: Path, config: TextConfig) -> Any:
    datasets = libraries.import_datasets()
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        return _loaded(str(path), lambda: datasets.load_from_disk(str(path)))
    return _loaded(str(path), lambda: datasets.load_dataset(str(path), config.text_name or None, streaming=True))


def _from_hub(entry: str, config: TextConfig) -> Any:
    tried = libraries.reach_hub()
    datasets = libraries.import_datasets()
    load = lambda: datasets.load_dataset(entry, config.text_name or None, split=config.text_split, streaming=not tried)
    return _loaded(entry, load, tried)


def _loaded(entry: str, load: Callable[[], Any], tried: str = "") -> Any:
    try:
        return load()
    except InputError:
        raise
    except Exception as error:  # the library raises a dozen kinds
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        tried = f" Tried: no file or directory of that name here; {tried}." if tried else ""
        raise InputError(
            f"--text={entry}: no text could be read ({reason}).{tried} Give text or .jsonl files, or a directory with "
            "the data set's files."
        ) from None
