"""Approximate top-k, which XLA fuses into the product on TPUs: a faster selection that misses a few latents.

Chern et al., TPU-KNN (2206.14286): pre-activations fall on L bins of which each keeps its largest, and the k best of the
L are given. One of the true k best is lost where a better one shares its bin; with k of them at random the share that
is found is at least (1 - 1/L)^(k - 1), by which L is chosen. What is found has its true value.
"""

import jax
import jax.numpy as jnp

from jaxsae.errors import InputError
from jaxsae.kernels.encode_topk.parts.stream import TopK, show_nan
from jaxsae.kernels.products import products
from jaxsae.platform import target

RECALL = 0.95  # of the k best, as a mean


def encode_topk(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, recall: float = RECALL) -> TopK:
    """Values and indices [B, k], descending, of about `recall` of each row's k best pre-activations, and next best ones.

    Raises:
      InputError: not a TPU: elsewhere XLA does not fuse it, and B x n pre-activations would stand in memory.
    """
    if target().platform != "tpu":
        raise InputError(f"--encoder=approximate needs a TPU, which fuses it: this is {target().kind!r}; use auto")
    return select(x, w_enc, b_enc, k, recall)


def select(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, recall: float) -> TopK:
    """As `encode_topk`, on any device."""
    best = jax.lax.approx_max_k(products(x, w_enc) + b_enc.astype(jnp.float32), k, recall_target=recall)
    return show_nan(tuple(best), x, w_enc, b_enc)
