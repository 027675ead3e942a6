"""The latents that a pass by products goes through, in tiles: all of a shard, or some that are gathered."""

from itertools import pairwise

import flax.struct
import jax
import jax.numpy as jnp

from jaxsae.kernels.counting import places

SMALLEST_TILE, LARGEST_TILE = 64, 512  # latents of a tile of gathered ones


@flax.struct.dataclass
class Tables:
    """Latents that take part, in J tiles of T: the first `used` tiles hold some, and what is left of the last one is empty.

    Attributes:
      w_enc: [J, T, d_in]. bias: float32 [J, T], -inf where a place is empty. w_dec: [J, T, d_out].
      used: tiles, a number or int32.
      latents: int32 [J T], ascending; the number of latents where a place is empty. None: all in order.
      part: int32 [J, T], the part of the reconstruction that a latent adds to; None: there is one, or `ends` says it.
      ends: where the parts of the one tile end, one after another, where that is known; empty: there is one part.
    """

    w_enc: jax.Array
    bias: jax.Array
    w_dec: jax.Array
    used: jax.Array | int
    latents: jax.Array | None = None
    part: jax.Array | None = None
    ends: tuple[int, ...] = flax.struct.field(pytree_node=False, default=())

    @property
    def stretches(self) -> list[slice]:
        """The parts of a tile, where they are stretches of it: those of the one tile, or all of any."""
        return [slice(a, b) for a, b in pairwise((0, *(self.ends or self.bias.shape[1:])))]


def all_latents(
    w_enc: jax.Array,
    b_enc: jax.Array,
    w_dec: jax.Array,
    part: jax.Array | None = None,
    ends: tuple[int, ...] = (),
) -> Tables:
    """All latents of this shard, as one tile."""
    part = None if part is None or ends else part[None]
    return Tables(w_enc[None], b_enc[None], w_dec[None], 1, part=part, ends=ends)


def gathered(
    w_enc: jax.Array, b_enc: jax.Array, w_dec: jax.Array, mask: jax.Array, capacity: int, dtype: jnp.dtype
) -> Tables:
    """The latents of bool [n] `mask`, at most `capacity` of them; those beyond it are left out."""
    n = len(mask)
    size = tile_size(n)
    tiles = -(-capacity // size)
    at, there = places(mask, tiles * size)
    at = jnp.where(there, at, n).astype(jnp.int32)
    used = (jnp.minimum(mask.sum(), capacity) + size - 1) // size

    def tile(j, tables):
        place = jax.lax.dynamic_slice_in_dim(at, j * size, size)
        rows = jnp.minimum(place, n - 1)
        return tuple(a.at[j].set(t[rows].astype(a.dtype)) for a, t in zip(tables, (w_enc, w_dec), strict=True))

    empty = tuple(jnp.zeros((tiles, size, w.shape[1]), dtype) for w in (w_enc, w_dec))
    enc, dec = jax.lax.fori_loop(0, used, tile, empty)
    bias = jnp.where(there, b_enc[jnp.minimum(at, n - 1)], -jnp.inf).reshape(tiles, size)
    return Tables(enc, bias, dec, used, latents=at)


def tile_size(n: int) -> int:
    """Latents of a tile, where some of `n` are gathered."""
    size = SMALLEST_TILE
    while size < LARGEST_TILE and size * 64 < n:
        size *= 2
    return size
