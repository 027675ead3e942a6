"""Token sequences cut from documents, and which row of a store belongs to which of their positions.

The table is a function of text, tokenizer, context and batch size alone, so that any process can make any
rows: those of a shard are kept positions of certain sequences, which stand in certain batches.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.harvest.tokenizer import Tokenizer
from jaxsae.progress import Progress

_DOCUMENTS_AT_ONCE = 256


class Sequences:
    """Sequences of at most `context` tokens, in batches of `batch_size`.

    Attributes:
      context, batch_size: as given.
      numbers: int64 [S], what the column `sequence` says: the document's number, or a count where documents are packed.
      first_rows: int64 [S + 1], the first row of each sequence, and the number of rows.
      beyond_context: tokens of documents that were cut, which no sequence has.
      documents: (first, end) numbers of the documents read.
    """

    def __init__(self, context: int, batch_size: int, dropped: np.ndarray, skip_positions: int):
        """Empty as yet.

        Args:
          dropped: bool [vocabulary], the tokens whose rows are not kept.
          skip_positions: positions at the start of a sequence that are not kept.
        """
        self.context, self.batch_size = context, batch_size
        self._dropped, self._skip = dropped, skip_positions
        self._file = tempfile.TemporaryFile(prefix="jaxsae-tokens-")  # noqa: SIM115  as long as this object
        self._starts, self._numbers, self._kept = [0], [], []
        self.rows, self.beyond_context, self.documents = 0, 0, (0, 0)

    def add(self, tokens: np.ndarray, number: int) -> None:
        """Takes in one sequence."""
        self._file.write(np.ascontiguousarray(tokens, np.int32).tobytes())
        kept = int((~self._dropped[tokens[self._skip :]]).sum())
        self._starts.append(self._starts[-1] + len(tokens))
        self._numbers.append(number)
        self._kept.append(kept)
        self.rows += kept

    def close(self) -> "Sequences":
        """Maps the tokens into memory; nothing can be added any more."""
        self._file.flush()
        self.numbers = np.asarray(self._numbers, np.int64)
        self.first_rows = np.concatenate([[0], np.cumsum(self._kept)]).astype(np.int64)
        self._starts = np.asarray(self._starts, np.int64)
        self._tokens = np.memmap(self._file, np.int32, "r") if self._starts[-1] else np.empty(0, np.int32)
        return self

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def batches(self) -> int:
        """Number of batches, the last of which may be short."""
        return -(-len(self) // self.batch_size)

    def batch(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens int32 [B, T], padded with -1 to the longest of the batch; which are there; which are kept."""
        first, end = number * self.batch_size, min((number + 1) * self.batch_size, len(self))
        parts = [
            self._tokens[a:b] for a, b in zip(self._starts[first:end], self._starts[first + 1 : end + 1], strict=True)
        ]
        tokens = np.full((end - first, max(map(len, parts))), -1, np.int32)
        for row, part in zip(tokens, parts, strict=True):
            row[: len(part)] = part
        there = tokens >= 0
        kept = there & ~self._dropped[np.where(there, tokens, 0)]
        kept[:, : self._skip] = False
        return tokens, there, kept

    def batch_rows(self, number: int) -> tuple[int, int]:
        """First row of a batch and the row after its last."""
        end = min((number + 1) * self.batch_size, len(self))
        return int(self.first_rows[number * self.batch_size]), int(self.first_rows[end])

    def batches_of(self, start: int, stop: int) -> range:
        """The batches that hold rows start..stop."""
        first, last = np.searchsorted(self.first_rows, [start, stop - 1], side="right") - 1
        return range(int(first) // self.batch_size, int(last) // self.batch_size + 1)

    def columns(self, number: int) -> dict[str, np.ndarray]:
        """tokens, sequence and position, int32, of the rows of a batch."""
        tokens, _, kept = self.batch(number)
        rows, positions = np.nonzero(kept)
        sequence = self.numbers[number * self.batch_size + rows]
        return {"tokens": tokens[kept], "sequence": sequence.astype(np.int32), "position": positions.astype(np.int32)}

    def fingerprint(self) -> str:
        """Tells texts apart, token by token."""
        digest = hashlib.sha256(self._starts.tobytes())
        for start in range(0, len(self._tokens), 1 << 22):
            digest.update(self._tokens[start : start + (1 << 22)].tobytes())
        return digest.hexdigest()[:16]

    def counts(self, rows: int, special: dict[int, str]) -> dict[str, Any]:
        """Positions seen, and how many of them gave no row, for each reason; kept + dropped = seen.

        Args:
          rows: rows kept, which may be fewer than there are.
          special: names of special tokens.
        """
        by_token, padding, skipped = np.zeros(len(self._dropped), np.int64), 0, 0
        for number in range(self.batches):
            tokens, there, kept = self.batch(number)
            padding += int((~there).sum())
            lost = there & ~kept
            is_special = lost & self._dropped[np.where(there, tokens, 0)]
            skipped += int((lost & ~is_special).sum())
            by_token += np.bincount(tokens[is_special], minlength=len(by_token))
        dropped = {f"special {special.get(int(i), int(i))}": int(by_token[i]) for i in np.flatnonzero(by_token)}
        more = {"first positions": skipped, "padding": padding, "beyond the context": self.beyond_context}
        more["not asked for"] = self.rows - rows
        dropped |= {name: count for name, count in more.items() if count}
        return {"seen": rows + sum(dropped.values()), "dropped": dropped}


def make_sequences(
    documents: Iterable[tuple[int, str]],
    tokenizer: Tokenizer,
    context: int,
    batch_size: int,
    rows: int | None = None,
    packing: bool = True,
    skip_positions: int = 0,
    fewer: bool = False,
) -> Sequences:
    """Tokenises documents until they give `rows` rows, or all of them.

    Args:
      documents: (number, text); empty ones give nothing.
      fewer: whether a text that gives fewer than `rows` will do.
      packing: fill each sequence with documents end to end, the last one shorter; else one document each.

    Raises:
      InputError: a context without room for a token, no text, fewer rows than asked.
    """
    room = context - len(tokenizer.prefix) - len(tokenizer.suffix)
    if room < 1:
        raise InputError(f"--context={context}: has no room for text beside the tokenizer's special tokens.")
    dropped = np.zeros(tokenizer.size, bool)
    dropped[[i for i in tokenizer.special if i < tokenizer.size]] = True
    out = Sequences(context, batch_size, dropped, skip_positions)
    around = lambda body: np.concatenate([tokenizer.prefix, body, tokenizer.suffix]).astype(np.int32)
    tokenised = _tokenised(documents, tokenizer, out)
    with Progress(rows or 0, "tokenise", "token", scale=True) as bar:
        for body, number in _packed(tokenised, tokenizer, room) if packing else _single(tokenised, room, out):
            before = out.rows
            out.add(around(body), number)
            bar.advance(out.rows - before)
            if rows is not None and out.rows >= rows:
                break
    return _checked(out, None if fewer else rows).close()


def sequences_of_ids(
    path: str, vocabulary: int, context: int | None, batch_size: int, rows: int | None, skip_positions: int = 0
) -> Sequences:
    """Sequences out of a `.npy` file of token ids, integers [sequences, context]; negative ones are padding at the end.

    Raises:
      InputError: not such a file, ids outside the vocabulary, longer than `context`, fewer rows than asked.
    """
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"--text={path}: not a .npy file of token ids ({error}).") from None
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or not ids.size:
        raise InputError(f"--text={path}: holds {ids.dtype} {list(ids.shape)}; give integers [sequences, context].")
    if context is not None and ids.shape[1] > context:
        raise InputError(f"--text={path}: sequences of {ids.shape[1]} tokens, longer than --context={context}.")
    out = Sequences(ids.shape[1], batch_size, np.zeros(vocabulary, bool), skip_positions)
    for number, row in enumerate(ids):
        row = row[: len(row) - int(np.argmax(row[::-1] >= 0))] if (row >= 0).any() else row[:0]
        if len(row) and (row.min() < 0 or row.max() >= vocabulary):
            raise InputError(f"--text={path}: sequence {number} holds ids outside 0:{vocabulary}.")
        if len(row):
            out.add(row, number)
        if rows is not None and out.rows >= rows:
            break
    out.documents = (0, number + 1)
    return _checked(out, rows).close()


