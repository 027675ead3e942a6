"""What latents' high activations alone cover and carry.

Of each latent those activations count as high that are c times its largest or more. Spliced in, with the decoder's bias: the
high ones alone, the low ones alone, and as many as there are high ones, drawn at random from all of a batch (`random`) or
from the same row (`random_in_row`). Where latents mean what their high activations show, these have to carry the model.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxsae.evaluate.context import Context
from jaxsae.evaluate.effects import Decoder, Seen, at_sites, cross_entropy, divergence, seen_batches
from jaxsae.evaluate.errors_of_rows import ratio
from jaxsae.evaluate.intervals import of_share
from jaxsae.evaluate.splice_figures import interval
from jaxsae.evaluate.subject import Subject
from jaxsae.progress import Progress

CUTS = tuple(c / 10 for c in range(10))
SELECTIONS = ("high", "low", "random", "random_in_row")
_KEY = 0xC075


def kept(latents: sp.csr_matrix, on: np.ndarray) -> sp.csr_matrix:
    """The entries of `on`, bool [nnz], alone."""
    before = np.concatenate([[0], np.cumsum(on)])
    return sp.csr_matrix((latents.data[on], latents.indices[on], before[latents.indptr]), latents.shape)


def high(latents: sp.csr_matrix, largest: np.ndarray, cut: float) -> np.ndarray:
    """bool [nnz]: entries of `cut` times their latent's `largest` [n] or more; by size."""
    return np.abs(latents.data) >= cut * largest[latents.indices]


def drawn(latents: sp.csr_matrix, on: np.ndarray, rng: np.random.Generator, in_row: bool) -> np.ndarray:
    """bool [nnz]: as many entries as `on` has, at random among all, or among those of each row as many as it has there."""
    row = np.repeat(np.arange(latents.shape[0]), np.diff(latents.indptr))
    chance = rng.random(len(on))
    if not in_row:
        out = np.zeros(len(on), bool)
        out[np.argsort(chance)[: on.sum()]] = True
        return out
    order = np.lexsort((chance, row))  # rows stay where they are, and are shuffled within
    out = np.empty(len(on), bool)
    out[order] = np.arange(len(on)) - latents.indptr[row] < np.bincount(row[on], minlength=latents.shape[0])[row]
    return out


def coverage(latents: sp.csr_matrix, largest: np.ndarray, sequence: np.ndarray) -> list[dict[str, Any]]:
    """For each of `CUTS`: `activations`, the share that is high, `l0`, and `covered`, the share of rows with any, with its
    interval over sequences; of rows [N, n] of sequences [N]."""
    out = []
    for cut in CUTS:
        some = kept(latents, high(latents, largest, cut))
        covered = np.diff(some.indptr) > 0
        sums, sizes = np.bincount(sequence, weights=covered), np.bincount(sequence)
        found = {"cut": cut, "activations": ratio(some.nnz, latents.nnz), "l0": some.nnz / len(covered)}
        out.append(found | {"covered": covered.mean(), "covered_interval": _share_interval(sums, sizes)})
    return out


def _share_interval(hits: np.ndarray, sizes: np.ndarray) -> list[float] | None:
    """Of a share of rows over their sequences; of all or none of them, Wilson's of as many rows as there are sequences."""
    if hits.sum() in (0, sizes.sum()):
        return of_share(len(sizes) * hits.sum() / sizes.sum(), len(sizes))
    ends = interval(hits, sizes)
    return ends and [max(0.0, ends[0]), min(1.0, ends[1])]


class _Sums:
    """Of one thing that is spliced in, over sequences."""

    def __init__(self):
        self.ce: list[np.ndarray] = []
        self.kl: list[np.ndarray] = []
        self.error = 0.0

    def figures(self, base: np.ndarray, counts: np.ndarray, variance: float) -> dict[str, Any]:
        ce, kl = np.concatenate(self.ce), np.concatenate(self.kl)
        return {
            "ce": ce.sum() / counts.sum(),
            "delta_ce": (ce - base).sum() / counts.sum(),
            "delta_ce_interval": interval(ce - base, counts),
            "kl": kl.sum() / counts.sum(),
            "kl_interval": interval(kl, counts),
            "fvu": ratio(self.error, variance),
        }


def spliced(context: Context, subject: Subject, largest: np.ndarray, mean: np.ndarray) -> dict[str, Any]:
    """Splices in what `_stand_ins` names, on the first `latents_sequences` of the subject's sequences.

    Args:
      largest: [n], of each latent. mean: [d_out], what mean ablation leaves.

    Returns:
      `predictions`, `sequences`, `ce`, `baselines` {zero, mean: figures}, `cuts`: for each of `CUTS` {selection: figures}; of
      each `ce`, `delta_ce` and `kl` with intervals, `fvu`.
    """
    most = min(context.config.latents.latents_sequences, subject.sequences)
    decoder, units = Decoder(context.dictionary), context.units
    rng = np.random.default_rng([context.config.seed, _KEY])
    sums: dict[Any, _Sums] = {}
    base, counts, variance = [], [], 0.0
    with Progress(most, "latents", subject.unit) as bar:
        for part in seen_batches(context, subject, most):
            asked = part.batch.asked
            original = subject.logits(part.batch, asked)
            base.append(part.by_sequence(cross_entropy(original, part.target)))
            counts.append(asked.sum(1))
            scale = 1.0 if units is None else units
            variance += float(np.square((part.y - mean) * scale, dtype=np.float64).sum())
            for key, y in _stand_ins(part, decoder, largest, mean, rng):
                found = subject.logits(part.batch, asked, at_sites(context, y))
                to = sums.setdefault(key, _Sums())
                to.ce.append(part.by_sequence(cross_entropy(found, part.target)))
                to.kl.append(part.by_sequence(divergence(original, found)))
                to.error += float(np.square((part.y - y) * scale, dtype=np.float64).sum())
            bar.advance(part.sequences)
    base, counts = np.concatenate(base), np.concatenate(counts)
    figures = {key: each.figures(base, counts, variance) for key, each in sums.items()}
    return {
        "predictions": int(counts.sum()),
        "sequences": len(counts),
        "ce": base.sum() / counts.sum(),
        "baselines": {name: figures[name] for name in ("zero", "mean")},
        "cuts": [{name: figures.get((cut, name)) for name in SELECTIONS} for cut in CUTS],
    }


def _stand_ins(
    part: Seen, decoder: Decoder, largest: np.ndarray, mean: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[Any, np.ndarray]]:
    yield "zero", np.zeros_like(part.y)
    yield "mean", np.broadcast_to(mean, part.y.shape)
    for cut in CUTS:
        on = high(part.latents, largest, cut)
        chosen = {"high": on, "low": ~on}
        if cut:  # at 0 all are high
            chosen |= {name: drawn(part.latents, on, rng, name == "random_in_row") for name in SELECTIONS[2:]}
        for name, entries in chosen.items():
            yield (cut, name), decoder(kept(part.latents, entries), part.x)
