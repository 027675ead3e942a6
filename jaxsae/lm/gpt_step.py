"""A GPT that reads one token at a time, with the keys and values of those before: for sequences that it writes itself."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsae.lm.gpt import GPT, Block
from jaxsae.lm.taps import Taps

Cache = tuple[tuple[jax.Array, jax.Array], ...]  # keys and values [B, heads, context, d_head] of each block


def empty_cache(model: GPT, batch: int) -> Cache:
    """A cache of `batch` sequences of which nothing was read."""
    config = model.config
    shape = (batch, config.heads, config.context, config.d_model // config.heads)
    return tuple((jnp.zeros(shape), jnp.zeros(shape)) for _ in range(config.layers))


@partial(nnx.jit, donate_argnames=("cache",))
def step(
    model: GPT, cache: Cache, tokens_B: jax.Array, at: jax.Array, replace: Mapping[str, jax.Array]
) -> tuple[jax.Array, Cache]:
    """Reads the token at one position of each sequence.

    Args:
      cache: as this left it at the position before; it is used up. at: int, the position.
      replace: {site: [B, d]}, what stands in for the activations there.

    Returns:
      logits [B, vocabulary] of the token after it, and the cache.
    """
    swap = {site: lambda _, new=new: new[:, None] for site, new in replace.items()}
    return _passed(model, cache, tokens_B, at, Taps((), swap))


@partial(nnx.jit, static_argnames=("site",))
def read_step(model: GPT, cache: Cache, tokens_B: jax.Array, at: jax.Array, site: str) -> jax.Array:
    """[B, d]: the activations of a site at the position that `step` would read; the cache stays as it is."""
    taps = Taps((site,), None)
    _passed(model, cache, tokens_B, at, taps)
    return taps.seen[site][:, 0]


def _passed(model: GPT, cache: Cache, tokens_B: jax.Array, at: jax.Array, taps: Taps) -> tuple[jax.Array, Cache]:
    after = []

    def attend(block: Block, x_BxD: jax.Array) -> jax.Array:
        x, kept = _attention(block, x_BxD, cache[len(after)], at)
        after.append(kept)
        return x

    tap = lambda site, x_BxD: taps(site, x_BxD[:, None])[:, 0]
    x_BxD = tap("embed", model.embedding[...][tokens_B] + model.position[...][at])
    for layer, block in enumerate(model.blocks):
        x_BxD = block(x_BxD, attend, tap, layer)
    return model.unembed(x_BxD), tuple(after)


def _attention(
    block: Block, x_BxD: jax.Array, cache: tuple[jax.Array, jax.Array], at: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    (batch, d), h = x_BxD.shape, block.heads
    q, k, v = (x_BxD @ block.qkv[...]).reshape(batch, 3, h, d // h).swapaxes(0, 1)
    keys, values = (old.at[:, :, at].set(new) for old, new in zip(cache, (k, v), strict=True))
    scores = jnp.einsum("bhd,bhtd->bht", q, keys) * (d // h) ** -0.5
    weights = jax.nn.softmax(jnp.where(jnp.arange(keys.shape[2]) <= at, scores, -1e9))
    mixed = jnp.einsum("bht,bhtd->bhd", weights, values)
    return mixed.reshape(batch, d) @ block.attn_out[...], (keys, values)