def _checked(out: Sequences, rows: int | None) -> Sequences:
    if not out.rows:
        raise InputError("--text: holds no text: there is no document in it, or all are empty.")
    if rows is not None and out.rows < rows:
        raise InputError(
            f"--tokens={rows}: the text gives {out.rows:,} rows. Leave --tokens out to take them all, or give more text."
        )
    return out


def _tokenised(
    documents: Iterable[tuple[int, str]], tokenizer: Tokenizer, out: Sequences
) -> Iterator[tuple[int, np.ndarray]]:
    """(number, ids) of documents that have any; `out` learns which were taken."""
    documents, first = iter(documents), None
    while group := list(islice(documents, _DOCUMENTS_AT_ONCE)):
        for (number, _), ids in zip(group, tokenizer.encode([text for _, text in group]), strict=True):
            first = number if first is None else first
            out.documents = (first, number + 1)
            if len(ids):
                yield number, ids


def _packed(
    tokenised: Iterable[tuple[int, np.ndarray]], tokenizer: Tokenizer, room: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Documents end to end in pieces of `room` ids; where one begins a piece nothing stands before it."""
    waiting, count = np.empty(0, np.int32), 0
    for _, ids in tokenised:
        between = tokenizer.separator if len(waiting) else []
        waiting = np.concatenate([waiting, between, ids]).astype(np.int32)
        whole = len(waiting) // room
        for piece in waiting[: whole * room].reshape(whole, room):
            yield piece, count
            count += 1
        waiting = waiting[whole * room :]
    if len(waiting):
        yield waiting, count


def _single(tokenised: Iterable[tuple[int, np.ndarray]], room: int, out: Sequences) -> Iterator[tuple[np.ndarray, int]]:
    """One document each, cut to `room` ids."""
    for number, ids in tokenised:
        out.beyond_context += max(0, len(ids) - room)
        yield ids[:room], number
