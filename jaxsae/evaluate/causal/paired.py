"""What moves between two contexts that differ in little, and how much of the change of predictions the moved latents carry.

In context a the m latents that move most are set to their values in b, with a's error kept:

    x' = x_a + sum_{i of m} (f_i(b) - f_i(a)) W_dec,i

The share of the change that comes with them is 1 - KL(p_b || p') / KL(p_b || p_a), summed over pairs before the division.
Beside it m of the moved latents at random; as many principal components of such differences, fitted to the other half of the
pairs, the foremost ones, and those along which this pair differs most, as its latents are its own too; as many coordinates
of the activation along which it differs most; all latents; and the whole difference, with the error's: where even that is
below 1, the rest goes past the site, or reaches later blocks from positions before.
"""

from typing import Any

import numpy as np

from jaxsae.evaluate.causal.contexts import share
from jaxsae.evaluate.causal.pairs import Pairs
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.effects import Decoder, divergence
from jaxsae.progress import Progress

SIZES = (1, 2, 4, 8, 16, 32)
WAYS = ("latents", "random_latents", "components", "own_components", "coordinates")
_KEY = 0x9A1F


def figures(context: Context, pairs: Pairs) -> dict[str, Any]:
    """Returns `pairs`, `changed_kl` (KL(p_b || p_a), a mean), `l0`, `moved` (latents that differ, a mean of pairs),
    `latents_of_half` and `latents_of_90_percent` (of a pair's sum of |f_i(b) - f_i(a)| ||W_dec,i||), `explained` (of the
    squared difference of activations, by all latents) and `projected` (along it) with intervals over pairs, `recovered`
    {way: [{m, share, interval}]}, `all` (all latents) and `whole` (with the error), `foremost`: latents that
    move in the most pairs."""
    decoder, seed = Decoder(context.dictionary), context.config.seed
    d_f = (pairs.b.latents - pairs.a.latents).tocsr()
    d_x = pairs.b.y.astype(np.float64) - pairs.a.y
    d_hat = (d_f @ decoder.rows).astype(np.float64)
    # A map past the latents is of the input: what it adds is neither latents' nor error's, and stays in a.
    squares = np.square(d_x).sum(1)
    explained = share(squares - np.square(d_x - d_hat).sum(1), squares, seed)
    projected = share((d_hat * d_x).sum(1), squares, seed)
    norms, order = decoder.norms, []
    for row in range(d_f.shape[0]):
        part = d_f[row]
        size = np.abs(part.data) * norms[part.indices]
        by_size = np.argsort(-size, kind="stable")
        order.append((part.indices[by_size], part.data[by_size], size[by_size]))
    counts = np.array([[_carriers(size, part) for part in (0.5, 0.9)] for _, _, size in order])
    moved = np.array([np.count_nonzero(size) for _, _, size in order])
    whole = divergence(pairs.b.logits, pairs.a.logits)
    times = np.bincount(np.concatenate([i for i, _, _ in order]).astype(int), minlength=context.dictionary.width)
    found = {
        "pairs": len(pairs.a),
        "given": pairs.given,
        "changed_kl": whole.mean(),
        "l0": pairs.a.latents.nnz / len(pairs.a),
        "moved": moved.mean(),
        "latents_of_half": counts[:, 0].mean(),
        "latents_of_90_percent": counts[:, 1].mean(),
        "explained": {"share": explained[0], "interval": explained[1]},
        "projected": {"share": projected[0], "interval": projected[1]},
        "foremost": [[int(i), times[i] / len(moved)] for i in np.argsort(-times, kind="stable")[:10] if times[i]],
    }
    return found | _recovered(context, pairs, decoder, order, d_x, whole)


def _carriers(sizes: np.ndarray, part: float) -> int:
    """How many of sizes, largest first, have a part of their sum."""
    sums = np.cumsum(sizes)
    return int((sums < part * sums[-1] * (1 - 1e-12)).sum()) + 1 if len(sums) and sums[-1] > 0 else 0


def _recovered(
    context: Context, pairs: Pairs, decoder: Decoder, order: list, d_x: np.ndarray, whole: np.ndarray
) -> dict[str, Any]:
    seed = context.config.seed
    rng = np.random.default_rng([seed, _KEY])
    mixed = [rng.permutation(len(indices)) for indices, _, _ in order]

    def by_latents(m: int | None, shuffled: bool = False) -> np.ndarray:
        rows = []
        for (indices, values, _), places in zip(order, mixed, strict=True):
            at = places[:m] if shuffled else slice(m)
            rows.append(values[at] @ decoder.rows[indices[at]])
        return np.stack(rows)

    bases = _components(d_x)

    def by_components(m: int, own: bool = False) -> np.ndarray:
        out = np.zeros_like(d_x)
        for side in (0, 1):  # fitted to the others
            basis = bases[1 - side]
            along = d_x[side::2] @ basis.T
            out[side::2] = (_foremost(along, m) if own else along * (np.arange(len(basis)) < m)) @ basis
        return out

    def measured(delta: np.ndarray) -> dict[str, Any]:
        logits, _ = pairs.a.changed(np.float32(pairs.a.y + delta))
        value, ends = share(whole - divergence(pairs.b.logits, logits), whole, seed)
        return {"share": value, "interval": ends}

    makes = {"latents": by_latents, "random_latents": lambda m: by_latents(m, True), "components": by_components}
    makes |= {"own_components": lambda m: by_components(m, True), "coordinates": lambda m: _foremost(d_x, m)}
    with Progress(len(SIZES) * len(makes) + 2, "causal, pairs", "change") as bar:
        recovered: dict[str, list] = {way: [] for way in WAYS}
        for way, make in makes.items():
            for m in SIZES:
                recovered[way].append({"m": m} | measured(make(m)))
                bar.advance(1)
        everything = by_latents(None)
        out = {"recovered": recovered, "all": measured(everything), "whole": measured(d_x)}
        bar.advance(2)
    return out


def _components(d_x: np.ndarray) -> list[np.ndarray]:
    """Principal components [at most d, d] of the even and of the odd rows, about 0."""
    return [np.linalg.svd(d_x[side::2], full_matrices=False)[2] for side in (0, 1)]


def _foremost(x: np.ndarray, m: int) -> np.ndarray:
    """x [R, d] with all but the m largest |entries| of each row 0."""
    place = np.argsort(np.argsort(-np.abs(x), axis=1, kind="stable"), axis=1, kind="stable")
    return np.where(place < m, x, 0)
