"""Latents that read one part each of rows [B, L d]: latent i the part of layer i mod L, with W_enc [n, d].

How many layers there are is seen from the shapes; with one, everything is as it is of any dictionary. What begins at a
multiple of L, as shards, tiles and blocks of latents do, has the layers in the same turns.
"""

import jax
import jax.numpy as jnp

from jaxsae.kernels.products import product
from jaxsae.platform import full_precision


def layers_of(x: jax.Array, w_enc: jax.Array) -> int:
    """L, of rows x [..., L d] and W_enc [n, d]."""
    return x.shape[-1] // w_enc.shape[-1]


def layer_of(latents: jax.Array, layers: int) -> jax.Array:
    """int32, of the shape of `latents`, which are numbers of the whole dictionary or of a shard."""
    return latents % layers


def by_layer(x: jax.Array, layers: int) -> jax.Array:
    """[B, L d] -> [B, L, d]."""
    return x.reshape(len(x), layers, -1)


def pre_products(x: jax.Array, w_enc: jax.Array) -> jax.Array:
    """float32 [B, T]: <the part of x [B, L d] that a latent reads, W_enc,i> for latents [T, d] from a multiple of L on."""
    layers = layers_of(x, w_enc)
    if layers == 1:
        return product(x, w_enc, 1, 1)
    return (
        _batched(by_layer(x, layers), by_layer_of_latents(w_enc, layers), (2, 2)).transpose(1, 2, 0).reshape(len(x), -1)
    )


def pre_products_gradient(g: jax.Array, x: jax.Array, w_enc: jax.Array) -> jax.Array:
    """float32 [T, d], of `pre_products` by W_enc, for its gradient g [B, T]."""
    layers = layers_of(x, w_enc)
    if layers == 1:
        return product(g, x, 0, 0)
    dw = _batched(g.reshape(len(g), -1, layers).transpose(0, 2, 1), by_layer(x, layers), (0, 0))
    return dw.transpose(1, 0, 2).reshape(w_enc.shape)


def by_layer_of_latents(array: jax.Array, layers: int) -> jax.Array:
    """[n, d] -> [n / L, L, d]: the latents of a layer are [:, layer]."""
    return array.reshape(-1, layers, array.shape[-1])


def _batched(a: jax.Array, b: jax.Array, over: tuple[int, int]) -> jax.Array:
    """Sums over an axis of each of a and b, whose second axes are layers: float32 [L, rest of a, rest of b]."""
    dims = (((over[0],), (over[1],)), ((1,), (1,)))
    return jax.lax.dot_general(a, b, dims, precision=full_precision(a.dtype), preferred_element_type=jnp.float32)


def widened(w_enc: jax.Array, layer: jax.Array, layers: int) -> jax.Array:
    """[M, L d]: rows [M, d] of latents of these layers [M], 0 but for the part that each reads."""
    if layers == 1:
        return w_enc
    own = layer[:, None] == jnp.arange(layers)
    return jnp.where(own[:, :, None], w_enc[:, None], 0).reshape(len(w_enc), -1)


def narrowed(rows: jax.Array, layer: jax.Array, layers: int) -> jax.Array:
    """[M, d] of [M, L d]: the part that each latent reads."""
    if layers == 1:
        return rows
    parts = by_layer(rows, layers)
    return jnp.take_along_axis(parts, layer[:, None, None], 1)[:, 0]


def each_layer(values: jax.Array, indices: jax.Array, x: jax.Array, w_enc: jax.Array) -> list[tuple[jax.Array, ...]]:
    """(values, indices, x) of each layer for sums over pairs [B, k]: those of other layers are 0, x [B, d] is its part."""
    layers = layers_of(x, w_enc)
    if layers == 1:
        return [(values, indices, x)]
    layer, parts = layer_of(indices, layers), by_layer(x, layers)
    return [(jnp.where(layer == one, values, 0), indices, parts[:, one]) for one in range(layers)]


def as_read(numbers: jax.Array | float, w_enc: jax.Array) -> jax.Array | float:
    """[d], or [n, d] of several layers: numbers [L d] of a row as each of the latents [n, d] meets them; or a number."""
    layers = layers_of(numbers, w_enc) if jnp.ndim(numbers) else 1
    return numbers if layers == 1 else jnp.tile(jnp.reshape(numbers, (layers, -1)), (len(w_enc) // layers, 1))
