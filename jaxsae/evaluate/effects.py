"""What a model makes of changed activations: rows of held-out sequences with their latents, and what predictions lose."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import scipy.sparse as sp

from jaxsae.dictionary import Dictionary
from jaxsae.dictionary.parameters import SKIP
from jaxsae.evaluate.context import Context, check_finite
from jaxsae.evaluate.encoding import encode_rows
from jaxsae.evaluate.splice_figures import log_softmax
from jaxsae.evaluate.subject import Batch, GameSubject, Subject

_AT_ONCE = 512  # predictions whose log-probabilities stand in float64


@dataclasses.dataclass(frozen=True)
class Seen:
    """A batch of a subject's sequences and what a dictionary makes of the positions kept.

    Attributes:
      first: number of its first sequence. batch: it.
      x: float32 [positions, d_in], what is read. y: [positions, d_out], what the model has where the dictionary writes.
      latents: [positions, n]. target: what is to be predicted at the positions asked: int [asked], or of games, where
        moves are random and legal ones equally right, float [asked, vocabulary]; None where nothing says it.
    """

    first: int
    batch: Batch
    x: np.ndarray
    y: np.ndarray
    latents: sp.csr_matrix
    target: np.ndarray | None

    @property
    def sequences(self) -> int:
        """How many there are."""
        return len(self.batch.tokens)

    def by_sequence(self, values: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
        """float64 [sequences]: sums of values, one for each position of `at`, bool [B, T]; default: of those asked."""
        at = self.batch.asked if at is None else at
        return np.bincount(np.nonzero(at)[0], weights=values, minlength=self.sequences)


def seen_batches(context: Context, subject: Subject, most: int | None = None) -> Iterator[Seen]:
    """The subject's sequences, the first `most` of them, as `Seen`.

    Raises:
      InputError: NaN or Inf in the activations.
    """
    first = 0
    for whole in subject.batches():
        batch = whole if most is None else cut(whole, most - first)
        if not len(batch.tokens):
            return
        if batch.kept.any():
            yield seen(context, subject, batch, first)
        first += len(batch.tokens)


def seen(context: Context, subject: Subject, batch: Batch, first: int | None = None) -> Seen:
    """A batch as `Seen`; `first` says which of the subject's own sequences it begins with, None that it has others."""
    there = subject.read(batch, tuple(dict.fromkeys((*context.reads, *context.writes))))
    x, y = (_joined([there[site] for site in sites]) for sites in (context.reads, context.writes))
    for part, sites in ((x, context.reads), (y, context.writes)):
        check_finite(part, f"{subject.name}, site {'+'.join(sites)}", 0)
    latents = encode_rows(context.dictionary, x, context.config.batch_size)
    return Seen(first or 0, batch, x, y, latents, None if first is None else _target(subject, batch, first))


def cut(batch: Batch, most: int) -> Batch:
    """Its first `most` sequences."""
    return Batch(*(getattr(batch, field.name)[: max(most, 0)] for field in dataclasses.fields(batch)))


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)


def _target(subject: Subject, batch: Batch, first: int) -> np.ndarray:
    if isinstance(subject, GameSubject):
        legal = subject.played[first : first + len(batch.tokens)].legal_tokens()[batch.asked].astype(np.float32)
        return legal / legal.sum(1, keepdims=True)
    return batch.targets[batch.asked]


def at_sites(context: Context, y: np.ndarray) -> Mapping[str, np.ndarray]:
    """{site: [rows, d]} of what is to stand at the sites that are written, side by side in `y`."""
    parts = np.split(y, np.cumsum(context.dictionary.widths.written_sites)[:-1], axis=1)
    return {site: np.asarray(part, np.float32) for site, part in zip(context.writes, parts, strict=True)}


class Decoder:
    """A dictionary's map from latents to what is written, on the host, for latents that were changed."""

    def __init__(self, dictionary: Dictionary):
        self.rows = np.asarray(dictionary.params.W_dec, np.float32)
        self._bias = np.asarray(dictionary.params.b_dec, np.float32)
        skip = dictionary.params.shared.get(SKIP)
        self._skip = None if skip is None else np.asarray(skip, np.float32)

    def __call__(self, latents: sp.csr_matrix, x: np.ndarray) -> np.ndarray:
        """float32 [rows, d_out] of latents [rows, n] of x [rows, d_in]."""
        y = latents @ self.rows + self._bias
        return y if self._skip is None else y + x @ self._skip.T

    @property
    def norms(self) -> np.ndarray:
        """float64 [n]: the lengths of the decoder's rows."""
        return np.linalg.norm(self.rows.astype(np.float64), axis=1)


def divergence(original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """float64 [rows]: KL(original || changed) in nats, of logits [rows, vocabulary]; exactly 0 of the same logits."""
    out = np.empty(len(original))
    for some in _stretches(len(original)):
        p, q = (log_softmax(part[some]) for part in (original, changed))
        out[some] = (np.exp(p) * (p - q)).sum(-1)
    return out


def cross_entropy(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """float64 [rows]: nats, of logits [rows, vocabulary] and targets as `Seen` has them."""
    out = np.empty(len(logits))
    for some in _stretches(len(logits)):
        logs, wanted = log_softmax(logits[some]), target[some]
        out[some] = -(
            np.take_along_axis(logs, wanted[:, None], 1)[:, 0] if wanted.ndim == 1 else (wanted * logs).sum(1)
        )
    return out


def _stretches(rows: int) -> Iterator[slice]:
    return (slice(first, first + _AT_ONCE) for first in range(0, rows, _AT_ONCE))
