"""Rankings by lists of (row, latent) pairs: the route for few active latents of many.

The lists come from the fused encoder. Where the update sums pairs itself, the loss is differentiated by "taps" on the lists
and the decoded rows, and no gradient of W_enc or W_dec is formed.
"""

import jax
import jax.numpy as jnp

from jaxsae.dictionary import Batch, Method, Params, Report
from jaxsae.kernels import (
    Request,
    Selected,
    Taps,
    decode,
    encode,
    firings,
    group,
    limited,
    of_best_rank,
    pair_lists,
    tap,
    tap_rows,
    zero_taps,
)
from jaxsae.kernels.by_layer import layers_of
from jaxsae.kernels.pairs import all_dots
from jaxsae.parallel import DATA, copy_to_data
from jaxsae.training.gradients import PairGradient
from jaxsae.training.routes.shares import error_of, frequent, parts_of, report


def requests_of(method: Method, rows: int, d_out: int, aux: bool) -> tuple[Request, ...]:
    """What a batch of `rows` rows selects: the best latents and, with `aux`, the best dead ones."""
    best = method.selection.request(rows)
    return (best, Request(method.aux.k_of(d_out), encoder=best.encoder, signed=best.signed)) if aux else (best,)


def select(method: Method, params: Params, batch: Batch, aux: bool, taps: Taps | None = None) -> tuple[Selected, ...]:
    """The selections of a batch, each entry with the part of the reconstruction that it adds to."""
    among = (None, batch.dead) if aux else (None,)
    requests = requests_of(method, batch.rows, params.W_dec.shape[1], aux)
    b_pre = method.input_bias(params.shared)
    b_pre = jnp.zeros(batch.x.shape[1]) if b_pre is None else b_pre
    best, *rest = tap(encode(batch.x, b_pre, params.W_enc, params.b_enc, among, requests), taps)
    if method.anneals:
        k = method.selection.k_at(batch.step_fraction)
        best = limited(best, k, batch.rows * k if method.selection.whole_batch else None)
    if method.objective.ranks:
        return of_best_rank(best, method.objective.ranks), *rest
    part = parts_of(method, len(params.b_enc), batch.key, best.indices)
    return best.replace(part=part, parts=method.objective.parts), *rest


def loss(
    method: Method, params: Params, batch: Batch, aux: bool, taps: Taps | None = None
) -> tuple[jax.Array, tuple[Report, jax.Array, tuple[Selected, ...]]]:
    """The loss of this device's rows; its report, the residuals [B, d_out], the selections."""
    selected = select(method, params, batch, aux, taps)
    y, *y_aux = tap_rows(decode(selected, params.W_dec), taps)
    base = method.base(jax.tree.map(copy_to_data, params.shared), batch.x)
    value = error_of(method, batch, batch.wanted, base, y, batch.slope)
    chosen = _of_the_dictionary(method, selected[0])
    best, residual = jax.lax.stop_gradient((jnp.abs(chosen.values), batch.wanted - base - method.objective.whole(y)))
    term = extra = jnp.zeros(())
    for costs in _costs(batch, chosen, params):
        local, more = frequent(costs, jnp.abs(chosen.values), batch.rows)
        value, extra = value + local + jax.lax.stop_gradient(more - local), extra + more
    if aux:
        squared_error = jax.lax.psum(jnp.square(residual).sum(), DATA)
        term = method.aux.loss(residual, y_aux[0][0], squared_error)
    fired = firings(jax.lax.stop_gradient(chosen), len(params.b_enc), batch.firing)
    smallest = jnp.where(best > 0, best, jnp.inf).min()
    said = report(batch, residual, (best > 0).sum(), term + extra, fired, smallest)
    return value + term, (said, residual, jax.lax.stop_gradient(selected))


def _costs(batch: Batch, chosen: Selected, params: Params) -> list[jax.Array]:
    """What a unit of each chosen latent costs beside the objective, [B, k] each; constants."""
    costs = [] if batch.excess is None else [batch.excess[chosen.indices]]
    if batch.pull is not None:
        costs.append(jnp.abs(all_dots(batch.pull, chosen.indices, params.W_dec)))
    return jax.lax.stop_gradient(costs)


def _of_the_dictionary(method: Method, selected: Selected) -> Selected:
    """What the dictionary's own reconstruction is made of: all that is selected, or the largest of it."""
    kept = getattr(method.objective, "kept", selected.parts)
    if kept == selected.parts:
        return selected
    return selected.replace(values=jnp.where(selected.part < kept, selected.values, 0))


def formed(method: Method, params: Params, batch: Batch, aux: bool) -> tuple[jax.Array, Report, jax.Array, Params]:
    """Loss, report, residuals and the whole gradient."""
    function = lambda p: loss(method, p, batch, aux)
    (value, (said, residual, _)), gradient = jax.value_and_grad(function, has_aux=True)(params)
    return value, said, residual, gradient


def grouped(
    method: Method, params: Params, batch: Batch, aux: bool, size: int
) -> tuple[jax.Array, Report, jax.Array, PairGradient]:
    """The same with a gradient of pairs, in blocks of `size` latents."""
    width, d_out = params.W_dec.shape
    requests = requests_of(method, batch.rows, d_out, aux)
    taps = zero_taps(len(batch.x), d_out, width, requests, (method.objective.parts, 1)[: len(requests)])
    function = lambda shared, taps: loss(method, params.replace(shared=shared), batch, aux, taps)
    slope = jax.value_and_grad(function, (0, 1), has_aux=True)
    (value, (said, residual, selected)), (shared, slopes) = slope(params.shared, taps)
    x = method.centred(params.shared, batch.x)
    pairs = group(pair_lists(selected, slopes, x), width, size, layers_of(x, params.W_enc))
    return value, said, residual, PairGradient(pairs, shared)
