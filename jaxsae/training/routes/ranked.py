"""Rankings by matrix products: AuxK's dead latents, and all latents of a small dictionary."""

import jax
import jax.numpy as jnp

from jaxsae.dictionary import SKIP, Batch, Method, Params, Report
from jaxsae.kernels import of_whole_batch, rows_travel
from jaxsae.kernels.by_layer import layer_of, layers_of, narrowed, widened
from jaxsae.kernels.tiles import Ranked, Tables, all_latents, gathered, ranked_pass, row_cut
from jaxsae.parallel import DATA, MODEL, sum_over_data
from jaxsae.training.gradients import Compact
from jaxsae.training.routes.shares import error_of, parts_of, report


def formed(method: Method, params: Params, batch: Batch) -> tuple[jax.Array, Report, jax.Array, Params]:
    """Loss, report, residuals [B, d_out] and the whole gradient, of all latents by products."""
    dtype, width = batch.x.dtype, len(params.b_enc)
    whole = jax.lax.psum(1, MODEL) == 1  # parts begin and end where the objective has them
    layers = layers_of(batch.x, params.W_enc)
    layer = layer_of(jnp.arange(width), layers)
    tables = all_latents(
        widened(params.W_enc, layer, layers).astype(dtype),
        params.b_enc,
        params.W_dec.astype(dtype),
        parts_of(method, width, batch.key),
        method.objective.ends if whole else (),
    )
    x, rows = method.centred(params.shared, batch.x), batch.rows
    past = batch.x if SKIP in params.shared else None
    objective = lambda y, shared, own: error_of(method, batch, own[0], method.base(shared, own[1]), y, own[2])
    selection = method.selection
    found = ranked_pass(
        tables,
        x,
        (batch.wanted, past, batch.slope),
        params.shared,
        selection.cut(rows, batch.step_fraction),
        objective,
        parts=method.objective.parts,
        firing=batch.firing,
        whole=selection.whole_batch,
        signed=selection.signed,
        costs=None if batch.excess is None else batch.excess[None] / rows,
    )
    residual = batch.wanted - method.base(params.shared, past) - found.y
    extra = jax.lax.psum(found.cost, MODEL)
    said = report(batch, residual, found.active, extra, sum_over_data(found.firings[0]), found.smallest)
    latent = {"W_enc": narrowed(found.dw_enc[0], layer, layers), "b_enc": found.db[0], "W_dec": found.dw_dec[0]}
    gradient = Params(latent, _with_input_bias(method, params, found, tables))
    gradient = gradient if jax.lax.psum(1, DATA) == 1 else jax.lax.psum(gradient, DATA)
    return found.loss + extra, said, residual, gradient


def _with_input_bias(method: Method, params: Params, found: Ranked, tables: Tables) -> dict[str, jax.Array]:
    """The gradient of shared parameters from this device's rows, the input's bias by all shards of the latents."""
    name = method.input_bias_name(params.shared)
    if name is None:
        return found.dshared
    return found.dshared | {name: found.dshared[name] - _by_input_bias(found, tables, params.W_enc)}


def _by_input_bias(found: Ranked, tables: Tables, w_enc: jax.Array) -> jax.Array:
    """float32 [d_in]: sum_i db_i W_enc,i, over all shards of the latents."""
    times = lambda db, w: jnp.matmul(db, w, precision=jax.lax.Precision.HIGHEST)
    if tables.latents is None:
        total = times(found.db[0], w_enc)
    elif tables.w_enc.dtype == jnp.float32:
        tile = lambda j, total: total + times(found.db[j], tables.w_enc[j])
        total = jax.lax.fori_loop(0, tables.used, tile, jnp.zeros(w_enc.shape[1]))
    else:  # as the parameters are, not as they are multiplied
        total = times(jnp.zeros(len(w_enc)).at[tables.latents].add(found.db.reshape(-1), mode="drop"), w_enc)
    return jax.lax.psum(total, MODEL)


def dead_part(
    method: Method, params: Params, batch: Batch, residual: jax.Array, squared_error: jax.Array, capacity: int
) -> tuple[jax.Array, Compact, jax.Array | None]:
    """The auxiliary loss of this device's rows by products, gradients of at most `capacity` dead latents of this shard,
    and the gradient of the input's bias.

    Args:
      residual: [B, d_out]. squared_error: of the whole batch.
    """
    x = method.centred(params.shared, batch.x)
    d_out, shards = residual.shape[1], jax.lax.psum(1, DATA)
    layers = layers_of(x, params.W_enc)
    tables = gathered(params.W_enc, params.b_enc, params.W_dec, batch.dead, capacity, x.dtype)
    layer = layer_of(tables.latents, layers)
    if layers > 1:  # any latents stand beside each other here
        wide = widened(tables.w_enc.reshape(len(layer), -1), layer, layers)
        tables = tables.replace(w_enc=wide.reshape(*tables.bias.shape, -1))
    k = method.aux.k_of(d_out)
    # As for pairs: rows travel, and each shard sums those of the whole batch, where that moves fewer numbers.
    exchange = shards > 1 and rows_travel([(len(x), k)], capacity, d_out, shards)
    if exchange:
        x, residual = of_whole_batch(x, residual)
    found = ranked_pass(
        tables,
        x,
        residual,
        {},
        lambda pre, used: row_cut(pre, used, k),
        lambda y, _, rows: method.aux.loss(rows, y[0], squared_error),
        signed=method.selection.signed,
    )
    db_pre = -_by_input_bias(found, tables, params.W_enc) if method.pre_bias else None
    loss, sums = found.loss, (found.dw_enc, found.db, found.dw_dec, db_pre)
    if exchange:
        loss = loss / shards
    elif shards > 1:
        sums = jax.lax.psum(sums, DATA)
    dw_enc, db, dw_dec = (a.reshape(-1, *a.shape[2:]) for a in sums[:3])
    return loss, Compact(tables.latents, narrowed(dw_enc, layer, layers), db, dw_dec), sums[3]
