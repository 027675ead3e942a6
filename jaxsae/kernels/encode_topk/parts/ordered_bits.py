"""float32 as integers in the same order, and the k-th largest of many by counting."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

LOWEST = jnp.iinfo(jnp.int32).min


def ordered_bits(values: jax.Array) -> jax.Array:
    """float32 -> int32 in the same order (-0.0 before 0.0; NaN beyond the infinities)."""
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    return jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)


def kth_largest(count: Callable[[jax.Array], jax.Array], k: int, shape: tuple[int, ...] = ()) -> jax.Array:
    """int32 of `shape`: the largest t with count(t) >= k, by bisection over 32 bits.

    Args:
      count: t of `shape` -> how many keys are t or above, of `shape`; called once a bit, in a loop.
    """

    def halve(number, low):
        bit = 31 - number
        candidate = jnp.where(bit == 31, 0, low + jnp.left_shift(jnp.int32(1), jnp.minimum(bit, 30)))
        return jnp.where(count(candidate) >= k, candidate, low)

    return jax.lax.fori_loop(0, 32, halve, jnp.full(shape, LOWEST, jnp.int32))
