"""One training step: the program of one device, and that program over the mesh."""

import dataclasses
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import Batch, Method, Report, Widths
from jaxsae.dictionary.penalty.frequency import averaged
from jaxsae.parallel import DATA, MODEL, shardings, sum_over_data
from jaxsae.training.end_to_end.effect import Effect, Terms, with_slope
from jaxsae.training.end_to_end.texts import Text
from jaxsae.training.opponent import opponent_step
from jaxsae.training.optimizer import Schedule
from jaxsae.training.routes import loss_and_gradient
from jaxsae.training.row_gradients import drawn_rows, row_gradients
from jaxsae.training.state import TrainState, state_specs
from jaxsae.training.update import UpdateRule, Weights
from jaxsae.training.ways import one_of, ways_of

SINCE_LIMIT = 2**30


@flax.struct.dataclass
class StepMetrics:
    """What a step says of itself: scalars, equal on every device.

    Attributes:
      loss: whole loss of the batch. fvu: squared error over squared norm of centred inputs. l0: active latents a row.
      aux: auxiliary or penalty term. dead: latents without firing in `dead_tokens` rows.
      learning_rate: of this step. finite: False where the batch or the loss held NaN or Inf and was left out.
      explained: the share of the decoder rows' variance that an opponent explains; None where there is no opponent.
      terms: of the model that the dictionary stands in; None where no step runs one.
    """

    loss: jax.Array
    fvu: jax.Array
    l0: jax.Array
    aux: jax.Array
    dead: jax.Array
    learning_rate: jax.Array
    finite: jax.Array
    explained: jax.Array | None = None
    terms: Terms | None = None


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
        latent counts as dead. seed: uint32, of what is drawn at a step.
    """

    schedule: Schedule
    dead_tokens: jax.Array
    seed: jax.Array | int = 0


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What a step needs to know besides the method and the optimiser when it is compiled."""

    batch_size: int
    widths: Widths
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
    effect: Effect | None = None,
    model_specs: Any = None,
):
    """The jitted step (state, x [batch_size, numbers], Pace) -> (state, StepMetrics); the state is donated.

    `x` holds activations as the store has them; rows lie over `data`. With an `effect` it is the step (state, Text, Pace,
    weights of the model); `model_specs`: PartitionSpecs of these.
    """
    specs = state_specs(abstract)
    update = make_update(method, optimizer, config)
    device = partial(_device_step, method=method, update=update, config=config)
    inputs = (P(DATA, None), P())
    if effect:
        device = partial(device, effect=effect)
        inputs = (Text.specs(), P(), model_specs)
    sharded = jax.shard_map(device, mesh=mesh, in_specs=(specs, *inputs), out_specs=(specs, P()), check_vma=False)
    places = shardings(mesh, (specs, *inputs))
    return jax.jit(sharded, in_shardings=places, out_shardings=(places[0], shardings(mesh, P())), donate_argnums=0)


def in_trainer_units(x: jax.Array, mean: jax.Array, scale: jax.Array, dtype: str) -> jax.Array:
    """Rows [B, d] as the store has them, centred, scaled and in the type that is computed in."""
    return ((x.astype(jnp.float32) - mean) * scale).astype(dtype)


def _device_step(
    state: TrainState,
    x: jax.Array | Text,
    pace: Pace,
    weights_of_model: Any = None,
    *,
    method: Method,
    update: UpdateRule,
    config: StepConfig,
    effect: Effect | None = None,
):
    terms = None
    if effect:
        text, clean = x, effect.clean(weights_of_model, x)
        x = effect.rows(clean, text)
    y = in_trainer_units(x, state.mean, state.scale, config.compute_dtype)
    dead = state.since_fired > pace.dead_tokens
    dead_count = jax.lax.psum(dead.sum(), MODEL)
    fraction = pace.schedule.progress(state.step)
    key = jax.random.fold_in(jax.random.key(pace.seed), state.step)
    batch = Batch.of(y, config.widths, dead=dead, rows=config.batch_size, step_fraction=fraction, key=key)
    if effect:
        batch, terms = with_slope(batch, effect, weights_of_model, text, clean, method, state, config.widths)
    if method.frequency:
        batch = batch.replace(excess=method.frequency.excess(state.frequency, state.params.W_dec))
    if method.steer:
        batch = batch.replace(control=state.control)
    learning_rate = pace.schedule(state.step)
    opponent, explained = state.opponent, None
    if method.adversary:
        drawn = drawn_rows(method.adversary, method.rows.index(method.adversary), state.params.W_dec, key)
        share = learning_rate / pace.schedule.peak
        rows = drawn.rows(state.params.W_dec)
        opponent, explained = opponent_step(
            state.opponent, method.adversary, rows, share, state.step, pace.schedule.first_steps
        )

    more = row_gradients(method, state.params.W_dec, key, state.frequency, opponent and opponent.weights)

    def attempt(method: Method, dead_route, weights: Weights) -> tuple[Outcome, Weights]:
        loss, report, gradient = loss_and_gradient(method, update, weights.params, batch, dead_route)
        loss = sum_over_data(loss)
        finite = jnp.isfinite(loss)
        # A batch that is not finite changes nothing but the count of steps: the state stays one that can be saved.
        return Outcome(loss, report, finite), update(weights, gradient, learning_rate, finite, more)

    weights = Weights(state.params, state.moments, state.average)
    outcome, weights = one_of(ways_of(method, config.aux, dead, fraction), attempt, weights)
    report, finite = outcome.report, outcome.finite
    since_fired = jnp.minimum(jnp.where(report.firings > 0, 0, state.since_fired + config.batch_size), SINCE_LIMIT)
    new = state.replace(
        step=state.step + 1,
        params=weights.params,
        moments=weights.moments,
        average=weights.average,
        since_fired=jnp.where(finite, since_fired, state.since_fired),
        threshold=jnp.where(finite, _threshold(state, report.smallest, method, pace), state.threshold),
        skipped=state.skipped + ~finite,
    )
    if method.steer:
        l0 = report.active / config.batch_size
        control = method.steer.after(state.control, l0, fraction, pace.schedule.first_steps)
        new = new.replace(control=jnp.where(finite, control, state.control))
    if method.adversary:
        new = new.replace(opponent=jax.tree.map(lambda a, b: jnp.where(finite, a, b), opponent, state.opponent))
    if method.knows_frequency:
        frequency = averaged(state.frequency, report.firings, config.batch_size)
        new = new.replace(frequency=jnp.where(finite, frequency, state.frequency))
    metrics = StepMetrics(
        loss=outcome.loss if terms is None else outcome.loss + effect.weighed(terms),
        fvu=report.squared_error / report.squared_norm,
        l0=report.active / config.batch_size,
        aux=report.aux,
        dead=dead_count,
        learning_rate=learning_rate,
        finite=finite,
        explained=explained,
        terms=terms,
    )
    return new, metrics


def _threshold(state: TrainState, smallest: jax.Array, method: Method, pace: Pace) -> jax.Array:
    """Moving average of decay 0.999 (2412.06410), shorter at first, so that a short run's is of its end too."""
    taken = (state.step - state.skipped).astype(jnp.float32)
    if method.anneals:  # what was kept while more was kept says nothing
        taken = jnp.maximum(taken - method.selection.anneal.share * pace.schedule.first_steps, 0)
    decay = jnp.minimum(0.999, taken / (taken + 10))
    return decay * state.threshold + (1 - decay) * smallest
