"""Contexts of which one position is looked at: what a model and a dictionary have there, and logits once that is changed."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from jaxsae.evaluate.context import Context
from jaxsae.evaluate.effects import at_sites, divergence, seen
from jaxsae.evaluate.subject import Batch, Subject
from jaxsae.lm.othello import CONTEXT

DRAWS = 1000  # of a bootstrap
_KEY = 0xB007


@dataclasses.dataclass(frozen=True)
class Contexts:
    """R contexts; in each batch one position of every sequence is kept and asked.

    Attributes:
      x: float32 [R, d_in], read there. y: [R, d_out], what stands where the dictionary writes. latents: [R, n].
      logits: [R, vocabulary] with the model's own y put back. after: bool, positions [B, T] behind it, of each batch, or
        none; after_logits: theirs.
    """

    context: Context
    subject: Subject
    batches: Sequence[Batch]
    x: np.ndarray
    y: np.ndarray
    latents: sp.csr_matrix
    logits: np.ndarray
    after: Sequence[np.ndarray] = ()
    after_logits: Sequence[np.ndarray] = ()

    @classmethod
    def of(
        cls, context: Context, subject: Subject, batches: Sequence[Batch], after: Sequence[np.ndarray] = ()
    ) -> "Contexts":
        """Reads them, batch after batch.

        Raises:
          InputError: NaN or Inf in the activations.
        """
        parts = [seen(context, subject, batch) for batch in batches]
        x, y = (np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y"))
        latents = sp.vstack([part.latents for part in parts], format="csr")
        bare = cls(context, subject, batches, x, y, latents, np.zeros((len(y), 0)), after)
        found, behind = bare._run(y)
        return dataclasses.replace(bare, logits=found, after_logits=behind)

    def __len__(self) -> int:
        return len(self.y)

    def pick(self, some: np.ndarray) -> "Contexts":
        """Those of `some`, bool [R]; positions behind are left out."""
        batches, first = [], 0
        for batch in self.batches:
            rows = some[first : first + len(batch.tokens)]
            first += len(batch.tokens)
            if rows.any():
                batches.append(Batch(*(getattr(batch, field.name)[rows] for field in dataclasses.fields(batch))))
        parts = (self.x[some], self.y[some], self.latents[some], self.logits[some])
        return Contexts(self.context, self.subject, batches, *parts)

    def changed(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits [R, vocabulary] with rows y [R, d_out] in the place of the model's own, and [R] the mean KL in nats, from
        these, of the positions behind; 0 where none is."""
        found, behind = self._run(y)
        spill, first = np.zeros(len(y)), 0
        for after, before, now in zip(self.after, self.after_logits, behind, strict=True):
            sums = np.bincount(np.nonzero(after)[0], weights=divergence(before, now), minlength=len(after))
            spill[first : first + len(after)] = sums / np.maximum(after.sum(1), 1)
            first += len(after)
        return found, spill

    def _run(self, y: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        found, behind, first = [], [], 0
        for number, batch in enumerate(self.batches):
            rows = at_sites(self.context, y[first : first + len(batch.tokens)])
            first += len(batch.tokens)
            after = self.after[number] if self.after else np.zeros_like(batch.asked)
            at = batch.asked | after
            logits = self.subject.logits(batch, at, rows)
            found.append(logits[batch.asked[at]])
            behind.append(logits[after[at]])
        return np.concatenate(found), behind if self.after else []


def game_batches(
    moves: np.ndarray, last: np.ndarray, size: int, after: bool = False
) -> tuple[list[Batch], list[np.ndarray]]:
    """Games int [R, at least 59] of which the position behind move `last` [R] is looked at; and, with `after`, masks of the
    positions behind that."""
    batches, behind, at = [], [], np.arange(CONTEXT)
    for first in range(0, len(moves), size):
        tokens = moves[first : first + size, :CONTEXT].astype(np.int32)
        kept = at == last[first : first + size, None]
        batches.append(Batch(tokens, kept, kept, np.zeros_like(tokens)))
        behind.append(at > last[first : first + size, None])
    return batches, behind if after else []


def share(
    gain: np.ndarray, whole: np.ndarray, seed: int, group: np.ndarray | None = None
) -> tuple[float | None, list | None]:
    """sum(gain) / sum(whole) over contexts, and its 95% interval by a bootstrap over them, or over `group` [R] of them."""
    if not len(whole) or whole.sum() <= 0:
        return None, None
    if group is not None:
        group = np.unique(group, return_inverse=True)[1]
        gain, whole = (np.bincount(group, weights=values) for values in (gain, whole))
    value = float(gain.sum() / whole.sum())
    if len(whole) < 2:
        return value, None
    rng = np.random.default_rng([seed, _KEY])
    weights = rng.multinomial(len(whole), np.full(len(whole), 1 / len(whole)), DRAWS)
    sums = weights @ whole
    drawn = (weights @ gain)[sums > 0] / sums[sums > 0]
    return value, [float(end) for end in np.quantile(drawn, (0.025, 0.975))]
