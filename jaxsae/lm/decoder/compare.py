"""What a decoder predicts in two passes, compared on the devices; the vocabulary stays split over `model`."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxsae.lm.decoder import forward
from jaxsae.lm.decoder.distribution import log_shares
from jaxsae.lm.decoder.shape import Decoder
from jaxsae.parallel import MODEL

_POSITIONS_AT_ONCE = 256  # of which logits stand


def sums(
    weights: Any, shape: Decoder, original: jax.Array, other: jax.Array, asked: jax.Array, targets: jax.Array
) -> dict[str, jax.Array]:
    """Sums over each sequence's predictions, float32 [B], as one device of a mesh computes them.

    Args:
      original, other: what leaves the last block in either pass, [B, T, d_model].
      asked: bool [B, T], the positions whose predictions count. targets: int32 [B, T], the token to predict at each.

    Returns:
      `ce_original` and `ce`: cross-entropy of either pass; `kl`: KL(original || other); `same`: equal likeliest tokens.
    """

    def at(position: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        x, y, counts, target = position
        p, q = (forward.logits(weights, shape, z) for z in (x, y))
        there = forward.tokens_there(shape, len(p))  # what fills the vocabulary up is no token
        log_p, log_q = (log_shares(z, there) for z in (p, q))
        kl = jax.lax.psum(jnp.where(there, jnp.exp(log_p) * (log_p - log_q), 0).sum(), MODEL)
        mine = jax.lax.axis_index(MODEL) * len(p) + jnp.arange(len(p)) == target
        ce = [-jax.lax.psum(jnp.where(mine, log, 0).sum(), MODEL) for log in (log_p, log_q)]
        same = (_likeliest(p) == _likeliest(q)).astype(jnp.float32)
        return tuple(jnp.where(counts, value, 0) for value in (*ce, kl, same))

    flat = lambda array: array.reshape(-1, *array.shape[2:])
    each = jax.lax.map(at, tuple(map(flat, (original, other, asked, targets))), batch_size=_POSITIONS_AT_ONCE)
    names = ("ce_original", "ce", "kl", "same")
    return {name: value.reshape(asked.shape).sum(1) for name, value in zip(names, each, strict=True)}


def _likeliest(logits: jax.Array) -> jax.Array:
    """The first token of the largest logit."""
    largest = jax.lax.pmax(logits.max(), MODEL)
    first = jax.lax.axis_index(MODEL) * len(logits)
    token = jnp.where(logits.max() == largest, first + jnp.argmax(logits), jnp.iinfo(jnp.int32).max)
    return jax.lax.pmin(token, MODEL)
