"""One training step: the program of one device, and that program over the mesh."""

import dataclasses
from collections.abc import Callable
from functools import partial

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import Batch, Method, Params
from jaxsae.kernels import Taps, group, pair_lists, rows_travel, zero_taps
from jaxsae.parallel import DATA, MODEL, shardings, sum_over_data
from jaxsae.training.state import TrainState, state_specs
from jaxsae.training.update import PairGradient, UpdateRule, Weights

SINCE_LIMIT = 2**30


@flax.struct.dataclass
class StepMetrics:
    """What a step says of itself: scalars, equal on every device.

    Attributes:
      loss: whole loss of the batch. fvu: squared error over squared norm of centred inputs. l0: active latents a row.
      aux: auxiliary or penalty term. dead: latents without firing in `dead_tokens` rows.
      learning_rate: of this step. finite: False where the batch or the loss held NaN or Inf and was left out.
    """

    loss: jax.Array
    fvu: jax.Array
    l0: jax.Array
    aux: jax.Array
    dead: jax.Array
    learning_rate: jax.Array
    finite: jax.Array


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What a step needs to know besides the method and the optimiser."""

    batch_size: int
    steps: int
    dead_tokens: int
    compute_dtype: str = "float32"
    ema_decay: float = 0.0
    clip_norm: float | None = None
    lazy_rows: bool = False
    aux: bool = True


def make_step(
    method: Method,
    optimizer: optax.GradientTransformation,
    rate: Callable[[jax.Array], jax.Array],
    config: StepConfig,
    abstract: TrainState,
    mesh: Mesh,
):
    """The jitted step (state, x [batch_size, d]) -> (state, StepMetrics); the state is donated.

    `x` holds activations as the store has them; rows lie over `data`.
    """
    specs = state_specs(abstract)
    update = UpdateRule(method, optimizer, config.clip_norm, config.ema_decay, config.lazy_rows)
    device = partial(_device_step, method=method, update=update, rate=rate, config=config)
    sharded = jax.shard_map(device, mesh=mesh, in_specs=(specs, P(DATA, None)), out_specs=(specs, P()), check_vma=False)
    places, rows = shardings(mesh, specs), shardings(mesh, P(DATA, None))
    return jax.jit(sharded, in_shardings=(places, rows), out_shardings=(places, shardings(mesh, P())), donate_argnums=0)


def _device_step(state: TrainState, x: jax.Array, *, method, update: UpdateRule, rate, config: StepConfig):
    y = ((x.astype(jnp.float32) - state.mean) * state.scale).astype(config.compute_dtype)
    dead = state.since_fired > config.dead_tokens
    dead_count = jax.lax.psum(dead.sum(), MODEL)
    fraction = state.step.astype(jnp.float32) / config.steps
    batch = Batch(x=y, dead=dead, rows=config.batch_size, step_fraction=fraction)
    learning_rate = rate(state.step)

    (loss, report), gradient = _gradient(method, config, update, state.params, batch, dead_count)
    loss = sum_over_data(loss)
    finite = jnp.isfinite(loss)
    # A batch that is not finite changes nothing but the count of steps: the state stays one that can be saved.
    weights = update(Weights(state.params, state.moments, state.average), gradient, learning_rate, finite)
    since_fired = jnp.minimum(jnp.where(report.fired, 0, state.since_fired + config.batch_size), SINCE_LIMIT)
    new = state.replace(
        step=state.step + 1,
        params=weights.params,
        moments=weights.moments,
        average=weights.average,
        since_fired=jnp.where(finite, since_fired, state.since_fired),
        threshold=jnp.where(finite, _threshold(state, report.smallest), state.threshold),
        skipped=state.skipped + ~finite,
    )
    metrics = StepMetrics(
        loss=loss,
        fvu=report.squared_error / report.squared_norm,
        l0=report.active / config.batch_size,
        aux=report.aux,
        dead=dead_count,
        learning_rate=learning_rate,
        finite=finite,
    )
    return new, metrics


def _gradient(
    method: Method, config: StepConfig, update: UpdateRule, params: Params, batch: Batch, dead_count: jax.Array
):
    """((loss, Report), gradient); the auxiliary loss is computed, and paid for, only while latents are dead."""
    (width, d), rows = params.W_enc.shape, batch.x.shape[0]
    all_requests = method.requests(config.batch_size, d, config.aux)
    room = [min(r.k, width) for r in all_requests or ()]
    as_pairs = bool(room) and update.takes_pairs
    as_pairs = as_pairs and (jax.lax.psum(1, DATA) == 1 or rows_travel([(rows, k) for k in room], width, d))

    def formed(use_aux: bool):
        return jax.value_and_grad(lambda p: method.loss(p, batch, use_aux=use_aux), has_aux=True)(params)

    def in_pairs(use_aux: bool):
        def loss(b_dec: jax.Array, taps: Taps):
            return method.loss(params.replace(b_dec=b_dec), batch.replace(taps=taps), use_aux=use_aux)

        taps = zero_taps(batch.x, width, method.requests(config.batch_size, d, use_aux))
        (value, report), (db_dec, slopes) = jax.value_and_grad(loss, (0, 1), has_aux=True)(params.b_dec, taps)
        x = batch.x - params.b_dec.astype(batch.x.dtype) if method.pre_bias else batch.x
        grouped = group(pair_lists(report.selected, slopes, x), width, update.block_of(width, d, True), room)
        return (value, report.replace(selected=None)), PairGradient(grouped, db_dec)

    gradient = in_pairs if as_pairs else formed
    if not config.aux:
        return gradient(False)
    return jax.lax.cond(dead_count > 0, partial(gradient, True), partial(gradient, False))


def _threshold(state: TrainState, smallest: jax.Array) -> jax.Array:
    """Moving average of decay 0.999 (2412.06410), shorter at first, so that a short run's is of its end too."""
    taken = (state.step - state.skipped).astype(jnp.float32)
    decay = jnp.minimum(0.999, taken / (taken + 10))
    return decay * state.threshold + (1 - decay) * smallest
