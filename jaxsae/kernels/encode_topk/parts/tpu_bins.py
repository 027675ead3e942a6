"""The TPU kernel: a matmul whose tiles are searched in VMEM while the next one is computed.

Latent i belongs to bin i mod `bins`, a lane, so that a tile of pre-activations falls on the bins slice by slice. For
each row and bin VMEM holds the `keep` largest entries so far as a sorted list of (value, slice), and the largest of
the rest, the PIVOT, without its place. At the end k rounds take the maximum over all lists' heads.

Equal entries of a bin keep the order of their slices, and a round takes the lowest index among equal heads, so ties fall
as in `lax.top_k`. What a row dropped is at most its largest pivot: the
caller compares that with the row's k-th value (`certificate.py`).

The grid is (blocks of rows, tiles of latents + 1, parts of a tile). In step j the matrix unit fills tile j, part by part,
while the vector unit inserts tile j - 1, of which each step takes a share of the rows. Both stand in one block without
branches, on two buffers that are known to differ, for the compiler to interleave: one block for even j, one for odd.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxsae.kernels.encode_topk.parts.stream import LANES

NEVER = float("-inf")
VECTOR = 128  # lanes of a vector register
SUBLANES = 8  # rows of one, in 32 bits
DEPTH = 512  # of a float32 product: it splits its operands into parts of 16 bits, and those of a whole block fill VMEM
FINAL_ROWS = 32  # of which the k rounds are made together
NAME = "sae_encode_topk"


@dataclasses.dataclass(frozen=True)
class Blocks:
    """What of the problem stands in VMEM.

    Attributes:
      rows: of x, a multiple of 8 for each part. latents: of a tile, a multiple of `bins`.
      part: latents that one step multiplies, a multiple of 128 that divides `latents`.
      bins: a multiple of 128. keep: entries of a bin whose places are known; 2 or more.
    """

    rows: int
    latents: int
    part: int
    bins: int
    keep: int

    @property
    def parts(self) -> int:
        """Steps of a tile."""
        return self.latents // self.part

    def vmem_bytes(self, d: int, k: int, itemsize: int) -> int:
        """Bytes of VMEM: inputs and outputs twice, since they are moved while others are worked on."""
        moved = 2 * itemsize * d * (self.rows + self.part)
        moved += 2 * 4 * (SUBLANES * self.part + 2 * self.rows * _whole_vectors(k) + self.rows * VECTOR)
        return moved + 4 * self.rows * (2 * self.latents + self.bins * (2 * self.keep + 1))


def _whole_vectors(k: int) -> int:
    return -(-k // VECTOR) * VECTOR


def _insert(entry, place, values: list, places: list, pivot):
    """Puts entries into sorted lists, below their equals; what falls out at the bottom goes into the pivot."""
    new = entry  # compared at every level: of two equals the one that is pushed down must stay above the other
    for level in range(len(values)):
        above = new > values[level]
        values[level], entry = jnp.where(above, entry, values[level]), jnp.where(above, values[level], entry)
        places[level], place = jnp.where(above, place, places[level]), jnp.where(above, places[level], place)
    return jnp.maximum(pivot, entry)


def _insert_tile(tile, slices_before, first_row, rows: int, values, places, pivots, blocks: Blocks):
    """Inserts `rows` rows of a tile, from `first_row` on."""

    def group(number, _):
        at = pl.ds(pl.multiple_of(first_row + number * SUBLANES, SUBLANES), SUBLANES)
        for vector in range(blocks.bins // VECTOR):
            lanes = pl.ds(vector * VECTOR, VECTOR)
            value = [values[level, at, lanes] for level in range(blocks.keep)]
            place = [places[level, at, lanes] for level in range(blocks.keep)]
            pivot = pivots[at, lanes]
            for piece in range(blocks.latents // blocks.bins):
                part, lane = divmod(piece * blocks.bins + vector * VECTOR, blocks.part)
                entry = tile[part, at, pl.ds(lane, VECTOR)]
                here = jnp.full(entry.shape, slices_before + piece, jnp.int32)
                pivot = _insert(entry, here, value, place, pivot)
            for level in range(blocks.keep):
                values[level, at, lanes] = value[level]
                places[level, at, lanes] = place[level]
            pivots[at, lanes] = pivot
        return 0

    jax.lax.fori_loop(0, rows // SUBLANES, group, 0, unroll=True)


def _take_best(out_values, out_indices, out_dropped, values, places, pivots, k: int, blocks: Blocks):
    """k times the largest head of all lists, the lowest index first among equals."""
    rows, padded = min(FINAL_ROWS, blocks.rows), out_values.shape[1]
    lane = jax.lax.broadcasted_iota(jnp.int32, (rows, blocks.bins), 1)
    column = jax.lax.broadcasted_iota(jnp.int32, (rows, padded), 1)

    def group(number, _):
        at = pl.ds(pl.multiple_of(number * rows, rows), rows)

        def take(turn, found):
            head = values[0, at, :]
            index = places[0, at, :] * blocks.bins + lane
            best = jnp.max(head, axis=1, keepdims=True)
            first = jnp.min(jnp.where(head == best, index, jnp.iinfo(jnp.int32).max), axis=1, keepdims=True)
            taken = index == first
            for level in range(blocks.keep - 1):
                values[level, at, :] = jnp.where(taken, values[level + 1, at, :], values[level, at, :])
                places[level, at, :] = jnp.where(taken, places[level + 1, at, :], places[level, at, :])
            last = blocks.keep - 1
            values[last, at, :] = jnp.where(taken, NEVER, values[last, at, :])
            here = column == turn
            return jnp.where(here, best, found[0]), jnp.where(here, first, found[1])

        none = jnp.full((rows, padded), NEVER, jnp.float32), jnp.zeros((rows, padded), jnp.int32)
        out_values[at, :], out_indices[at, :] = jax.lax.fori_loop(0, k, take, none)
        dropped = jnp.max(pivots[at, :], axis=1, keepdims=True)
        out_dropped[at, :] = jnp.broadcast_to(dropped, (rows, VECTOR))
        return 0

    jax.lax.fori_loop(0, blocks.rows // rows, group, 0)


def _product(x, w):
    """x . W_n of a block, float32; of float32 operands in full precision."""
    if w.dtype != jnp.float32:
        return jax.lax.dot_general(x[...], w[...], LANES, preferred_element_type=jnp.float32)
    product, d = 0.0, x.shape[1]
    for start in range(0, d, DEPTH):
        at = pl.ds(start, min(DEPTH, d - start))
        product += jax.lax.dot_general(
            x[:, at], w[:, at], LANES, precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32
        )
    return product


def _kernel(x, w, bias, out_values, out_indices, out_dropped, even, odd, values, places, pivots, *, k, tiles, blocks):
    tile, part = pl.program_id(1), pl.program_id(2)
    share = blocks.rows // blocks.parts

    @pl.when((tile == 1) & (part == 0))  # what step 0 inserted was no tile
    def _():
        values[...] = jnp.full_like(values, NEVER)
        places[...] = jnp.zeros_like(places)
        pivots[...] = jnp.full_like(pivots, NEVER)

    def step(filled, searched):
        filled[part] = _product(x, w) + bias[...]
        before = (tile - 1) * (blocks.latents // blocks.bins)
        _insert_tile(searched, before, part * share, share, values, places, pivots, blocks)

    pl.when(jax.lax.rem(tile, 2) == 0)(lambda: step(even, odd))
    pl.when(jax.lax.rem(tile, 2) == 1)(lambda: step(odd, even))

    @pl.when((tile == tiles) & (part == blocks.parts - 1))
    def _():
        _take_best(out_values, out_indices, out_dropped, values, places, pivots, k, blocks)


def best_of_bins(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, blocks: Blocks, vmem_bytes: int, interpret):
    """The k best entries of all bins' lists, and the largest entry that is in none.

    Args:
      x: [B, d], B a multiple of `blocks.rows`, d of 128. w_enc: [n, d]; the latents of its whole tiles are
        looked at. b_enc: float32 [n].
      k: at most `bins * keep`. vmem_bytes: that the kernel may use. interpret: False, or how to run without a TPU.

    Returns:
      values float32 [B, k], indices int32 [B, k], dropped float32 [B].
    """
    (batch, d), tiles = x.shape, w_enc.shape[0] // blocks.latents
    padded = _whole_vectors(k)
    part = lambda tile, part: (
        jnp.minimum(tile, tiles - 1) * blocks.parts + part
    )  # the step behind the last tile repeats it
    by_rows = lambda columns: pl.BlockSpec((blocks.rows, columns), lambda i, j, c: (i, 0))
    lists = (blocks.keep, blocks.rows, blocks.bins)
    tile = pltpu.VMEM((blocks.parts, blocks.rows, blocks.part), jnp.float32)
    values, indices, dropped = pl.pallas_call(
        functools.partial(_kernel, k=k, tiles=tiles, blocks=blocks),
        grid=(batch // blocks.rows, tiles + 1, blocks.parts),
        in_specs=[
            by_rows(d),
            pl.BlockSpec((blocks.part, d), lambda i, j, c: (part(j, c), 0)),
            pl.BlockSpec((1, blocks.part), lambda i, j, c: (0, part(j, c))),
        ],
        out_specs=[by_rows(padded), by_rows(padded), by_rows(VECTOR)],
        out_shape=[
            jax.ShapeDtypeStruct((batch, padded), jnp.float32),
            jax.ShapeDtypeStruct((batch, padded), jnp.int32),
            jax.ShapeDtypeStruct((batch, VECTOR), jnp.float32),
        ],
        scratch_shapes=[
            tile,
            tile,
            pltpu.VMEM(lists, jnp.float32),
            pltpu.VMEM(lists, jnp.int32),
            pltpu.VMEM(lists[1:], jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary"), vmem_limit_bytes=vmem_bytes
        ),
        cost_estimate=pl.CostEstimate(
            flops=2 * batch * d * tiles * blocks.latents,
            transcendentals=0,
            bytes_accessed=(batch // blocks.rows) * tiles * blocks.latents * d * w_enc.dtype.itemsize
            + batch * (d * x.dtype.itemsize + 8 * padded + 4 * VECTOR),
        ),
        interpret=interpret,
        name=NAME,
    )(x, w_enc, b_enc[None, :])
    return values[:, :k], indices[:, :k], dropped[:, 0]
