"""When a selection that dropped entries unseen is exact all the same.

A method that keeps few candidates, or whose choice among equal values is not the lowest indices, is exact in a row
if the largest value that it dropped is strictly below the k-th that it kept: then the k best are one set,
whatever the ties. Rows that cannot show this are repaired.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxsae.kernels.counting import places
from jaxsae.kernels.encode_topk import xla
from jaxsae.kernels.encode_topk.parts.repair import repair
from jaxsae.kernels.encode_topk.parts.stream import Tiling, TopK, has_nan

REPAIR = Tiling(rows=128, latents=16384, bucket=128)  # XLA copies a tile's rows of W_enc: keep them few


def overfull(k: int, bins: int, keep: int) -> float:
    """Probability that some bin gets more than `keep` of a row's k best, were they placed at random; at most this.

    What of them lies in one bin follows the binomial law; its terms are made one from the other, so none is large.
    """
    if bins == 1:
        return float(k > keep)
    p, term, tail = 1 / bins, (1 - 1 / bins) ** k, 0.0
    for j in range(1, k + 1):
        term *= (k - j + 1) / j * (p / (1 - p))
        tail += term if j > keep else 0.0
    return min(1.0, bins * tail)


def settle(
    best: TopK,
    dropped: jax.Array,
    x: jax.Array,
    w_enc: jax.Array,
    b_enc: jax.Array,
    exact: Callable[..., TopK] | None = None,
    rows: int = REPAIR.rows,
    finite: jax.Array | bool = False,
) -> TopK:
    """The k best of every row, as `reference.encode_topk` gives them: certified or repaired.

    Args:
      best: values [B, k], descending, and indices. dropped: [B], no less than any value that is not in `best`; -inf: none.
      x: [B, d]. w_enc: [n, d]. b_enc: [n].
      exact: (x of some rows, w_enc, b_enc, k) -> their k best; default: `xla.encode_topk`. rows: repaired together.
      finite: whether it is known that no pre-activation is NaN.
    """
    k = best[0].shape[1]
    exact = exact or (lambda *a: xla.encode_topk(*a, REPAIR))
    nan = has_nan(x, w_enc, b_enc, finite)
    best, flagged = certify(best, dropped, b_enc)
    values, indices = repair(best, flagged & ~nan[:, 0], x, lambda some: exact(some, w_enc, b_enc, k), rows)
    return jnp.where(nan, jnp.nan, values), jnp.where(nan, 0, indices)


def certify(best: TopK, dropped: jax.Array, bias: jax.Array) -> tuple[TopK, jax.Array]:
    """`best`, and which of its rows may be wrong.

    Latents left out by a bias of -inf are equal in all rows, so where few are left in, as among dead latents,
    no strict bound would ever hold. A row that holds every latent that is left in is exact once its remaining
    places carry the lowest indices of those left out.

    Args:
      best: values [B, k], descending, and indices. dropped: [B]. bias: [n].

    Returns:
      `best` with the indices of -inf entries put in order, and bool [B], the rows to repair.
    """
    (values, indices), k = best, best[0].shape[1]
    left_out = jnp.isneginf(bias)
    found = (values > -jnp.inf).sum(1)
    whole = jnp.isneginf(dropped) & (found == bias.shape[0] - left_out.sum())
    lowest, there = places(left_out, k)
    lowest = jnp.where(there, lowest, 0)
    place = jnp.clip(jnp.arange(k) - found[:, None], 0)
    indices = jnp.where(jnp.isneginf(values), lowest[place], indices)
    return (values, indices), ~((dropped < values[:, -1]) | whole)
