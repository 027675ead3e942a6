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
from jaxsae.harvest.text import Documents
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
      skip_positions: positions at the start of a sequence that are not kept.
    """

    def __init__(self, context: int, batch_size: int, dropped: np.ndarray, skip_positions: int):
        """Empty as yet.

        Args:
          dropped: bool [vocabulary], the tokens whose rows are not kept.
          skip_positions: positions at the start of a sequence that are not kept.
        """
        self.context, self.batch_size = context, batch_size
        self._dropped, self.skip_positions = dropped, skip_positions
        self._file = tempfile.TemporaryFile(prefix="jaxsae-tokens-")  # noqa: SIM115  as long as this object
        self._starts, self._numbers, self._kept = [0], [], []
        self.rows, self.beyond_context, self.documents = 0, 0, (0, 0)

    def add(self, tokens: np.ndarray, number: int) -> None:
        """Takes in one sequence."""
        self._file.write(np.ascontiguousarray(tokens, np.int32).tobytes())
        kept = int((~self._dropped[tokens[self.skip_positions :]]).sum())
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
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return int(np.diff(self._starts).max(initial=0))

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
        kept[:, : self.skip_positions] = False
        return tokens, there, kept

    def batch_rows(self, number: int) -> tuple[int, int]:
        """First row of a batch and the row after its last."""
        end = min((number + 1) * self.batch_size, len(self))
        return int(self.first_rows[number * self.batch_size]), int(self.first_rows[end])

    def batches_of(self, start: int, stop: int) -> range:
        """The batches that hold rows start..stop."""
        first, last = np.searchsorted(self.first_rows, [start, stop - 1], side="right") - 1
        return range(int(first) // self.batch_size, int(last) // self.batch_size + 1)

    def columns(self, number: int, tokens: np.ndarray, kept: np.ndarray) -> dict[str, np.ndarray]:
        """tokens, sequence and position, int32, of the rows of a batch, whose `tokens` and `kept` are those of `batch`."""
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
      documents: (number, text); empty ones, and those of white space alone, give nothing.
      context: tokens of a sequence; more than the tokenizer sets around a text.
      fewer: whether a text that gives fewer than `rows` will do.
      packing: fill each sequence with documents end to end, the last one shorter; else one document each.

    Raises:
      InputError: no text, fewer rows than asked.
    """
    room = context - len(tokenizer.prefix) - len(tokenizer.suffix)
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
    return checked(out, None if fewer else rows, "" if out.rows else _why_empty(out, documents)).close()


def checked(out: Sequences, rows: int | None, why_empty: str) -> Sequences:
    """The same; raises `InputError` where it has no rows, or fewer than `rows`."""
    if not out.rows:
        raise InputError(why_empty)
    if rows is not None and out.rows < rows:
        raise InputError(
            f"--tokens={rows}: the text gives {out.rows:,} rows. Leave --tokens out to take them all, or give more text."
        )
    return out


def _why_empty(out: Sequences, documents: Iterable[tuple[int, str]]) -> str:
    """What a text that gave no row lacks."""
    if len(out) and not out.skip_positions:
        return "--text: holds no text: its documents are special tokens alone."
    if len(out):
        return (
            f"--skip_positions={out.skip_positions}: leaves no row of the text: its sequences have "
            f"{out.longest} tokens at most, special ones with them."
        )
    if out.documents == (0, 0) and isinstance(documents, Documents):
        return documents.why_none()
    return "--text: holds no text: " + (
        "all its documents are empty." if out.documents[1] else "there is no document in it."
    )


def _tokenised(
    documents: Iterable[tuple[int, str]], tokenizer: Tokenizer, out: Sequences
) -> Iterator[tuple[int, np.ndarray]]:
    """(number, ids) of documents that have any; `out` learns which were taken."""
    documents, first = iter(documents), None
    while group := list(islice(documents, _DOCUMENTS_AT_ONCE)):
        texts = [text if text.strip() else "" for _, text in group]
        for (number, _), ids in zip(group, tokenizer.encode(texts), strict=True):
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
