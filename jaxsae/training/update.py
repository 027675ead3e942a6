"""From gradient to new weights, row by row.

Everything that follows the gradient works on one latent at a time: projection, moments, the step, the
normalisation, the average. Done array by array, each reads and writes [n, d] numbers through memory; on CPU
the whole chain runs on a block of latents while it is in the cache, in place. On TPU blocks keep gradients
from ever standing in memory: XLA copies a whole [n, d] gradient in and out of each turn of a loop that sums it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from jaxsae.dictionary import Method, Params, is_by_latent
from jaxsae.kernels.blocks import cut, over_blocks, paste
from jaxsae.parallel import MODEL
from jaxsae.platform import target_platform
from jaxsae.training.gradients import Gradient
from jaxsae.training.row_gradients import RowGradients

BLOCK_NUMBERS = 2**16  # of one array's block: a dozen of them fit a core's cache
MADE_NUMBERS = 2**18  # where a block's gradient is summed too: fewer, fuller sums
DEVICE_NUMBERS = 2**22  # 16 MiB: what starting a block costs is lost in the time that its bytes take


NO_MORE = RowGradients()


@flax.struct.dataclass
class Weights:
    """What a step rewrites: parameters, the optimiser's state, the average of the parameters (or None)."""

    params: Params
    moments: Any
    average: Params | None


@dataclasses.dataclass(frozen=True)
class UpdateRule:
    """The chain from gradient to weights.

    Attributes:
      method: projects gradients and finishes a step. optimizer: gradient -> direction.
      clip_norm: of the whole gradient, or None. ema_decay: of the average.
      lazy_rows: latents without a gradient keep weights and moments as they are.
      blocked: whether to go block by block; None: on CPU and TPU.
    """

    method: Method
    optimizer: Any
    clip_norm: float | None = None
    ema_decay: float = 0.0
    lazy_rows: bool = False
    blocked: bool | None = None

    @property
    def by_blocks(self) -> bool:
        """Whether blocks of latents are updated one after another."""
        return target_platform() in ("cpu", "tpu") if self.blocked is None else self.blocked

    @property
    def takes_blocks(self) -> bool:
        """Whether a gradient will do that is made block by block; the norm of the whole gradient needs all of it at once."""
        return self.by_blocks and self.clip_norm is None

    def block_of(self, width: int, d: int, made: bool) -> int:
        """Latents of a block; `made`: whose gradient is made there, too."""
        if target_platform() != "cpu":
            return max(1, min(width, DEVICE_NUMBERS // d))
        numbers = MADE_NUMBERS if made else BLOCK_NUMBERS
        return max(1, min(width, numbers // d, 32 if self.lazy_rows else width))

    def __call__(
        self,
        weights: Weights,
        gradient: Gradient,
        rate: jax.Array,
        finite: jax.Array,
        more: RowGradients = NO_MORE,
    ) -> Weights:
        """This device's weights after a step; as they were where `finite` is False.

        Args:
          more: gradients of decoder rows to be added.
        """
        shard = jax.lax.axis_index(MODEL) * weights.params.b_enc.shape[0]
        scale = self._clip_scale(weights.params, gradient)

        def rows(part: Weights, g: Params, first_row) -> Weights:
            return self._rows(part, more.added_to(g, first_row), shard + first_row, rate, scale)

        if self.by_blocks:
            formed = isinstance(gradient, Params)
            size = self.block_of(*weights.params.W_dec.shape, made=False) if formed else gradient.size
            return _by_blocks(rows, weights, gradient, finite, size, self.lazy_rows)
        return jax.tree.map(lambda new, old: jnp.where(finite, new, old), rows(weights, gradient, 0), weights)

    def _rows(self, old: Weights, gradient: Params, first_row, rate, scale) -> Weights:
        """The chain on any rows of the latents, all of them or a block that begins at `first_row`."""
        projected = self.method.project_gradient(old.params, gradient, first_row)
        if self.clip_norm is not None:
            projected = jax.tree.map(lambda g: g * scale, projected)
        direction, moments = self.optimizer.update(projected, old.moments, old.params, first_row=first_row)
        params = jax.tree.map(lambda p, u: p - rate * u, old.params, direction)
        params = self.method.after_step(params)
        average = old.average
        if average is not None:
            average = jax.tree.map(lambda a, p: a + (1 - self.ema_decay) * (p - a), average, params)
        new = Weights(params, moments, average)
        if self.lazy_rows:
            touched = _touched(gradient)
            new = _map_rows(lambda n, o: jnp.where(touched.reshape(-1, *[1] * (n.ndim - 1)), n, o), new, old)
        return new

    def _clip_scale(self, params: Params, gradient: Params) -> jax.Array:
        if self.clip_norm is None:
            return jnp.ones(())
        norm = global_norm(self.method.project_gradient(params, gradient))
        return jnp.minimum(1.0, self.clip_norm / (norm + 1e-30))


def global_norm(gradient: Params) -> jax.Array:
    """Norm over all shards; what is shared is the same on each and counts once."""
    squares = lambda tree: sum(jnp.square(g).sum() for g in jax.tree.leaves(tree))
    return jnp.sqrt(jax.lax.psum(squares(gradient.latent), MODEL) + squares(gradient.shared))


def _map_rows(function: Callable, tree, *rest):
    """`function` on leaves by latent; the others as they are in `tree`."""
    pick = lambda path, leaf, *others: function(leaf, *others) if is_by_latent(path) else leaf
    return jax.tree_util.tree_map_with_path(pick, tree, *rest)


def _cut(tree, start, count: int):
    """Rows start to start + count of what has a row for each latent."""
    return _map_rows(lambda a: cut(a, start, count), tree)


def _touched(gradient: Params) -> jax.Array:
    """bool [n]: latents that a gradient reaches."""
    some = ((g != 0).any(tuple(range(1, g.ndim))) for g in gradient.latent.values())
    return functools.reduce(jnp.logical_or, some)


def _by_blocks(
    rows: Callable, weights: Weights, gradient: Gradient, finite: jax.Array, size: int, lazy: bool
) -> Weights:
    """`rows` over blocks of `size` latents in place, then once more, without any latents, for what is left.

    The conditional does more than choose: its operands are the block's own copies. A fusion that read the
    whole array again, after it was written to, would cost a copy of all of it for each block.
    """
    width = weights.params.W_enc.shape[0]

    formed = isinstance(gradient, Params)

    def gradient_of(part: Params, number, count: int) -> tuple[dict, dict | None]:
        if formed:
            return _cut(gradient, number * size, count).latent, None
        return gradient.block(part, number, count)

    def block(state: tuple[Weights, Any], number, count: int) -> tuple[Weights, Any]:
        (whole, more), start = state, number * size
        part = _cut(whole, start, count)
        latent, added = gradient_of(part.params, number, count)
        g = Params(latent, weights.params.shared)  # of what is shared nothing is updated here
        wanted = finite & _touched(g).any() if lazy else finite
        new = jax.lax.cond(wanted, lambda p, g: rows(p, g, start), lambda p, g: p, part, g)
        pasted = _map_rows(lambda a, b: paste(a, b, start), whole, new)
        return pasted, jax.tree.map(jnp.add, more, added)

    none = _cut(weights, 0, 0)
    latent, more = gradient_of(none.params, 0, 0)
    whole, more = over_blocks(width, size, block, (weights, more))
    rest = rows(none, Params(latent, gradient.shared if formed else gradient.shared_with(more)), 0)
    keep = lambda path, done, new, old: done if is_by_latent(path) else jnp.where(finite, new, old)
    return jax.tree_util.tree_map_with_path(keep, whole, rest, weights)
