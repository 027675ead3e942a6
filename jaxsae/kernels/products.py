"""Products of rows and latents in the type of their operands, summed in float32: of float32 operands in full precision."""

import jax
import jax.numpy as jnp

from jaxsae.platform import full_precision


def product(a: jax.Array, b: jax.Array, axis_a: int, axis_b: int) -> jax.Array:
    """Sums over one axis of a and of b: float32, in full precision on any device where a and b are float32."""
    dims = (((axis_a,), (axis_b,)), ((), ()))
    return jax.lax.dot_general(a, b, dims, precision=full_precision(a.dtype), preferred_element_type=jnp.float32)


def products(x: jax.Array, w: jax.Array) -> jax.Array:
    """x[b] . w[n]: [B, d], [T, d] -> float32 [B, T]."""
    return product(x, w, 1, 1)
