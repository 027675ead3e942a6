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

from jaxsae.kernels.by_layer import layer_of

CHUNK = 128  # pairs summed at once


@flax.struct.dataclass
class PairList:
    """Pairs of one selection and what their sums are made of.

    Attributes:
      indices: int32 [B, k], latents of this shard. values: float32 [B, k], z; pairs with 0 are left out.
      slopes: float32 [B, k], dL/dz. x: [B, d_in], the encoder's (centred) input, of which a latent may read one layer's part.
      dy: [parts, B, d_out], the gradient of each part of the output. part: int32 [B, k], the part that a pair adds to;
        None: there is one.
    """

    indices: jax.Array
    values: jax.Array
    slopes: jax.Array
    x: jax.Array
    dy: jax.Array
    part: jax.Array | None = None


@flax.struct.dataclass
class Grouped:
    """Pairs in order of their blocks of `size` latents; L lists over the same B rows.

    Attributes:
      order: int32 [P + CHUNK], numbers of pairs, block after block. starts: int32 [blocks + 1], where each begins.
      latents: int32 [P]. values, slopes: float32 [P]. x: [B layers, d], row after row. dy: [L B, d_out], of L parts of all
        lists.
      rows: int32 [P], of dy; modulo B those of x. size: latents of a block. layers: of which a latent reads one.
    """

    order: jax.Array
    starts: jax.Array
    latents: jax.Array
    values: jax.Array
    slopes: jax.Array
    x: jax.Array
    dy: jax.Array
    rows: jax.Array
    size: int = flax.struct.field(pytree_node=False)
    layers: int = flax.struct.field(pytree_node=False, default=1)

    def sums(self, block: jax.Array | int, count: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Gradients of W_enc [count, d_in], b_enc [count], W_dec [count, d_out] for the block's `count` latents."""
        batch, layers = len(self.x) // self.layers, self.layers
        start, stop = self.starts[block], self.starts[block + 1]

        def chunk(state):
            at, dw_enc, db_enc, dw_dec = state
            pair = jax.lax.dynamic_slice_in_dim(self.order, at, CHUNK)
            live = at + jnp.arange(CHUNK) < stop
            latent = jnp.where(live, self.latents[pair] - block * self.size, 0)
            row = self.rows[pair]
            read = row % batch * layers + layer_of(self.latents[pair], layers)
            slope, value = (jnp.where(live, a[pair], 0) for a in (self.slopes, self.values))
            dw_enc = dw_enc.at[latent].add(slope[:, None] * self.x[read], mode="promise_in_bounds")
            dw_dec = dw_dec.at[latent].add(value[:, None] * self.dy[row], mode="promise_in_bounds")
            db_enc = db_enc.at[latent].add(slope, mode="promise_in_bounds")
            return at + CHUNK, dw_enc, db_enc, dw_dec

        zero = lambda *shape: jnp.zeros((count, *shape), jnp.float32)
        state = (start, zero(self.x.shape[1]), zero(), zero(self.dy.shape[1]))
        return jax.lax.while_loop(lambda s: s[0] < stop, chunk, state)[1:]


def group(lists: Sequence[PairList], width: int, size: int, layers: int = 1) -> Grouped:
    """The pairs of all lists, which share their rows x, by blocks of `size` latents, each of which reads one of `layers`."""
    flat = lambda name: jnp.concatenate([getattr(one, name).reshape(-1) for one in lists])
    latents, values, blocks = flat("indices"), flat("values"), -(-width // size)
    order, starts = in_order(jnp.where(values != 0, latents // size, blocks), blocks)
    x, dy = lists[0].x.astype(jnp.float32), jnp.concatenate([part for one in lists for part in one.dy])
    x = x.reshape(len(x) * layers, -1)
    return Grouped(
        jnp.pad(order, (0, CHUNK)), starts, latents, values, flat("slopes"), x, dy, _rows_of(lists), size, layers
    )


def _rows_of(lists: Sequence[PairList]) -> jax.Array:
    """int32 [P]: the row of all parts of all lists, one after another, that each pair belongs to."""
    rows, first = [], 0
    for one in lists:
        batch, k = one.indices.shape
        row = jnp.broadcast_to(first + jnp.arange(batch, dtype=jnp.int32)[:, None], (batch, k))
        rows.append((row if one.part is None else row + batch * one.part).reshape(-1))
        first += batch * len(one.dy)
    return jnp.concatenate(rows)


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
