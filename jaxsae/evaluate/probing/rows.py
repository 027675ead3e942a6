"""Labelled contexts as rows: what the dictionary reads of them, its latents and its reconstruction, pooled or by token."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.encoding import encode_rows, read_rows
from jaxsae.evaluate.probing import board
from jaxsae.evaluate.probing.labels import Labelled, Span
from jaxsae.evaluate.subject import Batch, GameSubject, Subject, TextSubject
from jaxsae.lm.othello import CONTEXT
from jaxsae.progress import Progress

TOKEN = "token"  # in place of a pooling, where each token or move is a row


@dataclasses.dataclass(frozen=True)
class Rows:
    """N rows of one pooling, or by token.

    Attributes:
      context: int [N], the context that each is of, in order.
      raw: float32 [N, d]. rebuilt: float32 [N, d], the reconstruction; None where another site is written.
      latents: {dictionary's name: float32 [N, n]}, sparse.
    """

    context: np.ndarray
    raw: np.ndarray
    rebuilt: np.ndarray | None
    latents: Mapping[str, sp.csr_matrix]


def token_ids(subject: Subject, labelled: Labelled) -> list[np.ndarray]:
    """The tokens of each context, as the model reads it.

    Raises:
      InputError: a text without a token.
    """
    if labelled.games:
        return list(labelled.contexts)
    ids = subject.encoded(labelled.contexts)
    for text, line, own in zip(labelled.contexts, labelled.lines, ids, strict=True):
        if not len(own):
            raise InputError(
                f"--probing_labels, {labelled.name}: line {line}: {text[:40]!r} has no token. Leave the line out."
            )
    return ids


def token_classes(subject: Subject, labelled: Labelled, ids: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The class of each token or move of `ids`, objects [T]: a name, "" for none, None where it is left out."""
    if labelled.games:
        return [np.array(labels, object) for labels in labelled.labels]
    places = subject.text.tokenizer.places(labelled.contexts)
    return [
        np.array([class_at(spans, first, end) for first, end in where[: len(own)]], object)
        for spans, where, own in zip(labelled.labels, places, ids, strict=True)
    ]


def class_at(spans: Sequence[Span], first: int, end: int) -> str:
    """The label of the span that most characters of a token are in, the earlier of two; "" where it is in none."""
    shared = [(min(end, span.end) - max(first, span.first), span.label) for span in spans]
    most, label = max(shared, key=lambda one: one[0], default=(0, ""))
    return label if most > 0 else ""


def kept_places(context: Context, subject: Subject, ids: Sequence[np.ndarray]) -> list[np.ndarray]:
    """int [kept]: which of each context's tokens have rows: all of a text, of a game the positions looked at."""
    if not subject.games:
        return [np.arange(len(own)) for own in ids]
    first, end = context.positions.start, min(context.positions.stop, CONTEXT)
    return [np.arange(first, min(end, len(own))) for own in ids]


def batches(context: Context, subject: Subject, ids: Sequence[np.ndarray]) -> Iterator[tuple[slice, Batch]]:
    """(which, their batch) of token ids as `subject` takes them."""
    if isinstance(subject, GameSubject):
        return board.batches_of(ids, context.positions, context.config.games_per_batch)
    assert isinstance(subject, TextSubject)
    return subject.batches_of(ids)


def gather(
    context: Context,
    subject: Subject,
    ids: Sequence[np.ndarray],
    dictionaries: Mapping[str, Dictionary],
    pools: Sequence[str],
    chosen: Sequence[np.ndarray] | None,
) -> dict[str, Rows]:
    """{pooling: rows} of contexts; {"token": rows} where `chosen` says, for each, which of its kept positions are rows.

    Args:
      dictionaries: which encode; the one called "latents" reconstructs as well.

    Raises:
      InputError: NaN or Inf in the activations.
    """
    names = (TOKEN,) if chosen is not None else tuple(pools)
    parts: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with Progress(len(ids), f"probing, {'+'.join(context.reads)}", "context") as bar:
        for which, batch in batches(context, subject, ids):
            counts = batch.kept.sum(1)
            x = read_rows(context, subject, batch)
            number = np.repeat(np.arange(which.start, which.stop), counts)
            if chosen is not None:
                kept = np.concatenate([chosen[i] for i in range(which.start, which.stop)])
                x, number = x[kept], number[kept]
            if len(x):
                found = {"raw": x} | _encoded(dictionaries, x, context.config.batch_size)
                for name in names:
                    if name == TOKEN:
                        parts[name].append(found | {"context": number})
                        continue
                    one = {key: pooled(part, counts, name) for key, part in found.items()}
                    parts[name].append(one | {"context": np.arange(which.start, which.stop)})
            bar.advance(len(counts))
    return {name: _joined(some) for name, some in parts.items()}


def _encoded(dictionaries: Mapping[str, Dictionary], x: np.ndarray, size: int) -> dict[str, Any]:
    out: dict[str, Any] = {name: encode_rows(dictionary, x, size) for name, dictionary in dictionaries.items()}
    own = dictionaries.get("latents")
    if own is not None and not own.config.transcode:
        W_dec, b_dec = (np.asarray(part, np.float32) for part in (own.params.W_dec, own.params.b_dec))
        out["rebuilt"] = out["latents"] @ W_dec + b_dec
    return out


def pooled(rows: Any, counts: np.ndarray, how: str) -> Any:
    """Rows [sum of counts, n], dense or sparse, as one for each run of `counts` (above 0): mean, max or last."""
    ends = np.cumsum(counts)
    if how == "last":
        return rows[ends - 1]
    if how == "mean":
        average = sp.csr_matrix((np.repeat(1 / counts, counts).astype(np.float32), np.arange(ends[-1]), np.r_[0, ends]))
        return sp.csr_matrix(average @ rows) if sp.issparse(rows) else average @ rows
    if not sp.issparse(rows):
        return np.maximum.reduceat(rows, ends - counts)
    return sp.vstack([rows[end - n : end].max(axis=0) for n, end in zip(counts, ends, strict=True)], format="csr")


def _joined(parts: Sequence[Mapping[str, Any]]) -> Rows:
    whole = {key: [part[key] for part in parts] for key in parts[0]}
    join = lambda some: sp.vstack(some, format="csr") if sp.issparse(some[0]) else np.concatenate(some)
    joined = {key: join(some) for key, some in whole.items()}
    latents = {key: joined.pop(key) for key in [*joined] if sp.issparse(joined[key])}
    return Rows(joined["context"], joined["raw"], joined.get("rebuilt"), latents)
