"""The two linear maps of a dictionary on a tile, and their gradients, multiplied in the type of the rows."""

import jax
import jax.numpy as jnp

from jaxsae.kernels.by_layer import pre_products, pre_products_gradient
from jaxsae.kernels.products import product


@jax.custom_vjp
def pre_activations(x: jax.Array, b_pre: jax.Array | None, w_enc: jax.Array, b_enc: jax.Array) -> jax.Array:
    """W_enc (x - b_pre) + b_enc: float32 [C, T]. x gets no gradient, and b_pre's costs no product of rows.

    Args:
      x: [C, d_in], in the type that is computed in. b_pre: [d_in], or None. w_enc: [T, d_in]. b_enc: [T]. Of x [C, L d] a
        latent of w_enc [T, d] reads its layer's part; b_pre is None then.
    """
    return pre_products(_centred(x, b_pre), w_enc.astype(x.dtype)) + b_enc


def _centred(x: jax.Array, b_pre: jax.Array | None) -> jax.Array:
    return x if b_pre is None else x - b_pre.astype(x.dtype)


def _pre_backward(saved, g):
    x, b_pre, w_enc = saved
    dw = pre_products_gradient(g.astype(x.dtype), _centred(x, b_pre), w_enc)
    db = g.sum(0)
    # sum_b g_b W_enc = db W_enc
    db_pre = None if b_pre is None else -jnp.matmul(db, w_enc, precision=jax.lax.Precision.HIGHEST)
    return jnp.zeros_like(x), db_pre, dw, db


pre_activations.defvjp(lambda x, b, w, c: (pre_activations(x, b, w, c), (x, b, w)), _pre_backward)


@jax.custom_vjp
def decoded(z: jax.Array, w_dec: jax.Array, like: jax.Array) -> jax.Array:
    """z W_dec: float32 [C, d_out], multiplied in the type of `like`. z: [C, T]. w_dec: [T, d_out]."""
    return product(z.astype(like.dtype), w_dec.astype(like.dtype), 1, 0)


def _decoded_backward(saved, dy):
    z, w_dec, like = saved
    dy = dy.astype(like.dtype)
    dz, dw = product(dy, w_dec.astype(like.dtype), 1, 1), product(z.astype(like.dtype), dy, 0, 0)
    return dz, dw, jnp.zeros_like(like)


decoded.defvjp(lambda z, w, like: (decoded(z, w, like), (z, w, like)), _decoded_backward)
