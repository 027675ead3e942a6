"""Text that is tokens already: a `.npy` file of ids."""

import os

import numpy as np

from jaxsae.errors import InputError
from jaxsae.harvest.sequences import Sequences, checked


class TokenIds:
    """Integers [sequences, context] in a `.npy` file; negative ones are padding at the end.

    Attributes:
      context: tokens of a sequence, padding with them.
    """

    def __init__(self, path: str):
        """Maps the file; raises `InputError` where there is none, or something else in it."""
        self._path = path
        try:
            self._ids = ids = np.load(os.path.expanduser(path), mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise InputError(f"--text={path}: no such file.") from None
        except (ValueError, EOFError, OSError) as error:
            raise InputError(f"--text={path}: not a .npy file of token ids ({error}). Save it with np.save.") from None
        if not isinstance(ids, np.ndarray) or ids.ndim != 2 or ids.dtype.kind not in "iu" or not ids.size:
            found = f"{ids.dtype} {list(ids.shape)}" if isinstance(ids, np.ndarray) else type(ids).__name__
            raise InputError(f"--text={path}: holds {found}; give integers [sequences, context].")
        self.context = ids.shape[1]

    def check_length(self, limit: int | None) -> None:
        """Raises `InputError` where the sequences are longer than `limit`."""
        if limit and self.context > limit:
            raise InputError(
                f"--text={self._path}: sequences of {self.context} tokens, more than --context and the model take ({limit})."
            )

    def sequences(self, vocabulary: int, batch_size: int, rows: int | None, skip_positions: int = 0) -> Sequences:
        """The ids as sequences that give `rows` rows, or all.

        Raises:
          InputError: ids outside the vocabulary, fewer rows than asked.
        """
        out = Sequences(self.context, batch_size, np.zeros(vocabulary, bool), skip_positions)
        for number, row in enumerate(self._ids):
            row = row[: len(row) - int(np.argmax(row[::-1] >= 0))] if (row >= 0).any() else row[:0]
            if len(row) and (row.min() < 0 or row.max() >= vocabulary):
                raise InputError(
                    f"--text={self._path}: sequence {number} holds ids outside 0:{vocabulary}, which are all that the model "
                    "has (negative ones may stand at the end alone)."
                )
            if len(row):
                out.add(row, number)
            if rows is not None and out.rows >= rows:
                break
        out.documents = (0, number + 1)
        return checked(out, rows, f"--text={self._path}: holds no ids but padding.").close()
