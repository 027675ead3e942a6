"""Gradients of a block of latents at a time, from pairs that are grouped by block.

The gradients of W_enc and W_dec are sums over (row, latent) pairs. Summed as whole arrays they are written
and read through memory, [n, d] numbers each; grouped by block, a block's sums are made in the cache where
its update takes them, and no gradient ever stands in memory. Within a block the pairs keep the order of
the batch, so that the sums have the same bits as `pairs.segment_outer`'s.
"""

from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp

CHUNK = 128  # pairs summed at once


@flax.struct.dataclass
class PairList:
    """Pairs of one selection and what their sums are made of.

    Attributes:
      indices: int32 [B, k], latents of this shard. values: float32 [B, k], z; pairs with 0 are left out.
      slopes: float32 [B, k], dL/dz. x: [B, d], the encoder's (centred) input. dy: [B, d], the gradient of the output.
    """

    indices: jax.Array
    values: jax.Array
    slopes: jax.Array
    x: jax.Array
    dy: jax.Array


@flax.struct.dataclass
class Grouped:
    """Pairs in order of their blocks of `size` latents; L lists over the same B rows.

    Attributes:
      order: int32 [P + CHUNK], numbers of pairs, block after block. starts: int32 [blocks + 1], where each begins.
      latents: int32 [P]. values, slopes: float32 [P]. x: [B, d]. dy: [L B, d].
      size: latents of a block. ks: pairs of a row in each of the L lists.
    """

    order: jax.Array
    starts: jax.Array
    latents: jax.Array
    values: jax.Array
    slopes: jax.Array
    x: jax.Array
    dy: jax.Array
    size: int = flax.struct.field(pytree_node=False)
    ks: tuple[int, ...] = flax.struct.field(pytree_node=False)

    def rows(self, pair: jax.Array) -> jax.Array:
        """Rows of dy that pairs belong to; modulo B, those of x."""
        batch, first, row = self.x.shape[0], 0, jnp.zeros_like(pair)
        for number, k in enumerate(self.ks):
            row = jnp.where(pair >= first, number * batch + (pair - first) // k, row)
            first += batch * k
        return row

    def sums(self, block: jax.Array | int, count: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Gradients of W_enc [count, d], b_enc [count], W_dec [count, d] for the block's `count` latents."""
        batch, d = self.x.shape
        start, stop = self.starts[block], self.starts[block + 1]

        def chunk(state):
            at, dw_enc, db_enc, dw_dec = state
            pair = jax.lax.dynamic_slice_in_dim(self.order, at, CHUNK)
            live = at + jnp.arange(CHUNK) < stop
            latent = jnp.where(live, self.latents[pair] - block * self.size, 0)
            row = self.rows(pair)
            slope, value = (jnp.where(live, a[pair], 0) for a in (self.slopes, self.values))
            dw_enc = dw_enc.at[latent].add(slope[:, None] * self.x[row % batch], mode="promise_in_bounds")
            dw_dec = dw_dec.at[latent].add(value[:, None] * self.dy[row], mode="promise_in_bounds")
            db_enc = db_enc.at[latent].add(slope, mode="promise_in_bounds")
            return at + CHUNK, dw_enc, db_enc, dw_dec

        zero = jnp.zeros((count, d), jnp.float32)
        state = (start, zero, jnp.zeros(count, jnp.float32), zero)
        return jax.lax.while_loop(lambda s: s[0] < stop, chunk, state)[1:]


def group(lists: Sequence[PairList], width: int, size: int) -> Grouped:
    """The pairs of all lists, which share their rows x, by blocks of `size` latents."""
    flat = lambda name: jnp.concatenate([getattr(one, name).reshape(-1) for one in lists])
    latents, values, blocks = flat("indices"), flat("values"), -(-width // size)
    order, starts = in_order(jnp.where(values > 0, latents // size, blocks), blocks)
    x, dy = lists[0].x.astype(jnp.float32), jnp.concatenate([one.dy for one in lists])
    ks = tuple(one.indices.shape[1] for one in lists)
    return Grouped(jnp.pad(order, (0, CHUNK)), starts, latents, values, flat("slopes"), x, dy, size, ks)


def in_order(block: jax.Array, blocks: int) -> tuple[jax.Array, jax.Array]:
    """Numbers of pairs sorted by block, then by number, and where each of `blocks` blocks begins and the last ends."""
    number = jnp.arange(len(block), dtype=jnp.uint32)
    bits = max(1, (len(block) - 1).bit_length())
    if (blocks + 1) << bits <= 2**32:  # one word for both: XLA's CPU sort of single words is six times as fast
        order = jax.lax.sort((block.astype(jnp.uint32) << bits) | number) & jnp.uint32((1 << bits) - 1)
    else:
        order = jax.lax.sort((block, number), num_keys=1, is_stable=True)[1]  # one key: GPUs have a radix sort for it
    counts = jnp.zeros(blocks + 1, jnp.int32).at[block].add(1)
    return order.astype(jnp.int32), jnp.cumsum(counts) - counts
