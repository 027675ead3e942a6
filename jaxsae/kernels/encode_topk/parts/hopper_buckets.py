"""Hopper, first stage: x W_enc^T + b, of which each bucket's best entries alone leave the chip.

A Mosaic GPU kernel. A persistent block of threads on each multiprocessor goes through tiles of 128 rows x 256
latents: one warpgroup copies (TMA) slices of x and W_enc into shared memory, ahead of two that multiply
(wgmma), 128 latents each. What leaves a tile of pre-activations, in registers, is for each row and bucket of
neighbouring latents its `keep` largest entries and the largest of the rest. Two blocks of a cluster work on the
same latents and different rows, and share the copy of W_enc, the larger one.

Rows run fastest over the tiles in flight, so that a slice of W_enc is read from memory once and by all row
tiles from the L2 cache, where `Buckets.rows` rows of x stay as well. Nothing is added atomically: the same input
gives the same bits.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxsae.kernels.encode_topk.parts.certificate import overfull

ROWS = 128  # of a tile: what one wgmma accumulator takes
LATENTS = 128  # of a warpgroup's part of a tile
WARPGROUPS = 2
TILE = LATENTS * WARPGROUPS
ALIGNED = 8  # rows of a swizzled piece of shared memory: copies begin at their multiples, and W_enc must end at one
DEPTH = 64  # of a slice: 128 bytes of bfloat16, the widest swizzle
STAGES = 4  # slices of x and W_enc in flight: 4 x 48 of 227 KiB of shared memory
COPY_REGISTERS = 40  # a thread of the copying warpgroup; the others share what is left
MISS = 1e-5  # tolerated probability that a row must be repaired


@dataclasses.dataclass(frozen=True)
class Buckets:
    """How the first stage cuts up its work.

    Attributes:
      size: latents of a bucket, 32, 64 or 128. keep: entries of it that are kept.
      rows: rows of x that go through all latents together. cluster: 1 or 2 blocks that share copies of W_enc.
    """

    size: int
    keep: int
    rows: int
    cluster: int = 2

    def count(self, width: int) -> int:
        """Buckets of `width` latents; the last tile overlaps the one before it."""
        return -(-width // TILE) * (TILE // self.size)

    def start(self, bucket: jax.Array, width: int) -> jax.Array:
        """The first latent of buckets."""
        per_tile = TILE // self.size
        return jnp.minimum(bucket // per_tile * TILE, width - TILE) + bucket % per_tile * self.size


def choose_sizes(width: int, k: int) -> tuple[int, int]:
    """(size, keep): the least work among those that seldom miss, else the most candidates.

    A kept entry costs six operations on each pre-activation; a smaller bucket costs space and a longer second stage.
    """
    options = [(size, keep) for size in (128, 64, 32) for keep in range(1, 9)]
    good = [(size, keep) for size, keep in options if overfull(k, -(-width // size), keep) <= MISS]
    return min(good, key=lambda option: option[1] + 64 / option[0]) if good else options[-1]


def covered(width: int) -> int:
    """How many of `width` latents the kernel takes; the few that are left are the caller's."""
    return width // ALIGNED * ALIGNED


def bias_of_tiles(bias: jax.Array) -> jax.Array:
    """[n] -> [tiles * TILE]: each tile's; -inf where the last tile repeats latents of the one before it."""
    width = bias.shape[0]
    whole = width // TILE * TILE
    if whole == width:
        return bias
    last = jnp.where(jnp.arange(width - TILE, width) < whole, -jnp.inf, bias[-TILE:])
    return jnp.concatenate([bias[:whole], last])


