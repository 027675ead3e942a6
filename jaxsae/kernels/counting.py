"""Counting along an axis, for which the TPU compiler takes a tenth of what `jnp.cumsum` and `jnp.nonzero` take it."""

import jax
import jax.numpy as jnp

NARROW = 128  # entries that a product with a triangle counts
PART = 1024  # entries of a long axis that are counted together


def running_count(mask: jax.Array) -> jax.Array:
    """int32 [..., m]: how many of bool [..., m] are True up to and with each entry."""
    m = mask.shape[-1]
    if m <= NARROW:  # 0 and 1 are exact in any precision, and so are their sums
        up_to = jnp.tri(m, dtype=jnp.float32).T
        return jnp.matmul(mask.astype(jnp.float32), up_to).astype(jnp.int32)
    if mask.ndim > 1 or m <= PART:
        return jnp.cumsum(mask, -1, dtype=jnp.int32)
    parts = jnp.pad(mask, (0, -m % PART)).reshape(-1, PART)
    within = jnp.cumsum(parts, 1, dtype=jnp.int32)
    total = within[:, -1]
    return (within + (jnp.cumsum(total) - total)[:, None]).reshape(-1)[:m]


def places(mask: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Where the first `size` True entries of bool [m] stand.

    Returns:
      int32 [size], ascending, and bool [size], False where there are no more; their places are m.
    """
    count = running_count(mask)
    at = jnp.searchsorted(count, jnp.arange(1, size + 1, dtype=jnp.int32)).astype(jnp.int32)
    return at, at < mask.shape[0]
