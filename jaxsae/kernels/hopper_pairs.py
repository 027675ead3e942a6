"""The functions of `pairs.py` on a Hopper GPU: deterministic, since nothing is added atomically, and without chunks.

XLA's scatter on GPUs adds in whatever order its threads arrive. Here pairs are sorted by what they are added
to, and each sum is one warpgroup's (`hopper_rows.py`), written straight into the result.
"""

import jax
import jax.numpy as jnp

from jaxsae.kernels.avoid import PAIRS, avoided
from jaxsae.kernels.grouped import in_order
from jaxsae.kernels.hopper_rows import MAX_D, row_products, slab_of, weighted_sums
from jaxsae.platform import target


def runs_here(d: int) -> bool:
    """Whether the device that is compiled for has these functions for rows of d numbers."""
    return target().is_hopper and slab_of(d) is not None and d <= MAX_D and not avoided(PAIRS)


def gather_sum(values: jax.Array, indices: jax.Array, table: jax.Array, interpret=None) -> jax.Array:
    """As `pairs.gather_sum`; pairs with value 0 cost nothing but their place in the list."""
    size = values.size
    live = values != 0
    ends = jnp.cumsum(live.sum(1))
    at = jnp.nonzero(live.reshape(-1), size=size, fill_value=0)[0]
    starts = jnp.concatenate([jnp.zeros(1, ends.dtype), ends]).astype(jnp.int32)
    flat = lambda a: a.reshape(-1)[at]
    return weighted_sums(starts, flat(indices), flat(values).astype(jnp.float32), table, interpret)[0]


def gather_dot(y: jax.Array, values: jax.Array, indices: jax.Array, table: jax.Array, interpret=None) -> jax.Array:
    """As `pairs.gather_dot`."""
    return row_products(y, values, indices, table, interpret)


def outer_sums(parts: list[tuple[jax.Array, ...]], width: int, interpret=None) -> tuple[jax.Array, jax.Array]:
    """Sums by latent over all parts (values [B, k], indices [B, k], rows [B, d]) in the order of parts, rows, places.

    Returns:
      float32 [width, d], of values * rows, and float32 [width], of values.
    """
    values = jnp.concatenate([v.reshape(-1) for v, _, _ in parts]).astype(jnp.float32)
    latents = jnp.concatenate([i.reshape(-1) for _, i, _ in parts])
    sources, first = [], 0
    for v, _, rows in parts:
        sources.append(first + jnp.arange(v.size, dtype=jnp.int32) // v.shape[1])
        first += rows.shape[0]
    order, starts = in_order(jnp.where(values != 0, latents, width), width)
    table = jnp.concatenate([rows for _, _, rows in parts])
    return weighted_sums(starts, jnp.concatenate(sources)[order], values[order], table, interpret)