def bucket_best(x, w_enc, bias, buckets: Buckets, multiprocessors: int, interpret=None):
    """The largest entries of each bucket.

    Args:
      x: bfloat16 [R, d], R a multiple of ROWS * buckets.cluster, d of DEPTH. w_enc: bfloat16 [n, d], n at least TILE and a
        multiple of ALIGNED.
      bias: float32 [tiles * TILE], from `bias_of_tiles`.
      interpret: an `InterpretGPUParams`, to run on a CPU.

    Returns:
      values float32 [keep, N, R], descending, for N buckets; places int32 [ceil(keep / 4), N, R], their places in
      the bucket counted from its end, 8 bits each from the lowest on; float32 [N, R], the largest value that is not kept.
    """
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import mosaic_gpu as mgpu

    (rows, d), width = x.shape, w_enc.shape[0]
    row_tiles, tiles = rows // (ROWS * buckets.cluster), bias.shape[0] // TILE
    shared = buckets.cluster > 1
    # The interpreter of jax 0.10 multiplies no transposed operand: it gets W_enc^T and reads it along the other axis.
    across = (lambda latents, depth: (depth, latents)) if interpret else (lambda latents, depth: (latents, depth))

    def copies():
        swizzle = mgpu.find_swizzle(8 * DEPTH * x.dtype.itemsize)
        layout = (mgpu.TilingTransform((8, swizzle // x.dtype.itemsize)), mgpu.SwizzleTransform(swizzle))
        spec = functools.partial(mgpu.BlockSpec, transforms=layout, memory_space=mgpu.SMEM)
        together = dict(collective_axes=("pair",)) if shared and not interpret else {}
        return [
            spec((ROWS, DEPTH), lambda step: (0, step)),
            spec(across(TILE, DEPTH), lambda step: across(0, step), **together),
        ]

    def pipeline(body, context):
        return mgpu.emit_pipeline_warp_specialized(
            body,
            grid=(d // DEPTH,),
            in_specs=copies(),
            wg_axis="warpgroup",
            num_compute_wgs=WARPGROUPS,
            memory_registers=COPY_REGISTERS,
            max_concurrent_steps=STAGES,
            compute_context=context,
        )

    def kernel(x_ref, w_ref, b_ref, values_ref, places_ref, rest_ref):
        nothing = lambda *_, **__: None
        space = pipeline(nothing, nothing).get_allocations(x_ref, w_ref)

        @functools.partial(pl.run_scoped, space=space, collective_axes="warpgroup")
        def _(space):
            warpgroup = lax.axis_index("warpgroup")
            part = pl.ds(warpgroup * LATENTS, LATENTS)
            block = lax.axis_index("pair") if shared else 0

            @mgpu.nd_loop((row_tiles * tiles,), collective_axes="multiprocessor")
            def _(turn):
                (number,) = turn.index
                tile, row_tile = lax.div(number, jnp.int32(row_tiles)), lax.rem(number, jnp.int32(row_tiles))
                at_rows = pl.ds((row_tile * buckets.cluster + block) * ROWS, ROWS)
                at_latents = pl.ds(jnp.minimum(tile * TILE, width - TILE), TILE)

                def multiply(_, x_part, w_part, sums):
                    w_own = w_part.at[:, part] if interpret else mgpu.transpose_ref(w_part.at[part], (1, 0))
                    mgpu.wgmma(sums, x_part, w_own)
                    mgpu.wgmma_wait(0)
                    return sums

                def context(run):
                    @functools.partial(pl.run_scoped, sums=mgpu.ACC((ROWS, LATENTS), jnp.float32))
                    def _(sums):
                        run(sums)
                        offset = b_ref.at[pl.ds(tile * TILE + warpgroup * LATENTS, LATENTS)]
                        if interpret:
                            offset = offset[...]
                        else:  # from global memory, each thread what its columns need
                            offset = mgpu.load(offset, (), layout=mgpu.Layout.WGMMA.reduce(0), optimized=False)
                        pre = sums[...] + lax.broadcast_in_dim(offset, (ROWS, LATENTS), (1,))
                        for number in range(LATENTS // buckets.size):
                            bucket = (tile * WARPGROUPS + warpgroup) * (LATENTS // buckets.size) + number
                            own = pre[:, number * buckets.size : (number + 1) * buckets.size]
                            values, places, rest = _best(own, buckets.keep)
                            for slot, value in enumerate(values):
                                values_ref[slot, bucket, at_rows] = value
                            for word, place in enumerate(places):
                                places_ref[word, bucket, at_rows] = place
                            rest_ref[bucket, at_rows] = rest

                slices = x_ref.at[at_rows, :], w_ref.at[across(at_latents, slice(None))]
                pipeline(multiply, context)(*slices, allocations=space)

    count = buckets.count(width)
    words = -(-buckets.keep // 4)
    grid = dict(grid=(multiprocessors // buckets.cluster,), grid_names=("multiprocessor",))
    if shared:
        grid.update(cluster=(buckets.cluster,), cluster_names=("pair",))
    return mgpu.kernel(
        kernel,
        out_type=[
            jax.ShapeDtypeStruct((buckets.keep, count, rows), jnp.float32),
            jax.ShapeDtypeStruct((words, count, rows), jnp.int32),
            jax.ShapeDtypeStruct((count, rows), jnp.float32),
        ],
        **grid,
        num_threads=WARPGROUPS + 1,
        thread_name="warpgroup",
        compiler_params=mgpu.CompilerParams(lowering_semantics=mgpu.LoweringSemantics.Warpgroup),
        interpret=interpret,
    )(x, w_enc.T if interpret else w_enc, bias)


def _best(pre: jax.Array, keep: int) -> tuple[list[jax.Array], list[jax.Array], jax.Array]:
    """`keep` times the largest entry of each row of a bucket, the leftmost of equals; then what is left."""
    rows, size = pre.shape
    over = lambda column: lax.broadcast_in_dim(column, pre.shape, (0,))
    from_end = (size - 1 - lax.broadcasted_iota(jnp.int32, pre.shape, 1)).astype(jnp.float32)  # max is float's
    values, places = [], [jnp.zeros(rows, jnp.int32)] * -(-keep // 4)
    for slot in range(keep):
        value = jnp.max(pre, axis=1)
        place = jnp.max(jnp.where(pre == over(value), from_end, -1.0), axis=1)
        values.append(value)
        shift = jnp.full((rows,), 8 * (slot % 4), jnp.int32)
        places[slot // 4] = places[slot // 4] + lax.shift_left(place.astype(jnp.int32), shift)
        pre = jnp.where(from_end == over(place), -jnp.inf, pre)
    return values, places, jnp.max(pre, axis=1)
