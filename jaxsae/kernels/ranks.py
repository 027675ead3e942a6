"""Entries of a selection by their rank within their row, over all shards of the latents."""

import jax
import jax.numpy as jnp

from jaxsae.kernels.encode_topk import merge_by_bisection, merge_over_batch
from jaxsae.kernels.select import Selected
from jaxsae.parallel import MODEL


def among_best(values: jax.Array, k: jax.Array | int) -> jax.Array:
    """bool [B, k_local]: which entries of `Selected.values` are among the k largest of their row over all shards."""
    if jax.lax.psum(1, MODEL) == 1:
        return jnp.broadcast_to(jnp.arange(values.shape[1]) < k, values.shape)
    return merge_by_bisection(jnp.abs(values), k)


def of_best_rank(selected: Selected, ranks: tuple[int, ...]) -> Selected:
    """The selection with entries by part: 0 for the `ranks[0]` best of a row, 1 for those up to `ranks[1]`, and so on."""
    part = sum((~among_best(selected.values, k)).astype(jnp.int32) for k in ranks[:-1])
    return selected.replace(part=part + jnp.zeros(selected.indices.shape, jnp.int32), parts=len(ranks))


def limited(selected: Selected, k: jax.Array, total: jax.Array | None) -> Selected:
    """The selection with nothing but the k best of each row or, with `total`, the so many best of the whole batch."""
    if total is None:
        keep = among_best(selected.values, k)
    else:
        keep = merge_over_batch(jnp.where(selected.values != 0, jnp.abs(selected.values), -jnp.inf), total)
    return selected.replace(values=jnp.where(keep, selected.values, 0))
