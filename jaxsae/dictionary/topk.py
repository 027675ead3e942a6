"""TopK (Gao et al., 2406.04093).

    z = ReLU(TopK(W_enc (x - b_dec) + b_enc)),   x_hat = W_dec^T z + b_dec
    L = ||x - x_hat||^2 / d + alpha * ||e - e_hat||^2 / ||e||^2,   e = stop_gradient(x - x_hat)

e_hat decodes the k_aux best dead latents. Inputs have mean square 1 a dimension, so the first term is
normalised. Decoder rows have unit length: the gradient's part along a row is removed before the step, the
length restored after it.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxsae.dictionary.base import Batch, MethodBase, Report, squared_sums
from jaxsae.dictionary.parameters import Params, tied_init
from jaxsae.kernels import Request, decode, encode, firings, row_dots, tap, tap_rows
from jaxsae.parallel import AXES, MODEL, copy_to_data, sum_over_data


def default_aux_k(d_model: int, width: int) -> int:
    """The power of two nearest d/2, at most the width."""
    return min(width, 2 ** max(0, round(math.log2(d_model / 2))))


def _smallest_positive(values: jax.Array) -> jax.Array:
    """The smallest positive value on any device, 0 where there is none."""
    smallest = jax.lax.pmin(jnp.where(values > 0, values, jnp.inf).min(), AXES)
    return jnp.where(jnp.isfinite(smallest), smallest, 0.0)


class TopK(MethodBase):
    """Exactly the k largest pre-activations of each row, over all shards."""

    name: ClassVar[str] = "topk"
    pre_bias: ClassVar[bool] = True
    unit_decoder: ClassVar[bool] = True
    fits_start: ClassVar[bool] = True

    @property
    def has_aux(self) -> bool:
        return self.config.aux_coefficient > 0

    def init(self, key: jax.Array, d_model: int) -> Params:
        return tied_init(key, self.config.width, d_model)

    def default_learning_rate(self, d_model: int, steps: int) -> float:
        """7.5e-3 for 2,048 latents of 64 numbers each and 1,000 steps, falling with the fourth roots of width and steps: what
        sweeps came to (BUILD_NOTES, The start and the rates); below 100 steps it rises no more. With the root of d_model,
        since Adam moves each number of a row by the rate, and the numbers of a unit row are that small."""
        return 7.5e-3 * (64 / d_model) ** 0.5 * (2048 / self.config.width * 1000 / max(steps, 100)) ** 0.25

    def loss(self, params: Params, batch: Batch, use_aux: bool) -> tuple[jax.Array, Report]:
        x, d = batch.x.astype(jnp.float32), batch.x.shape[1]
        among = (None, batch.dead) if use_aux else (None,)
        requests = self.requests(batch.rows, d, use_aux)
        selected = tap(encode(batch.x, params.b_dec, params.W_enc, params.b_enc, among, requests), batch.taps)
        y, *y_aux = tap_rows(decode(selected, params.W_dec), batch.taps)
        error = x - copy_to_data(params.b_dec) - y
        residual = jax.lax.stop_gradient(error)
        squared_error, squared_norm = squared_sums(x, residual)
        loss = jnp.square(error).sum() / (batch.rows * d)
        aux = self._aux_loss(residual, y_aux[0], squared_error) if use_aux else jnp.zeros(())
        best = jax.lax.stop_gradient(selected[0])
        report = Report(
            squared_error,
            squared_norm,
            active=sum_over_data(jax.lax.psum((best.values > 0).sum(), MODEL)),
            aux=sum_over_data(jax.lax.stop_gradient(aux)),
            firings=firings(best, params.b_enc.shape[0], batch.firing),
            smallest=_smallest_positive(best.values),
            selected=jax.lax.stop_gradient(selected) if batch.taps else None,
        )
        return loss + aux, report

    def reconstruct(self, params: Params, batch: Batch) -> jax.Array:
        """What the latents give, without b_dec: float32 [B_local, d]."""
        selected = encode(batch.x, params.b_dec, params.W_enc, params.b_enc, (None,), (self.request(batch.rows),))
        return decode(selected, params.W_dec)[0]

    def requests(self, rows: int, d_model: int, use_aux: bool) -> tuple[Request, ...]:
        """The best latents and, with `use_aux`, the best dead ones."""
        best = self.request(rows)
        return (best, Request(self.aux_k(d_model), encoder=best.encoder)) if use_aux else (best,)

    def request(self, rows: int) -> Request:
        """The latents that reconstruct a batch of `rows` rows, over all devices."""
        return Request(self.config.k, encoder=self.config.encoder)

    def aux_k(self, d_model: int) -> int:
        """Dead latents that model the residual."""
        return self.config.aux_k or default_aux_k(d_model, self.config.width)

    def _aux_loss(self, residual: jax.Array, y_aux: jax.Array, squared_error: jax.Array) -> jax.Array:
        """alpha times the share of the residual that the best dead latents leave; this device's rows' part."""
        left = jnp.square(residual - y_aux).sum()
        aux = self.config.aux_coefficient * left / jnp.maximum(squared_error, 1e-30)
        return jnp.nan_to_num(aux, posinf=0.0, neginf=0.0)

    def project_gradient(self, params: Params, gradient: Params) -> Params:
        along = row_dots(gradient.W_dec, params.W_dec)
        return gradient.put(W_dec=gradient.W_dec - along * params.W_dec)

    def after_step(self, params: Params) -> Params:
        norm = jnp.linalg.norm(params.W_dec, axis=-1, keepdims=True)
        return params.put(W_dec=params.W_dec / jnp.maximum(norm, 1e-30))  # an imported row may be all zeros
