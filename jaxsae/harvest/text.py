"""Documents out of text files, JSONL files and Hugging Face data sets, in a fixed order."""

import os
from collections.abc import Iterator

from jaxsae.errors import InputError
from jaxsae.harvest import data_sets
from jaxsae.harvest.text_config import TextConfig, parse_documents
from jaxsae.harvest.text_files import JSON, PLAIN, Entry, open_file

_PARQUET = (".parquet",)
_FILES = (*JSON, *_PARQUET, *PLAIN, ".npy")


class Documents:
    """The documents that a configuration names, read anew at each pass.

    Attributes:
      first, end: numbers of the first document and the one after the last, counted over all of `--text`;
        `end` is None where only reading to the end would tell.
    """

    def __init__(self, config: TextConfig):
        """Opens what `--text` names.

        Raises:
          InputError: no text, no such file or data set, a field or a split that is not there.
        """
        if not config.text:
            raise InputError("--text= is empty: give text files, .jsonl files, or a data set's directory or hub id.")
        self._asked = config.documents
        self._entries = [_open(entry, config) for entry in config.text]
        first, end = parse_documents(config.documents)
        if (first or 0) < 0 or (end or 0) < 0:
            count = self._count()
            first, end = (n if n is None or n >= 0 else max(0, count + n) for n in (first, end))
        self.first, self.end = first or 0, end

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """(number, text) of each document."""
        at = 0  # number of the entry's first document
        for entry in self._entries:
            skip = max(0, self.first - at)
            number = at + skip
            for text in entry.texts(skip):
                if self.end is not None and number >= self.end:
                    return
                yield number, text
                number += 1
            at = number if number > at + skip or not skip else at + entry.count()

    def look(self) -> None:
        """Reads the first document of each entry; raises `InputError` where it is no text."""
        for entry in self._entries:
            next(iter(entry.texts(0)), None)

    def why_none(self) -> str:
        """What to say where there turned out to be no document."""
        if not self._asked or not all(entry.countable for entry in self._entries):
            return f"--text: holds no text: there is no document in {self._asked or 'it'}."
        return f"--documents={self._asked}: holds none of the text's {self._count():,} documents, which are counted from 0."

    def _count(self) -> int:
        if any(not entry.countable for entry in self._entries):
            raise InputError(
                f"--documents={self._asked}: a streamed data set has no end to count from; give numbers from 0."
            )
        return sum(entry.count() for entry in self._entries)


def _open(name: str, config: TextConfig) -> Entry:
    path = os.path.expanduser(name)
    if os.path.isfile(path):
        if os.path.splitext(path)[1] and not path.endswith(_FILES):  # markup and keys would be trained on as text
            raise InputError(f"--text={name}: reads {', '.join(_FILES[:-1])} and files without a suffix as plain text.")
        if path.endswith(".npy"):
            raise InputError(f"--text={name}: token ids cannot stand beside text; give one .npy file alone.")
        return data_sets.open_parquet(path, config) if path.endswith(_PARQUET) else open_file(path, config)
    if os.path.isdir(path):
        return data_sets.open_directory(path, config)
    if name.endswith(_FILES) or name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise InputError(f"--text={name}: no such file or directory.")
    return data_sets.open_hub(name, config)
