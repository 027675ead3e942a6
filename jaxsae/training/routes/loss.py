"""A batch's loss and gradient by whichever route, and what is said of a batch alone."""

import jax

from jaxsae.dictionary import Batch, Method, Params, Report
from jaxsae.kernels import decode
from jaxsae.parallel import DATA, MODEL, sum_over_data
from jaxsae.training.gradients import Gradient, PairGradient
from jaxsae.training.routes import elementwise, pairs, ranked
from jaxsae.training.routes.choose import DeadRoute, capacity_for_dead, goes_in_pairs, route_of
from jaxsae.training.update import UpdateRule


def loss_and_gradient(
    method: Method, update: UpdateRule, params: Params, batch: Batch, dead: DeadRoute | None = None
) -> tuple[jax.Array, Report, Gradient]:
    """Loss of this device's rows, report, gradient of the whole batch in the form that `update` takes.

    Args:
      dead: how the auxiliary loss of dead latents is computed; None: it is left out.
    """
    width, d_out = params.W_dec.shape
    shards, size = jax.lax.psum(1, DATA), update.block_of(width, d_out, True)
    route = route_of(method, batch.rows, width, d_out, shards)
    if route == "ranked" and batch.pull is not None:  # which latents of a row cost what is known of lists alone
        route = "pairs"
    if route == "elementwise":
        value, said, residual, gradient = elementwise.loss(method, params, batch, size)
        return value, said, gradient if update.takes_blocks else gradient.formed(params)
    if route == "ranked" and dead != "pairs":
        value, said, residual, gradient = ranked.formed(method, params, batch)
    elif goes_in_pairs(method, batch.rows, update, width, d_out, shards, dead):
        value, said, residual, gradient = pairs.grouped(method, params, batch, dead == "pairs", size)
    else:
        value, said, residual, gradient = pairs.formed(method, params, batch, dead == "pairs")
    if dead != "tiles":
        return value, said, gradient
    capacity = capacity_for_dead(width)
    term, compact, db_pre = ranked.dead_part(method, params, batch, residual, said.squared_error, capacity)
    said = said.replace(aux=said.aux + sum_over_data(term))
    if db_pre is not None:
        name = method.input_bias_name(params.shared)
        gradient = gradient.replace(shared=gradient.shared | {name: gradient.shared[name] + db_pre})
    with_dead = isinstance(gradient, PairGradient)
    gradient = gradient.replace(dead=compact) if with_dead else compact.spread_over(gradient)
    return value + term, said, gradient


def report_of(method: Method, params: Params, batch: Batch) -> Report:
    """What there is to say of a batch, without a gradient: auxiliary losses of dead latents are left out."""
    if method.ranks:
        return pairs.loss(method, params, batch, aux=False)[1][0]
    return elementwise.loss(method, params, batch, size=1)[1]


def reconstruction(method: Method, params: Params, batch: Batch) -> jax.Array:
    """What the latents give, without b_dec: float32 [B_local, d_out]."""
    if method.ranks:
        return decode(pairs.select(method, params, batch, aux=False), params.W_dec)[0].sum(0)
    function = elementwise.tile_function(method, batch.firing)
    given = elementwise.forward(function, params.latent, params.shared, batch.x)[0]
    return jax.lax.psum(given.parts[0], MODEL)
