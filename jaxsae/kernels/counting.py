"""Counting along an axis, for which the TPU compiler takes a tenth of what `jnp.cumsum` and `jnp.nonzero` take it."""

import jax
import jax.numpy as jnp

NARROW = 128  # entries that a product with a triangle counts: 0 and 1 are exact in any precision, and so are their sums
PART = 1024  # sums of a long axis that are added up together


def running_count(mask: jax.Array) -> jax.Array:
    """int32 [..., m]: how many of bool [..., m] are True up to and with each entry."""
    m = mask.shape[-1]
    up_to = jnp.tri(min(m, NARROW), dtype=jnp.float32).T
    parts = _parts(mask.astype(jnp.float32), len(up_to))
    return _joined(jnp.matmul(parts, up_to).astype(jnp.int32), m)


def _joined(within: jax.Array, m: int) -> jax.Array:
    """The running sums [..., m] from those within each part, [..., parts, entries]."""
    if within.shape[-2] > 1:
        total = within[..., -1]
        within += (_running_sum(total) - total)[..., None]
    return within.reshape(*within.shape[:-2], -1)[..., :m]


def _running_sum(counts: jax.Array) -> jax.Array:
    parts = _parts(counts, min(counts.shape[-1], PART))
    return _joined(jnp.cumsum(parts, -1), counts.shape[-1])


def _parts(a: jax.Array, size: int) -> jax.Array:
    """[..., m] as [..., parts, size], filled up with zeros."""
    filled = jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, -a.shape[-1] % size)])
    return filled.reshape(*a.shape[:-1], -1, size)


def places(mask: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Where the first `size` True entries of bool [m] stand.

    Returns:
      int32 [size], ascending, and bool [size], False where there are no more; their places are m.
    """
    count = running_count(mask)
    at = jnp.searchsorted(count, jnp.arange(1, size + 1, dtype=jnp.int32)).astype(jnp.int32)
    return at, at < mask.shape[0]
