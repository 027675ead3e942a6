"""Gradients of terms on decoder rows alone: of the latents drawn at a step, to be added where their rows are updated."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from jaxsae.dictionary import Method, Params
from jaxsae.dictionary.penalty.frequency import beside_average
from jaxsae.dictionary.penalty.rows import RowPenalty, Sample
from jaxsae.parallel import MODEL


@flax.struct.dataclass
class RowGradients:
    """Of this shard's decoder rows: samples of latents, and the gradient [R, d_out] of each."""

    parts: tuple[tuple[Sample, jax.Array], ...] = ()

    def added_to(self, gradient: Params, start: jax.Array | int) -> Params:
        """The gradient of a block of latents that begins at `start` on this shard."""
        count, total = len(gradient.b_enc), gradient.W_dec
        for sample, rows in self.parts if count else ():
            total = total + sample.spread(rows, start, count)
        return gradient.put(W_dec=total)


def drawn_rows(penalty: RowPenalty, number: int, w_dec: jax.Array, key: jax.Array) -> Sample:
    """The latents of this shard that the `number`-th term of a method is taken of at a step."""
    own = jax.random.fold_in(jax.random.fold_in(key, number), jax.lax.axis_index(MODEL))
    return Sample.draw(own, penalty.sample, len(w_dec))


def row_gradients(
    method: Method, w_dec: jax.Array, key: jax.Array, frequency: jax.Array | None = None, opponent: Any = None
) -> RowGradients:
    """Those of a method's terms on decoder rows [n_local, d_out], weighed as its squared error is.

    Args:
      frequency: [n_local], shares of rows on which latents fire. opponent: the weights that a term's rows are trained
        against.
    """
    parts, shards = [], jax.lax.psum(1, MODEL)
    often = jnp.ones(len(w_dec))
    if frequency is not None:
        often = beside_average(frequency, jax.lax.psum(frequency.mean(), MODEL) / shards)
    for number, penalty in enumerate(method.rows):
        drawn = drawn_rows(penalty, number, w_dec, key)
        scale = 1.0 if method.objective.per_number else w_dec.shape[1]  # of a row, not of a number of it
        share = scale / shards  # a mean over all latents
        weights = drawn.rows(often)
        term = lambda rows, p=penalty, share=share, weights=weights: share * p.term(rows, weights, opponent)
        parts.append((drawn, jax.grad(term)(drawn.rows(w_dec))))
    return RowGradients(tuple(parts))
