"""Top-k of latents that read one part each of a row: layer after layer by the fused encoder, then the best of all."""

import jax
import jax.numpy as jnp

from jaxsae.kernels.by_layer import by_layer, by_layer_of_latents, layers_of
from jaxsae.kernels.encode_topk.api import encode_topk


def encode_by_layer(
    x: jax.Array,
    w_enc: jax.Array,
    b_enc: jax.Array,
    k: int,
    implementation: str = "auto",
    each: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """As `encode_topk`, of rows x [B, L d], of which latent i of W_enc [n, d] reads part i mod L; with L = 1 it is that.

    Args:
      k: 1 to n. each: how many a layer gives, at most, of which there must be k; None: its own k best, since the best of all
        may be of one.
    """
    layers = layers_of(x, w_enc)
    if layers == 1:
        return encode_topk(x, w_enc, b_enc, k, implementation)
    own = min(k if each is None else each, len(w_enc) // layers)
    of_layers = by_layer(x, layers), by_layer_of_latents(w_enc, layers), b_enc.reshape(-1, layers)
    turned = tuple(jnp.moveaxis(array, 1, 0) for array in of_layers)
    # One after another, so that the encoder is compiled once.
    values, indices = jax.lax.map(lambda layer: encode_topk(*layer, own, implementation), turned)
    beside = lambda lists: jnp.moveaxis(lists, 0, 1).reshape(len(x), -1)
    values, indices = beside(values), beside(indices * layers + jnp.arange(layers)[:, None, None])
    values = jnp.where(jnp.isnan(values).any(1, keepdims=True), jnp.nan, values)
    best, at = jax.lax.top_k(values, min(k + 1, values.shape[1]))
    # Equals come layer by layer, and are to come by index. Where they stand on both sides of the end, any may be left out.
    cut_apart = k < best.shape[1] and ((best[:, k - 1] == best[:, -1]) & (best[:, -1] > 0)).any()
    whole = lambda: tuple(a[:, :k] for a in jax.lax.sort((-values, indices), num_keys=2))
    partly = lambda: (-best[:, :k], _by_index(best[:, :k], jnp.take_along_axis(indices, at[:, :k], 1)))
    negated, indices = jax.lax.cond(cut_apart, whole, partly)
    return -negated, indices


def _by_index(values: jax.Array, indices: jax.Array) -> jax.Array:
    """Indices [B, k] of equal neighbours among descending values in ascending order; of those above 0, since what is not is
    no latent. Neighbours change places by turns: float32 has few equals, and they are pairs."""
    equal = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > 0)
    wrong = lambda i: equal & (i[:, 1:] < i[:, :-1])

    def swapped(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        i, turn = state
        swap = wrong(i) & (jnp.arange(equal.shape[1]) % 2 == turn % 2)
        with_next, with_last = jnp.pad(swap, ((0, 0), (0, 1))), jnp.pad(swap, ((0, 0), (1, 0)))
        return jnp.where(with_next, jnp.roll(i, -1, 1), jnp.where(with_last, jnp.roll(i, 1, 1), i)), turn + 1

    return jax.lax.while_loop(lambda state: wrong(state[0]).any(), swapped, (indices, 0))[0]
