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
from jaxsae.parallel import DATA, MODEL, shardings, sum_over_data
from jaxsae.training.state import TrainState, state_specs

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
    device = partial(_device_step, method=method, optimizer=optimizer, rate=rate, config=config)
    sharded = jax.shard_map(
        device, mesh=mesh, in_specs=(specs, P(DATA, None)), out_specs=(specs, P()), check_vma=False
    )
    places, rows = shardings(mesh, specs), shardings(mesh, P(DATA, None))
    return jax.jit(
        sharded, in_shardings=(places, rows), out_shardings=(places, shardings(mesh, P())), donate_argnums=0
    )


def _device_step(state: TrainState, x: jax.Array, *, method, optimizer, rate, config: StepConfig):
    y = ((x.astype(jnp.float32) - state.mean) * state.scale).astype(config.compute_dtype)
    dead = state.since_fired > config.dead_tokens
    dead_count = jax.lax.psum(dead.sum(), MODEL)
    fraction = state.step.astype(jnp.float32) / config.steps
    batch = Batch(x=y, dead=dead, rows=config.batch_size, step_fraction=fraction)
    (loss, report), gradient = _gradient(method, config, state.params, batch, dead_count)
    loss = sum_over_data(loss)
    finite = jnp.isfinite(loss)
    learning_rate = rate(state.step)
    params, moments = _update(method, optimizer, config, state, gradient, learning_rate)
    average = _average(state.average, params, config.ema_decay)
    since_fired = jnp.minimum(jnp.where(report.fired, 0, state.since_fired + config.batch_size), SINCE_LIMIT)
    # A batch that is not finite changes nothing but the count of steps: the state stays one that can be saved.
    threshold = _threshold(state, report.smallest)
    kept = (state.params, state.moments, state.average, state.since_fired, state.threshold)
    fresh = (params, moments, average, since_fired, threshold)
    chosen = jax.tree.map(lambda new, old: jnp.where(finite, new, old), fresh, kept)
    new = state.replace(
        step=state.step + 1,
        params=chosen[0],
        moments=chosen[1],
        average=chosen[2],
        since_fired=chosen[3],
        threshold=chosen[4],
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


def _gradient(method: Method, config: StepConfig, params: Params, batch: Batch, dead_count: jax.Array):
    """((loss, Report), gradient); the auxiliary loss is computed, and paid for, only while latents are dead."""

    def gradient(use_aux: bool):
        loss = lambda p: method.loss(p, batch, use_aux=use_aux)
        return jax.value_and_grad(loss, has_aux=True)(params)

    if not config.aux:
        return gradient(False)
    return jax.lax.cond(dead_count > 0, partial(gradient, True), partial(gradient, False))


def _update(method, optimizer, config: StepConfig, state: TrainState, gradient: Params, learning_rate: jax.Array):
    gradient = method.project_gradient(state.params, gradient)
    if config.clip_norm is not None:
        scale = jnp.minimum(1.0, config.clip_norm / (global_norm(gradient) + 1e-30))
        gradient = jax.tree.map(lambda g: g * scale, gradient)
    direction, moments = optimizer.update(gradient, state.moments, state.params)
    params = jax.tree.map(lambda p, u: p - learning_rate * u, state.params, direction)
    return method.after_step(params), moments


def global_norm(gradient: Params) -> jax.Array:
    """Norm over all shards; `b_dec` is the same on each and counts once."""
    local = sum(jnp.square(g).sum() for g in (gradient.W_enc, gradient.b_enc, gradient.W_dec))
    return jnp.sqrt(jax.lax.psum(local, MODEL) + jnp.square(gradient.b_dec).sum())


def _threshold(state: TrainState, smallest: jax.Array) -> jax.Array:
    """Moving average of decay 0.999 (2412.06410), shorter at first, so that a short run's is of its end too."""
    taken = (state.step - state.skipped).astype(jnp.float32)
    decay = jnp.minimum(0.999, taken / (taken + 10))
    return decay * state.threshold + (1 - decay) * smallest


def _average(average: Params | None, params: Params, decay: float) -> Params | None:
    if average is None:
        return None
    return jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)


