"""Latents that are each a function of their own pre-activation, by tiles: ReLU, JumpReLU, Gated."""

import jax
import jax.numpy as jnp

from jaxsae.dictionary import Batch, Method, Params, Report
from jaxsae.dictionary.penalty import Moment
from jaxsae.kernels.by_layer import layers_of
from jaxsae.kernels.products import product
from jaxsae.kernels.tiles import Counts, Given, TileFunction, decoded, forward, latents_of_a_tile, pre_activations
from jaxsae.parallel import AXES, DATA, MODEL, sum_over_data
from jaxsae.training.gradients import TileGradient
from jaxsae.training.routes.shares import error_of, report

EXCESS = "excess"  # beside arrays of parameters by latent: what a unit of a latent costs for firing often


def tile_function(method: Method, firing: float) -> TileFunction:
    """What a tile of latents gives: the method's equations, of the latents and rows that are there."""

    def function(latent, shared, rows) -> tuple[Given, Counts]:
        x, *pulls = rows if isinstance(rows, tuple) else (rows,)
        pre = pre_activations(x, method.input_bias(shared), latent["W_enc"], latent["b_enc"])
        codes = method.selection.codes(latent, pre)
        second = [p.code(codes, latent) for p in method.penalties if p.has_code]
        parts = [decoded(z, w_dec, x) for z, w_dec in [(codes.z, latent["W_dec"]), *second]]
        sums = [p.amount(codes, latent) for p in method.penalties]
        if EXCESS in latent:
            sums.append((codes.z.sum(0) * latent[EXCESS]).sum())
        for pull in pulls:
            costs = product(pull, jax.lax.stop_gradient(latent["W_dec"]).astype(pull.dtype), 1, 1)
            sums.append((codes.z * jnp.abs(costs)).sum())
        z = jax.lax.stop_gradient(codes.z)
        counts = Counts((z > firing).sum(0, dtype=jnp.int32), (z > 0).sum(dtype=jnp.int32))
        return Given(jnp.stack(parts), jnp.stack(sums) if sums else jnp.zeros(0)), counts

    return function


def loss(method: Method, params: Params, batch: Batch, size: int) -> tuple[jax.Array, Report, jax.Array, TileGradient]:
    """Loss of this device's rows, report, residuals [B, d_out], and the gradient, to be made in blocks of at most `size`
    latents, and at most a tile: a block's pre-activations of a chunk of rows are to fit a core's cache."""
    function = tile_function(method, batch.firing)
    fixed = {} if batch.excess is None else {EXCESS: batch.excess}
    rows = batch.x if batch.pull is None else (batch.x, batch.pull)
    given, counts = forward(function, params.latent | fixed, params.shared, rows)
    parts = given.parts if jax.lax.psum(1, MODEL) == 1 else jax.lax.psum(given.parts, MODEL)
    means = jax.lax.psum(given.sums, AXES) / batch.rows
    l0 = jax.lax.psum(counts.active, AXES) / batch.rows
    now = Moment(batch.step_fraction, batch.control, l0)

    def of_rows(parts: jax.Array, shared: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """The objective with the errors of second codes, and those alone."""
        second = [p for p in method.penalties if p.has_code]
        base = method.base(shared, batch.x)
        errors = [p.error(batch.wanted, base, y) for p, y in zip(second, parts[1:], strict=True)]
        extra = sum(errors, jnp.zeros(())) / batch.rows
        return error_of(method, batch, batch.wanted, base, parts[:1], batch.slope) + extra, extra

    def weighed(means: jax.Array) -> jax.Array:
        terms = zip(method.penalties, means[: len(method.penalties)], strict=True)
        return sum((p.weigh(mean, now) for p, mean in terms), means[len(method.penalties) :].sum())

    (value, extra), (dparts, dshared) = jax.value_and_grad(of_rows, (0, 1), has_aux=True)(parts, params.shared)
    penalty, dmeans = jax.value_and_grad(weighed)(means)
    penalty = penalty / jax.lax.psum(1, DATA)  # of the whole batch: each data shard has an even share
    residual = batch.wanted - method.base(params.shared, batch.x) - parts[0]
    said = report(batch, residual, counts.active, penalty + extra, sum_over_data(counts.firings), jnp.float32(jnp.inf))
    slopes = Given(dparts, dmeans / batch.rows)
    layers = layers_of(batch.x, params.W_enc)
    size = max(min(size, latents_of_a_tile(layers)) // layers, 1) * layers
    gradient = TileGradient(rows, slopes, dshared, params.shared, fixed, function, size)
    return value + penalty, said, residual, gradient
