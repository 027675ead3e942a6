"""What a dictionary computes on one device of a mesh, which has the latents of its `model` shard."""

import jax
import jax.numpy as jnp

from jaxsae.dictionary.method import Method
from jaxsae.dictionary.parameters import SKIP, Params
from jaxsae.kernels import encode_by_layer, encode_by_size
from jaxsae.kernels.blocks import largest_divisor
from jaxsae.kernels.by_layer import layers_of, pre_products
from jaxsae.kernels.pairs import dots_by_layer, gather_sum
from jaxsae.kernels.products import product
from jaxsae.parallel import MODEL

_LATENTS_AT_ONCE = 4096  # of which pre-activations stand


def reconstruct(params: Params, floor: jax.Array, x: jax.Array, method: Method) -> jax.Array:
    """Float32 [B, d_out], the same on every shard, of rows x [B, d_in] that every shard has.

    Args:
      floor: what active latents are above, where rows do not keep k each.
    """
    if method.config.k_of_a_row:
        y = decode(params, *encode(params, x, method.config.k, method))
    else:
        y = _of_all_active(params, floor, x, method)
    return y + product(x, params.shared[SKIP], 1, 1) if SKIP in params.shared else y


def _of_all_active(params: Params, floor: jax.Array, x: jax.Array, method: Method) -> jax.Array:
    """Of however many latents are active, tile by tile."""
    centred, n = method.centred(params.shared, x), params.W_enc.shape[0]
    layers = layers_of(centred, params.W_enc)
    tile = _tile(n, layers)

    def add(y: jax.Array, part: tuple[dict[str, jax.Array], jax.Array]) -> tuple[jax.Array, None]:
        latent, bias = part
        products = pre_products(centred, latent["W_enc"])
        gates, pre = products + bias, products + latent["b_enc"]
        return y + product(_active(latent, gates, pre, floor, method), latent["W_dec"], 1, 0), None

    tiles = lambda array: array.reshape(n // tile, tile, *array.shape[1:])
    parts = jax.tree.map(tiles, (params.latent, gate_bias(params, method)))
    y, _ = jax.lax.scan(add, jnp.zeros((len(x), params.W_dec.shape[1]), jnp.float32), parts)
    return jax.lax.psum(y, MODEL) + params.b_dec


def _tile(latents: int, layers: int) -> int:
    return layers * largest_divisor(latents // layers, max(1, _LATENTS_AT_ONCE // layers))


def gate_bias(params: Params, method: Method) -> jax.Array:
    """[n_local]: with it pre-activations are above 0, or above the one threshold, where a latent is active."""
    return params.b_enc if method.ranks else method.selection.gate_bias(params.latent)


def encode(params: Params, x: jax.Array, k: int, method: Method) -> tuple[jax.Array, jax.Array]:
    """Values and indices [B, k], the same on every shard, of rows x [B, d_in] that every shard has.

    This shard's best, then the best of all shards; shards hold ascending latents, so ties fall to the lowest.
    """
    local, x = params.W_enc.shape[0], method.centred(params.shared, x)
    bias = gate_bias(params, method)
    if method.ranks and method.selection.signed:
        values, negative, indices = encode_by_size(x, params.W_enc, bias, None, min(k, local))
        sizes = jnp.where(negative, -values, values)
    else:
        values, indices = encode_by_layer(x, params.W_enc, bias, min(k, local))
        sizes = values if method.ranks else _sizes(params, x, values, indices, method)
    indices = indices + jax.lax.axis_index(MODEL) * local
    whole = lambda a: jax.lax.all_gather(a, MODEL, axis=1, tiled=True)
    values, sizes, indices = map(whole, (values, sizes, indices))
    _, at = jax.lax.top_k(values, k)
    best = jnp.take_along_axis(sizes, at, 1)
    best = jnp.where(jnp.isnan(values).any(1, keepdims=True), jnp.nan, best)
    return jnp.where(jnp.take_along_axis(values, at, 1) < 0, 0, best), jnp.take_along_axis(indices, at, 1)


def _sizes(params: Params, x: jax.Array, gates: jax.Array, indices: jax.Array, method: Method) -> jax.Array:
    """[B, k]: the sizes of the latents that were found by their gates; 0 where one is closed, NaN stays."""
    latent = {name: array[indices] for name, array in params.latent.items() if array.ndim == 1}
    # Not from the gate, which another bias may have rounded.
    pre = dots_by_layer(x, indices, params.W_enc) + latent["b_enc"]
    return jnp.where(gates <= 0, 0, jnp.where(jnp.isnan(gates), gates, method.selection.value(latent, pre)))


def values_of(params: Params, floor: jax.Array, x: jax.Array, wanted: jax.Array, method: Method) -> jax.Array:
    """Float32 [B, m], the same on every shard: values of latents `wanted` [m] of rows x [B, d_in], 0 where not active.

    Args:
      floor: as for `reconstruct`.
    """
    if method.config.k_of_a_row:
        values, indices = encode(params, x, method.config.k, method)

        def add(out: jax.Array, rank: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            value, index = rank
            return out + jnp.where(index[:, None] == wanted, value[:, None], 0), None

        return jax.lax.scan(add, jnp.zeros((len(x), len(wanted)), jnp.float32), (values.T, indices.T))[0]
    local = params.W_enc.shape[0]
    at = wanted - jax.lax.axis_index(MODEL) * local
    mine, at = (at >= 0) & (at < local), jnp.clip(at, 0, local - 1)
    latent, x = jax.tree.map(lambda array: array[at], params.latent), method.centred(params.shared, x)
    if layers_of(x, params.W_enc) == 1:
        products = pre_products(x, latent["W_enc"])
    else:
        products = dots_by_layer(x, jnp.broadcast_to(at, (len(x), len(at))), params.W_enc)
    gates, pre = products + gate_bias(params, method)[at], products + latent["b_enc"]
    values = _active(latent, gates, pre, floor, method)
    return jax.lax.psum(jnp.where(mine, values, 0), MODEL)


def _active(
    latent: dict[str, jax.Array], gates: jax.Array, pre: jax.Array, floor: jax.Array, method: Method
) -> jax.Array:
    """Values by gates and pre-activations [B, m]; NaN stays."""
    values = jnp.maximum(pre, 0) if method.ranks else method.selection.value(latent, pre)
    return jnp.where(gates <= jnp.maximum(floor, 0), 0, values)


def count_active(params: Params, x: jax.Array, floor: jax.Array, method: Method) -> jax.Array:
    """int32 [B]: latents of each row that are active, tile by tile."""
    x, (n, d) = method.centred(params.shared, x), params.W_enc.shape
    layers = layers_of(x, params.W_enc)
    tile = _tile(n, layers)
    count = lambda part: ((pre_products(x, part[0]) + part[1]) > floor).sum(1)
    bias = gate_bias(params, method)
    counts = jax.lax.map(count, (params.W_enc.reshape(-1, tile, d), bias.reshape(-1, tile)))
    return jax.lax.psum(counts.sum(0), MODEL)


def decode(params: Params, values: jax.Array, indices: jax.Array) -> jax.Array:
    """Float32 [B, d_out], the same on every shard, of latents [B, k]; without what skips them."""
    local = params.W_dec.shape[0]
    indices = indices - jax.lax.axis_index(MODEL) * local
    mine = (indices >= 0) & (indices < local)
    y = gather_sum(jnp.where(mine, values, 0), jnp.clip(indices, 0, local - 1), params.W_dec)
    return jax.lax.psum(y, MODEL) + params.b_dec
