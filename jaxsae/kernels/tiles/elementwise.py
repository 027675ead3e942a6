"""Latents that are each a function of their own pre-activation: what they give, and their gradients, tile by tile.

Forward, a chunk of rows meets a tile of latents after another. Backward, a block of latents meets all rows, chunk after
chunk, and its pre-activations are made again: its gradient is complete where the update takes it, and neither B x n
numbers nor a whole gradient ever stand.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from jaxsae.kernels.blocks import cut, largest_divisor, over_blocks, paste
from jaxsae.kernels.by_layer import layers_of
from jaxsae.platform import target_platform

CPU_TILE, TILE = (256, 1024), (4096, 4096)  # rows of a chunk and latents of a tile, at most


@flax.struct.dataclass
class Given:
    """What a tile of latents gives for a chunk of rows.

    Attributes:
      parts: float32 [parts, C, d_out], its share of each reconstruction. sums: float32 [S], of what penalties weigh.
    """

    parts: jax.Array
    sums: jax.Array


@flax.struct.dataclass
class Counts:
    """Of latents: firings int32 [T], rows on which each is above the threshold; active int32 [], positive ones."""

    firings: jax.Array
    active: jax.Array


# (arrays by latent of a tile, shared arrays, rows) -> (Given, Counts); differentiable in the first two. Rows are x [C, d_in],
# or a tuple that begins with it.
Rows = jax.Array | tuple[jax.Array, ...]
TileFunction = Callable[[dict[str, jax.Array], dict[str, jax.Array], Rows], tuple[Given, Counts]]


def _most() -> tuple[int, int]:
    return CPU_TILE if target_platform() == "cpu" else TILE


def rows_of_a_chunk(batch: int) -> int:
    """The largest divisor of the batch within the limit."""
    return largest_divisor(batch, _most()[0])


def latents_of_a_tile(layers: int = 1) -> int:
    """Latents of a tile, at most: of all layers alike."""
    return _most()[1] // layers * layers


def _in_chunks(rows: Rows) -> Rows:
    """[chunks, C, ...] of each [B, ...]."""
    return jax.tree.map(lambda a: a.reshape(-1, rows_of_a_chunk(len(a)), *a.shape[1:]), rows)


def forward(
    function: TileFunction, latent: dict[str, jax.Array], shared: dict[str, jax.Array], rows: Rows
) -> tuple[Given, Counts]:
    """What all latents of this shard give for rows of x [B, d_in]; parts are [parts, B, d_out]."""
    n, x = len(latent["b_enc"]), jax.tree.leaves(rows)[0]
    tile = min(n, latents_of_a_tile(layers_of(x, latent["W_enc"])))

    def of_rows(counts: Counts, xc: Rows):
        def add(state, number, size):
            (given, counts), start = state, number * tile
            more, found = function(cut(latent, start, size), shared, xc)
            firings = paste(counts.firings, cut(counts.firings, start, size) + found.firings, start)
            return jax.tree.map(jnp.add, given, more), Counts(firings, counts.active + found.active)

        shapes = jax.eval_shape(function, cut(latent, 0, tile), shared, xc)[0]
        state = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes), counts
        given, counts = over_blocks(n, tile, add, state)
        return counts, given

    none = Counts(jnp.zeros(n, jnp.int32), jnp.zeros((), jnp.int32))
    counts, given = jax.lax.scan(of_rows, none, _in_chunks(rows))
    parts = given.parts.transpose(1, 0, 2, 3)
    return Given(parts.reshape(parts.shape[0], len(x), -1), given.sums.sum(0)), counts


def latent_gradient(
    function: TileFunction,
    latent: dict[str, jax.Array],
    shared: dict[str, jax.Array],
    rows: Rows,
    slopes: Given,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Gradients of a block of latents, and its share of those of shared arrays, over rows of x [B, d_in].

    Args:
      slopes: of the loss, by each part [parts, B, d_out] and each sum.
    """
    chunk = rows_of_a_chunk(len(jax.tree.leaves(rows)[0]))
    parts = slopes.parts.reshape(slopes.parts.shape[0], -1, chunk, slopes.parts.shape[2]).transpose(1, 0, 2, 3)

    def of_rows(total: Any, here):
        xc, dparts = here
        _, pull = jax.vjp(lambda a, b: function(a, b, xc)[0], latent, shared)
        return jax.tree.map(jnp.add, total, pull(Given(dparts, slopes.sums))), None

    zero = jax.tree.map(jnp.zeros_like, (latent, shared))
    return jax.lax.scan(of_rows, zero, (_in_chunks(rows), parts))[0]
