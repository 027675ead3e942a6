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

from jaxsae.dictionary import Batch, Method, Report, Widths
from jaxsae.dictionary.penalty.frequency import averaged
from jaxsae.parallel import AXES, DATA, MODEL, shardings, sum_over_data
from jaxsae.training.opponent import opponent_step
from jaxsae.training.optimizer import Schedule
from jaxsae.training.routes import capacity_for_dead, loss_and_gradient, needs_pairs_for_dead
from jaxsae.training.row_gradients import drawn_rows, row_gradients
from jaxsae.training.state import TrainState, state_specs
from jaxsae.training.update import UpdateRule, Weights

SINCE_LIMIT = 2**30
PLAIN_SCOPE, AUX_SCOPE = "plain_step", "aux_step"  # names in the compiled program; of these one runs
FULL_SCOPE = "overfull_step"  # where more latents are dead than there is room for


@flax.struct.dataclass
class StepMetrics:
    """What a step says of itself: scalars, equal on every device.

    Attributes:
      loss: whole loss of the batch. fvu: squared error over squared norm of centred inputs. l0: active latents a row.
      aux: auxiliary or penalty term. dead: latents without firing in `dead_tokens` rows.
      learning_rate: of this step. finite: False where the batch or the loss held NaN or Inf and was left out.
      explained: the share of the decoder rows' variance that an opponent explains; None where there is no opponent.
    """

    loss: jax.Array
    fvu: jax.Array
    l0: jax.Array
    aux: jax.Array
    dead: jax.Array
    learning_rate: jax.Array
    finite: jax.Array
    explained: jax.Array | None = None


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
):
    """The jitted step (state, x [batch_size, numbers], Pace) -> (state, StepMetrics); the state is donated.

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
    fraction = pace.schedule.progress(state.step)
    key = jax.random.fold_in(jax.random.key(pace.seed), state.step)
    batch = Batch.of(y, config.widths, dead=dead, rows=config.batch_size, step_fraction=fraction, key=key)
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
    outcome, weights = _one_of(_ways(method, config, dead, fraction), attempt, weights)
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
        loss=outcome.loss,
        fvu=report.squared_error / report.squared_norm,
        l0=report.active / config.batch_size,
        aux=report.aux,
        dead=dead_count,
        learning_rate=learning_rate,
        finite=finite,
        explained=explained,
    )
    return new, metrics


def _ways(method: Method, config: StepConfig, dead: jax.Array, fraction: jax.Array) -> list[tuple]:
    """The ways a step may go: (name, method, route of dead latents, whether it is this one), of which one is.

    While more latents are active than in the end, a step of its own pays for them.
    """
    if not method.anneals:
        return [(name, method, *rest) for name, *rest in _ways_of_dead(method, config, dead)]
    ways, early = _ways_of_dead(method, config, dead), fraction < method.selection.anneal.share
    late = method.without_anneal()
    first = [(f"early_{name}", method, route, taken & early) for name, route, taken in ways]
    return first + [(name, late, route, taken & ~early) for name, route, taken in ways]


def _ways_of_dead(
    method: Method, config: StepConfig, dead: jax.Array
) -> list[tuple[str, str | None, jax.Array | bool]]:
    """(name, route of dead latents, whether it is this one).

    The auxiliary loss is computed, and paid for, only while latents are dead; by pairs where more of them are dead than
    there is room for on some device.
    """
    if not (config.aux and method.has_aux):
        return [(PLAIN_SCOPE, None, True)]
    some = jax.lax.psum(dead.sum(), MODEL) > 0
    if not needs_pairs_for_dead(method, len(dead)):
        return [(PLAIN_SCOPE, None, ~some), (AUX_SCOPE, "tiles", some)]
    fits = jax.lax.pmax(dead.sum(), AXES) <= capacity_for_dead(len(dead))
    return [(PLAIN_SCOPE, None, ~some), (AUX_SCOPE, "tiles", some & fits), (FULL_SCOPE, "pairs", ~fits)]


def _one_of(ways: list, attempt: Callable, weights: Weights) -> tuple[Outcome, Weights]:
    """`attempt(method, route of dead latents, weights)` by the way that is taken, which is known on the device alone.

    Loops, of which one makes a turn and the others none: a conditional would copy the weights that it hands through,
    a loop changes them in place.
    """
    if len(ways) == 1:
        return attempt(*ways[0][1:3], weights)
    shapes = jax.eval_shape(partial(attempt, ways[0][1], None), weights)[0]
    carry = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes), weights
    for scope, method, route, taken in ways:
        with jax.named_scope(scope):
            once = lambda _, c, way=(method, route): attempt(*way, c[1])
            carry = jax.lax.fori_loop(0, taken.astype(jnp.int32), once, carry)
    return carry


def _threshold(state: TrainState, smallest: jax.Array, method: Method, pace: Pace) -> jax.Array:
    """Moving average of decay 0.999 (2412.06410), shorter at first, so that a short run's is of its end too."""
    taken = (state.step - state.skipped).astype(jnp.float32)
    if method.anneals:  # what was kept while more was kept says nothing
        taken = jnp.maximum(taken - method.selection.anneal.share * pace.schedule.first_steps, 0)
    decay = jnp.minimum(0.999, taken / (taken + 10))
    return decay * state.threshold + (1 - decay) * smallest
