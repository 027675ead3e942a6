"""Latents that are not easily decomposed: a meta-SAE as opponent (MetaSAEs, 2604.03436).

    lambda mean_i w_i max(0, 1 - ||r_i - r_hat_i||^2 / ||r_i - b||^2),    r_i = sqrt(d) W_dec,i / ||W_dec,i||

w_i is how often latent i fires over the average one, at most 1. What rows do to a latent's direction is in proportion to how
often it fires; without the weight this term alone, which is the same for all, would turn those that seldom do, and Adam takes
steps of one length whatever a gradient's: they would die (BUILD_NOTES, Adversary).

r_hat is the reconstruction of decoder rows by a small TopK dictionary, which learns, in turns with this one, to explain
them; what it explains, this one pays for. Its weights have no gradient here.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxsae.dictionary.penalty.rows import RowPenalty

NUMBERS = 2**22  # pre-activations of the opponent that stand at a time


@dataclasses.dataclass(frozen=True)
class Adversary(RowPenalty):
    """`weight` is lambda; the opponent has `width` latents, `k` of them active for a row. sample: rows of a step."""

    weight: float
    width: int
    k: int
    sample: int

    def term(self, rows: jax.Array, often: jax.Array, opponent: Mapping[str, jax.Array]) -> jax.Array:
        r = scaled(rows)
        left = jnp.square(r - reconstructed(opponent, r, self.k)).sum(-1)
        explained = 1 - left / jnp.maximum(jnp.square(r - opponent["b_dec"]).sum(-1), 1e-12)
        return self.weight * (often * jax.nn.relu(explained)).mean()


def scaled(rows: jax.Array) -> jax.Array:
    """Decoder rows [R, d] at norm sqrt(d), as the trainer sees activations; a row of zeros stays."""
    return rows * (rows.shape[1] ** 0.5 / jnp.maximum(jnp.linalg.norm(rows, axis=-1, keepdims=True), 1e-12))


def reconstructed(weights: Mapping[str, jax.Array], r: jax.Array, k: int) -> jax.Array:
    """[R, d]: rows by a TopK dictionary of W_enc [m, d], b_enc [m], W_dec [m, d], b_dec [d]; differentiable in all."""
    k = min(k, len(weights["b_enc"]))
    centred, w_enc = r - weights["b_dec"], weights["W_enc"]
    pre = lambda row: jnp.matmul(w_enc, row, precision=jax.lax.Precision.HIGHEST) + weights["b_enc"]
    best = lambda row: jax.lax.top_k(pre(row), k)[1]
    chosen = jax.lax.stop_gradient(jax.lax.map(best, centred, batch_size=max(1, NUMBERS // len(w_enc))))
    high = {"precision": jax.lax.Precision.HIGHEST}
    z = jax.nn.relu(jnp.einsum("rd,rkd->rk", centred, w_enc[chosen], **high) + weights["b_enc"][chosen])
    return jnp.einsum("rk,rkd->rd", z, weights["W_dec"][chosen], **high) + weights["b_dec"]
