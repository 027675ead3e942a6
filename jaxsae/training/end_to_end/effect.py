"""What a reconstruction does to the model that it stands in, and the gradient of that by the reconstruction.

    L = w_own ||t - x_hat||^2 / d + w_kl KL(p(x) || p(x_hat)) + w_later mean_s ||s(x) - s(x_hat)||^2 / var s
        + w_attribution sum_i |f_i W_dec,i . grad_x CE|

x_hat stands at the rows of a batch; KL is of the next-token distributions there, s are later sites (Braun et al.,
2405.12241). The gradient by x_hat, one number for each number of a row, is all that a dictionary's own routes need to know of
the model (`Batch.slope`): a step is exact by any of them. The last term is attribution dictionary learning's (Anthropic,
Circuits Updates, 2024): what a latent does to the cross-entropy of the text, to first order; grad_x CE comes with the pass of
the text as it is (`Batch.pull`), and it and the decoder rows count as constants.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from jaxsae.dictionary import Batch, Method, Widths
from jaxsae.lm.passes import Passes
from jaxsae.lm.taps import Taps
from jaxsae.parallel import sum_over_data
from jaxsae.training.end_to_end.texts import Text
from jaxsae.training.routes import reconstruction
from jaxsae.training.state import TrainState


@flax.struct.dataclass
class Terms:
    """Of a batch: KL in nats a row, and the mean over later sites of their squared error in units of their variance."""

    kl: jax.Array
    later: jax.Array


@flax.struct.dataclass
class Clean:
    """What the model does with nothing replaced: {site: [S, T, d]}, what its distributions are made of at rows [B, c], and
    the gradient of the sum of cross-entropies by what stands at the rows, [B, d_out]; None where nothing hangs on it."""

    seen: Mapping[str, jax.Array]
    final: jax.Array
    pull: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Effect:
    """Of a dictionary that writes `d_out` numbers at `writes`; the `sites` that it reads and writes are those of a row.

    Attributes:
      later: sites whose change counts. kl, later_weight, own, attribution: weights. remember: see `Passes.run`.
    """

    passes: Passes
    sites: tuple[str, ...]
    writes: str
    d_out: int
    later: tuple[str, ...]
    kl: float
    later_weight: float
    own: float
    attribution: float = 0.0
    remember: bool = False

    def clean(self, weights: Any, text: Text) -> Clean:
        """The pass of this device's sequences as they are."""
        if not self.attribution:
            taps = Taps({*self.sites, *self.later})
            final = self.passes.run(weights, text.tokens, taps)
            return Clean(taps.seen, _rows(final, text.rows))

        def loss(added: jax.Array) -> tuple[jax.Array, Clean]:
            more = lambda x: _put(x, text.rows, _rows(x, text.rows) + added)
            taps = Taps({*self.sites, *self.later}, {self.writes: more})
            final = self.passes.run(weights, text.tokens, taps, self.remember)
            targets = text.tokens[:, 1:].reshape(-1)
            made = final[:, :-1].reshape(len(targets), -1)
            losses = self.passes.cross_entropy(weights, made, jnp.maximum(targets, 0))
            return jnp.where(targets >= 0, losses, 0).sum(), Clean(taps.seen, _rows(final, text.rows))

        pull, clean = jax.grad(loss, has_aux=True)(jnp.zeros((len(text.rows), self.d_out)))
        return clean.replace(pull=pull)

    def rows(self, clean: Clean, text: Text) -> jax.Array:
        """[B_local, numbers]: the rows of the batch, sites side by side."""
        parts = [_rows(clean.seen[site], text.rows) for site in self.sites]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, 1)

    def slope(self, weights: Any, text: Text, clean: Clean, written: jax.Array, total: int) -> tuple[jax.Array, Terms]:
        """The gradient of the weighed terms by `written` [B_local, d_out], in its units, and the terms of the whole batch.

        Args:
          total: rows of the whole batch.
        """
        clean = jax.lax.stop_gradient(clean)

        def local(written: jax.Array) -> tuple[jax.Array, Terms]:
            here = clean.seen[self.writes]
            put = lambda _: _put(here, text.rows, written)  # of the clean pass: what comes before needs no second one
            taps = Taps(self.later, {self.writes: put})
            final = _rows(self.passes.run(weights, text.tokens, taps, self.remember), text.rows)
            kl = self.passes.divergence(weights, clean.final, final).sum() / total
            later = sum((_change(clean.seen[s], taps.seen[s], text.rows, total) for s in self.later), jnp.zeros(()))
            later = later / max(len(self.later), 1)
            return self.kl * kl + self.later_weight * later, Terms(kl, later)

        slope, terms = jax.grad(local, has_aux=True)(written)
        return slope, jax.tree.map(sum_over_data, terms)

    def weighed(self, terms: Terms) -> jax.Array:
        """What the terms add to a batch's loss."""
        return self.kl * terms.kl + self.later_weight * terms.later


def with_slope(
    batch: Batch,
    effect: Effect,
    weights: Any,
    text: Text,
    clean: Clean,
    method: Method,
    state: TrainState,
    widths: Widths,
) -> tuple[Batch, Terms]:
    """The batch with the slope of the effect that today's reconstruction of it has, in the trainer's units."""
    y = method.base(state.params.shared, batch.x) + reconstruction(method, state.params, batch)
    scale = widths.written(state.scale) if state.scale.ndim else state.scale
    slope, terms = effect.slope(weights, text, clean, y / scale + widths.written(state.mean), batch.rows)
    pull = None if clean.pull is None else effect.attribution * clean.pull / scale
    weighs = effect.kl > 0 or effect.later_weight > 0
    return batch.replace(slope=slope / scale if weighs else None, own=effect.own, pull=pull), terms


def _rows(x: jax.Array, rows: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1])[rows]


def _put(x: jax.Array, rows: jax.Array, written: jax.Array) -> jax.Array:
    return x.reshape(-1, x.shape[-1]).at[rows].set(written.astype(x.dtype)).reshape(x.shape)


def _change(clean: jax.Array, spliced: jax.Array, rows: jax.Array, total: int) -> jax.Array:
    """This device's part of E ||s - s'||^2 / E ||s - E s||^2 over the rows of a batch of `total`."""
    a, b = (_rows(x, rows).astype(jnp.float32) for x in (clean, spliced))
    mean = sum_over_data(a.sum(0)) / total
    variance = sum_over_data(jnp.square(a - mean).sum())
    return jnp.square(a - b).sum() / variance
