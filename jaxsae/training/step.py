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

from jaxsae.dictionary import Batch, Method, Params, Report
from jaxsae.kernels import Taps, group, pair_lists, rows_travel, zero_taps
from jaxsae.parallel import DATA, MODEL, shardings, sum_over_data
from jaxsae.training.optimizer import Schedule
from jaxsae.training.state import TrainState, state_specs
from jaxsae.training.update import PairGradient, UpdateRule, Weights

SINCE_LIMIT = 2**30
PLAIN_SCOPE, AUX_SCOPE = "plain_step", "aux_step"  # names in the compiled program; of the two one runs


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


@flax.struct.dataclass
class Outcome:
    """Of an attempt at a step: the whole batch's loss, the method's report, whether the loss is finite."""

    loss: jax.Array
    report: Report
    finite: jax.Array


@flax.struct.dataclass
class Pace:
    """Numbers of a run that its step takes as arguments: runs that differ in these alone share one compiled program.

    Attributes:
      schedule: of the learning rate, with the number of steps. dead_tokens: int32, rows without firing after which a
        latent counts as dead.
    """

    schedule: Schedule
    dead_tokens: jax.Array


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What a step needs to know besides the method and the optimiser when it is compiled."""

    batch_size: int
    compute_dtype: str = "float32"
    ema_decay: float = 0.0
    clip_norm: float | None = None
    lazy_rows: bool = False
    aux: bool = True


def make_update(method: Method, optimizer: optax.GradientTransformation, config: StepConfig) -> UpdateRule:
    """The rule that a step with `config` follows."""
    return UpdateRule(method, optimizer, config.clip_norm, config.ema_decay, config.lazy_rows)


def make_step(
    method: Method,
    optimizer: optax.GradientTransformation,
    config: StepConfig,
    abstract: TrainState,
    mesh: Mesh,
):
    """The jitted step (state, x [batch_size, d], Pace) -> (state, StepMetrics); the state is donated.

    `x` holds activations as the store has them; rows lie over `data`.
    """
    specs = state_specs(abstract)
    update = make_update(method, optimizer, config)
    device = partial(_device_step, method=method, update=update, config=config)
    sharded = jax.shard_map(
        device, mesh=mesh, in_specs=(specs, P(DATA, None), P()), out_specs=(specs, P()), check_vma=False
    )
    places, rows, whole = shardings(mesh, specs), shardings(mesh, P(DATA, None)), shardings(mesh, P())
    return jax.jit(sharded, in_shardings=(places, rows, whole), out_shardings=(places, whole), donate_argnums=0)


def in_trainer_units(x: jax.Array, mean: jax.Array, scale: jax.Array, dtype: str) -> jax.Array:
    """Rows [B, d] as the store has them, centred, scaled and in the type that is computed in."""
    return ((x.astype(jnp.float32) - mean) * scale).astype(dtype)


def _device_step(state: TrainState, x: jax.Array, pace: Pace, *, method, update: UpdateRule, config: StepConfig):
    y = in_trainer_units(x, state.mean, state.scale, config.compute_dtype)
    dead = state.since_fired > pace.dead_tokens
    dead_count = jax.lax.psum(dead.sum(), MODEL)
    fraction = state.step.astype(jnp.float32) / pace.schedule.steps
    batch = Batch(x=y, dead=dead, rows=config.batch_size, step_fraction=fraction)
    learning_rate = pace.schedule(state.step)

    def attempt(use_aux: bool, weights: Weights) -> tuple[Outcome, Weights]:
        (loss, report), gradient = loss_and_gradient(method, config, update, weights.params, batch, use_aux)
        loss = sum_over_data(loss)
        finite = jnp.isfinite(loss)
        # A batch that is not finite changes nothing but the count of steps: the state stays one that can be saved.
        return Outcome(loss, report, finite), update(weights, gradient, learning_rate, finite)

    weights = Weights(state.params, state.moments, state.average)
    # The auxiliary loss is computed, and paid for, only while latents are dead.
    outcome, weights = _one_of(dead_count > 0, attempt, weights) if config.aux else attempt(False, weights)
    report, finite = outcome.report, outcome.finite
    since_fired = jnp.minimum(jnp.where(report.firings > 0, 0, state.since_fired + config.batch_size), SINCE_LIMIT)
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
        loss=outcome.loss,
        fvu=report.squared_error / report.squared_norm,
        l0=report.active / config.batch_size,
        aux=report.aux,
        dead=dead_count,
        learning_rate=learning_rate,
        finite=finite,
    )
    return new, metrics


def _one_of(use_aux: jax.Array, attempt: Callable, weights: Weights) -> tuple[Outcome, Weights]:
    """`attempt(use_aux, weights)` with a `use_aux` that is known on the device alone.

    Two loops, of which one makes no turn and the other one: a conditional would copy the weights that it
    hands through, a loop changes them in place.
    """
    nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(partial(attempt, False), weights)[0])
    carry = nothing, weights
    for with_aux, scope in ((False, PLAIN_SCOPE), (True, AUX_SCOPE)):
        turns = (use_aux == with_aux).astype(jnp.int32)
        with jax.named_scope(scope):
            carry = jax.lax.fori_loop(0, turns, lambda _, c, with_aux=with_aux: attempt(with_aux, c[1]), carry)
    return carry


def goes_in_pairs(
    method: Method, config: StepConfig, update: UpdateRule, width: int, d: int, shards: int, use_aux: bool
) -> bool:
    """Whether no gradient of a shard's `width` latents is formed: `update` takes pairs, and exchanging them over
    `shards` of the batch is the cheaper way."""
    requests = method.requests(config.batch_size, d, use_aux)
    if requests is None or not update.takes_pairs:
        return False
    return rows_travel([(config.batch_size // shards, min(r.k, width)) for r in requests], width, d, shards)


def loss_and_gradient(
    method: Method, config: StepConfig, update: UpdateRule, params: Params, batch: Batch, use_aux: bool
) -> tuple[tuple[jax.Array, Report], Params | PairGradient]:
    """((loss, Report), gradient): as pairs where the update takes them and exchanging them is the cheaper way."""
    width, d = params.W_enc.shape
    if not goes_in_pairs(method, config, update, width, d, jax.lax.psum(1, DATA), use_aux):
        return jax.value_and_grad(lambda p: method.loss(p, batch, use_aux=use_aux), has_aux=True)(params)

    def loss(b_dec: jax.Array, taps: Taps):
        return method.loss(params.put(b_dec=b_dec), batch.replace(taps=taps), use_aux=use_aux)

    taps = zero_taps(batch.x, width, method.requests(config.batch_size, d, use_aux))
    (value, report), (db_dec, slopes) = jax.value_and_grad(loss, (0, 1), has_aux=True)(params.b_dec, taps)
    x = batch.x - params.b_dec.astype(batch.x.dtype) if method.pre_bias else batch.x
    pairs = group(pair_lists(report.selected, slopes, x), width, update.block_of(width, d, True))
    return (value, report.replace(selected=None)), PairGradient(pairs, db_dec)


def _threshold(state: TrainState, smallest: jax.Array) -> jax.Array:
    """Moving average of decay 0.999 (2412.06410), shorter at first, so that a short run's is of its end too."""
    taken = (state.step - state.skipped).astype(jnp.float32)
    decay = jnp.minimum(0.999, taken / (taken + 10))
    return decay * state.threshold + (1 - decay) * smallest
