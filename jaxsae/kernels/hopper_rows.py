"""Sums and products of gathered rows on Hopper GPUs, without atomics: what `hopper_pairs.py` is made of.

Mosaic GPU kernels in which every number of a result is written once, by the warpgroup that summed it up in
registers, in a fixed order: the same input gives the same bits, and no [P, d] block of gathered rows stands anywhere.
They wait for memory most of the time, so each multiprocessor holds many independent warpgroups.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

LANES = 128  # threads of a warpgroup: rows are cut into multiples of them
SLAB = 1024  # columns of a warpgroup at most: 8 a thread, 16 bytes of bfloat16 in one load
SEGMENTS = 16  # of a warpgroup, one after another
AHEAD = 4  # pairs whose rows are loaded together
MAX_D = 8192  # of a dot product: 64 numbers a thread


def slab_of(d: int) -> int | None:
    """The widest slab that divides d; None: d is no multiple of `LANES`."""
    return max((s for s in range(LANES, SLAB + 1, LANES) if d % s == 0), default=None)


def weighted_sums(starts, source, weights, table, interpret=None) -> tuple[jax.Array, jax.Array]:
    """out[s] = sum over pairs p of segment s of weights[p] table[source[p]], where a segment's pairs stand together.

    Args:
      starts: int32 [S + 1], where each segment's pairs begin; the last entry is where the last segment's end.
      source: int32 [P], rows of the table, P at least 1. weights: float32 [P]. table: [R, d], d a multiple of `LANES`.
      interpret: an `InterpretGPUParams`, to run on a CPU.

    Returns:
      float32 [S, d], 0 where a segment has no pairs, and float32 [S], the sums of the weights alone.
    """
    from jax.experimental import pallas as pl

    segments, d = starts.shape[0] - 1, table.shape[1]
    slab = slab_of(d)

    def kernel(starts_ref, source_ref, weights_ref, table_ref, out_ref, totals_ref):
        block, part = lax.axis_index("block"), lax.axis_index("slab")
        columns = pl.ds(part * slab, slab)

        @functools.partial(lax.fori_loop, 0, SEGMENTS, init_val=None)
        def _(number, _):
            # What the last block has too many is the last segment again, with the same result.
            segment = jnp.minimum(block * SEGMENTS + number, segments - 1)
            start, stop = starts_ref[segment], starts_ref[segment + 1]

            def some(turn, sums):
                out, total = sums
                for ahead in range(AHEAD):
                    pair = start + turn * AHEAD + ahead
                    at = jnp.minimum(pair, stop - 1)  # beyond the end the last pair again, with weight 0
                    weight = jnp.where(pair < stop, weights_ref[at], 0.0)
                    out = out + weight * table_ref[source_ref[at], columns].astype(jnp.float32)
                    total = total + weight
                return out, total

            turns = lax.div(stop - start + AHEAD - 1, jnp.int32(AHEAD))
            zero = jnp.zeros((slab,), jnp.float32), jnp.float32(0)
            out, total = lax.fori_loop(0, turns, some, zero)
            out_ref[segment, columns] = out

            @pl.when(part == 0)
            def _():
                totals_ref[segment] = total

    return _kernel(
        kernel,
        out_type=[jax.ShapeDtypeStruct((segments, d), jnp.float32), jax.ShapeDtypeStruct((segments,), jnp.float32)],
        grid=(-(-segments // SEGMENTS), d // slab),
        grid_names=("block", "slab"),
        interpret=interpret,
    )(starts, source, weights, table)


def row_products(rows, values, indices, table, interpret=None) -> jax.Array:
    """out[b, j] = <rows[b], table[indices[b, j]]> where values[b, j] is not 0, else 0: float32 [B, k].

    Args:
      rows: [B, d], d a multiple of `LANES` and at most `MAX_D`. values, indices: [B, k]. table: [n, d].
      interpret: an `InterpretGPUParams`, to run on a CPU.
    """
    from jax.experimental import pallas as pl

    batch, k = indices.shape

    def kernel(rows_ref, values_ref, indices_ref, table_ref, out_ref):
        row = lax.axis_index("row")
        own = rows_ref[row, :].astype(jnp.float32)

        @functools.partial(lax.fori_loop, 0, k, init_val=None)
        def _(number, _):
            live = values_ref[row, number] != 0

            @pl.when(live)
            def _():
                other = table_ref[indices_ref[row, number], :].astype(jnp.float32)
                out_ref[row, number] = jnp.sum(own * other)

            @pl.when(jnp.logical_not(live))
            def _():
                out_ref[row, number] = jnp.float32(0)

    out_type = jax.ShapeDtypeStruct((batch, k), jnp.float32)
    kernel = _kernel(kernel, out_type=out_type, grid=(batch,), grid_names=("row",), interpret=interpret)
    return kernel(rows, values, indices, table)


def _kernel(body, **settings):
    """A kernel of single warpgroups."""
    from jax.experimental.pallas import mosaic_gpu as mgpu

    semantics = mgpu.CompilerParams(lowering_semantics=mgpu.LoweringSemantics.Warpgroup)
    return mgpu.kernel(body, num_threads=1, thread_name="warpgroup", compiler_params=semantics, **settings)
