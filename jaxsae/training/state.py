"""Everything a step changes, and where each part of it lies on the mesh."""

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import Method, Normalization, Params, Widths, is_by_latent
from jaxsae.parallel import MODEL, shardings
from jaxsae.training.opponent import Opponent, init_opponent


@flax.struct.dataclass
class TrainState:
    """One pytree: what is donated to a step, saved in a checkpoint and restored onto any mesh.

    Attributes:
      step: int32, steps that are done.
      params: float32, in the trainer's units. moments: the optimiser's state.
      since_fired: int32 [n], rows since each latent last fired, at most 2^30.
      skipped: int32, batches left out because they held NaN or Inf.
      average: moving average of `params`, or None.
      threshold: float32, average of the smallest positive latent of a batch (BatchTopK's inference threshold).
      mean, scale: float32 [numbers] of a row and [], or of several sites [numbers]: the trainer sees (x - mean) * scale.
      control: float32, log of the factor of a penalty's weight that steers L0; None where nothing is steered.
      opponent: what decoder rows are trained against, the same on every device; None where there is nothing.
      frequency: float32 [n], moving average of the share of rows on which a latent fires; None where nothing hangs on it.
    """

    step: jax.Array
    params: Params
    moments: optax.OptState
    since_fired: jax.Array
    skipped: jax.Array
    average: Params | None
    threshold: jax.Array
    mean: jax.Array
    scale: jax.Array
    control: jax.Array | None = None
    frequency: jax.Array | None = None
    opponent: Opponent | None = None


BY_LATENT = ("since_fired", "frequency")  # beside parameters and what mirrors them


def state_specs(abstract: TrainState) -> TrainState:
    """PartitionSpecs of a state: whatever is by latent lies on `model`, the rest everywhere.

    Moments mirror the parameters, so a leaf's place is told by its path.
    """

    def spec(path, leaf) -> P:
        by_latent = is_by_latent(path) or getattr(path[0], "name", "") in BY_LATENT
        return P(MODEL, *[None] * (leaf.ndim - 1)) if by_latent and leaf.ndim else P()

    return jax.tree_util.tree_map_with_path(spec, abstract)


def make_init(method: Method, optimizer: optax.GradientTransformation, widths: Widths, ema: bool):
    """A function (key, mean, scale) -> TrainState."""

    def init(key: jax.Array, mean: jax.Array, scale: jax.Array) -> TrainState:
        params = method.init(key, widths)
        opponent = None
        if method.adversary:
            opponent = init_opponent(jax.random.fold_in(key, 1), method.adversary, widths.d_out)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            moments=optimizer.init(params),
            since_fired=jnp.zeros(params.b_enc.shape, jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            average=jax.tree.map(jnp.zeros_like, params) if ema else None,
            threshold=jnp.zeros(()),
            mean=mean,
            scale=scale,
            control=jnp.zeros(()) if method.steer else None,
            frequency=jnp.zeros(params.b_enc.shape) if method.knows_frequency else None,
            opponent=opponent,
        )

    return init


def scale_shape(widths: Widths) -> tuple[int, ...]:
    """Of a state's `scale`: one number, or each site's at all of its numbers."""
    return (widths.numbers,) if len(widths.sites) > 1 else ()


def abstract_state(init, widths: Widths, mesh: Mesh) -> TrainState:
    """Shapes, types and shardings of the state, without any memory."""
    shape = jax.ShapeDtypeStruct
    mean, scale = shape((widths.numbers,), "f4"), shape(scale_shape(widths), "f4")
    state = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)), mean, scale)
    places = shardings(mesh, state_specs(state))
    return jax.tree.map(lambda leaf, place: shape(leaf.shape, leaf.dtype, sharding=place), state, places)


def abstract_params(method: Method, widths: Widths, mesh: Mesh) -> Params:
    """Shapes, types and shardings of a method's parameters."""
    params = jax.eval_shape(lambda: method.init(jax.random.key(0), widths))
    place = lambda path, leaf: NamedSharding(mesh, P(MODEL) if is_by_latent(path) else P())
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place(path, leaf)), params
    )


def create_state(init, seed: int, normalization: Normalization, widths: Widths, mesh: Mesh) -> TrainState:
    """A fresh state, each device building its own shard; the same numbers on every mesh."""
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(init, widths, mesh))
    mean, scale = jnp.asarray(normalization.mean), jnp.float32(normalization.scale)
    return jax.jit(init, out_shardings=places)(jax.random.key(seed), mean, scale)


def average_factor(state: TrainState, ema_decay: float) -> jax.Array:
    """What corrects the average for its start at 0 (2406.04093)."""
    return 1 / (1 - ema_decay ** jnp.maximum(state.step - state.skipped, 1))


def trained_params(state: TrainState, ema_decay: float, method: Method) -> Params:
    """The parameters to use: the last ones or, where there is an average, that one, as a step leaves parameters.

    TopK's decoder rows have length 1 again; their averages are shorter.
    """
    if state.average is None:
        return state.params
    factor = average_factor(state, ema_decay)
    return method.after_step(jax.tree.map(lambda a: a * factor, state.average))
