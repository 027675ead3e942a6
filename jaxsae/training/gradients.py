"""Gradients in the forms in which a step has them, each giving that of a block of latents where the update takes it.

A formed gradient is a `Params`. The others never stand as a whole: their blocks are made of pairs, or by products, when
the block is updated.
"""

import flax.struct
import jax
import jax.numpy as jnp

from jaxsae.dictionary import Params
from jaxsae.kernels import Grouped
from jaxsae.kernels.blocks import cut, over_blocks, paste
from jaxsae.kernels.tiles import Given, Rows, TileFunction, latent_gradient
from jaxsae.parallel import AXES, DATA

CHUNK = 64  # rows of compact gradients that are added at once
Shared = dict[str, jax.Array]
Latent = dict[str, jax.Array]


@flax.struct.dataclass
class Compact:
    """Gradients of some latents, those of the whole batch.

    Attributes:
      latents: int32 [M], ascending; the number of latents or more in empty places. dw_enc [M, d_in], db [M],
        dw_dec [M, d_out].
    """

    latents: jax.Array
    dw_enc: jax.Array
    db: jax.Array
    dw_dec: jax.Array

    def named(self) -> Latent:
        """The gradients by the names of their parameters."""
        return {"W_enc": self.dw_enc, "b_enc": self.db, "W_dec": self.dw_dec}

    def added_to(self, gradient: Latent, start: jax.Array | int) -> Latent:
        """The gradient of latents from `start` on, with what there is of them here."""
        count = len(gradient["b_enc"])
        first, stop = jnp.searchsorted(self.latents, jnp.stack([jnp.asarray(start), jnp.asarray(start + count)]))
        place = jnp.arange(CHUNK)

        def chunk(state):
            at, total = state
            here = jnp.minimum(at + place, len(self.latents) - 1)
            there = at + place < stop
            row = jnp.where(there, self.latents[here] - start, 0)
            add = lambda total, one: total.at[row].add(
                jnp.where(there.reshape(-1, *[1] * (one.ndim - 1)), one[here], 0), mode="promise_in_bounds"
            )
            return at + CHUNK, total | {name: add(total[name], one) for name, one in self.named().items()}

        return jax.lax.while_loop(lambda s: s[0] < stop, chunk, (first, gradient))[1] if count else gradient

    def spread_over(self, gradient: Params) -> Params:
        """A formed gradient with these added."""
        add = lambda name, one: gradient.latent[name].at[self.latents].add(one, mode="drop")
        return gradient.put(**{name: add(name, one) for name, one in self.named().items()})


@flax.struct.dataclass
class PairGradient:
    """Of the whole batch's pairs, whose sums W_enc's, b_enc's and W_dec's gradients are, and of what dead latents add.

    Attributes:
      pairs: grouped by blocks of `pairs.size` latents. shared: formed as usual. dead: or None.
    """

    pairs: Grouped
    shared: Shared
    dead: Compact | None = None

    @property
    def size(self) -> int:
        """Latents of a block."""
        return self.pairs.size

    def block(self, params: Params, number: jax.Array | int, count: int) -> tuple[Latent, Shared | None]:
        """Of the `count` latents of a block, whose parameters are `params`; nothing is added to what is shared."""
        gradient = dict(zip(("W_enc", "b_enc", "W_dec"), self.pairs.sums(number, count), strict=True))
        if self.dead is not None:
            gradient = self.dead.added_to(gradient, number * self.size)
        own = {name: jnp.zeros_like(a) for name, a in params.latent.items() if name not in gradient}
        return gradient | own, None

    def shared_with(self, more: Shared | None) -> Shared:
        """The gradient of what is shared."""
        return self.shared


@flax.struct.dataclass
class TileGradient:
    """Of latents that are each a function of their own pre-activation, made again block by block.

    Attributes:
      x: [B_local, d_in], or a tuple that begins with it, as the function takes it.
      slopes: of the loss, by what the latents gave. shared: the part of the shared parameters' gradient that does not pass
        through latents, of this device's rows; parameters: their values.
      fixed: arrays by latent that the function takes beside the parameters, and that have no gradient.
      function: see `kernels.tiles`. size: latents of a block.
    """

    x: Rows
    slopes: Given
    shared: Shared
    parameters: Shared
    fixed: Latent
    function: TileFunction = flax.struct.field(pytree_node=False)
    size: int = flax.struct.field(pytree_node=False)

    def block(self, params: Params, number: jax.Array | int, count: int) -> tuple[Latent, Shared]:
        """Of a block's latents for the whole batch, and what this device's rows add to the gradient of what is shared."""
        if not count:
            return jax.tree.map(jnp.zeros_like, (params.latent, self.parameters))
        fixed = cut(self.fixed, number * self.size, count)
        latent, shared = latent_gradient(self.function, params.latent | fixed, self.parameters, self.x, self.slopes)
        latent = {name: array for name, array in latent.items() if name not in fixed}
        return (latent if jax.lax.psum(1, DATA) == 1 else jax.lax.psum(latent, DATA)), shared

    def shared_with(self, more: Shared) -> Shared:
        """The gradient of what is shared, from what all blocks added."""
        # What does not pass through latents is the same on every shard of them.
        own = jax.lax.psum(self.shared, DATA)
        return jax.tree.map(jnp.add, own, jax.lax.psum(more, AXES))

    def formed(self, params: Params) -> Params:
        """The whole gradient at once, where it is needed."""
        n, size = len(params.b_enc), self.size

        def add(state: tuple[Latent, Shared], number, count: int) -> tuple[Latent, Shared]:
            start = number * size
            part = params.replace(latent=cut(params.latent, start, count))
            latent, shared = self.block(part, number, count)
            return paste(state[0], latent, start), jax.tree.map(jnp.add, state[1], shared)

        zero = jax.tree.map(jnp.zeros_like, (params.latent, params.shared))
        latent, shared = over_blocks(n, size, add, zero)
        return Params(latent, self.shared_with(shared))


Gradient = Params | PairGradient | TileGradient
