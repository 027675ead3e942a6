"""The seam between what a method computes and how it is trained.

A method declares parameters, loss, what is done to gradients and after a step, and how rows are encoded.
Its functions are the program of one device (see `jaxsae.kernels`): parameters are that device's shard of
the latents, `x` its rows of the batch; a loss is the sum over those rows, its gradient the whole batch's
(see `parallel.copy_to_data`). Sharding, precision, dead-latent accounting and optimisation are
not its business.
"""

import dataclasses
from typing import ClassVar, Protocol

import flax.struct
import jax
import jax.numpy as jnp

from jaxsae.dictionary.config import MethodConfig
from jaxsae.dictionary.parameters import Params
from jaxsae.kernels import Request, Selected, Taps
from jaxsae.parallel import sum_over_data

FIRING_THRESHOLD = 1e-3  # of an activation that counts as firing, inputs scaled to norm sqrt(d) (2406.04093)


@flax.struct.dataclass
class Batch:
    """What a loss sees besides the parameters.

    Attributes:
      x: [B_local, d], centred and scaled. dead: bool [n_local].
      rows: rows of the whole batch, over all devices. step_fraction: share of the steps that are done, 0 to 1.
      taps: zeros to differentiate by in place of the weights, see `jaxsae.kernels.Taps`; None: by the weights.
      firing: a latent fires on a row where it is above this.
    """

    x: jax.Array
    dead: jax.Array
    rows: int = flax.struct.field(pytree_node=False)
    step_fraction: jax.Array | float = 0.0
    taps: Taps | None = None
    firing: float = flax.struct.field(pytree_node=False, default=FIRING_THRESHOLD)


@flax.struct.dataclass
class Report:
    """What a loss says besides its value; sums over the whole batch, equal on every device.

    Attributes:
      squared_error, squared_norm: of the reconstruction and of the input; their ratio is the batch's FVU.
      active: (row, latent) pairs with a positive latent. aux: the auxiliary or penalty term, weighted.
      firings: int32 [n_local], rows of the whole batch on which each latent of this shard fires.
      smallest: the smallest positive latent of the batch; what an inference threshold is an average of.
      selected: this device's selections where the batch has taps, else None.
    """

    squared_error: jax.Array
    squared_norm: jax.Array
    active: jax.Array
    aux: jax.Array
    firings: jax.Array
    smallest: jax.Array
    selected: tuple[Selected, ...] | None = None


class Method(Protocol):
    """A method; see `topk.py` and `relu.py`."""

    name: ClassVar[str]
    pre_bias: ClassVar[bool]  # whether b_dec is subtracted from the input
    unit_decoder: ClassVar[bool]  # whether `after_step` makes decoder rows 1 long
    fits_start: ClassVar[bool]  # whether the encoder starts at a length fitted to rows, or as long as the decoder
    config: MethodConfig
    has_aux: bool

    def requests(self, rows: int, d_model: int, use_aux: bool) -> tuple[Request, ...] | None: ...

    def init(self, key: jax.Array, d_model: int) -> Params: ...

    def loss(self, params: Params, batch: Batch, use_aux: bool) -> tuple[jax.Array, Report]: ...

    def reconstruct(self, params: Params, batch: Batch) -> jax.Array: ...

    def project_gradient(self, params: Params, gradient: Params) -> Params: ...

    def after_step(self, params: Params) -> Params: ...

    def default_learning_rate(self, d_model: int, steps: int) -> float: ...


def squared_sums(x: jax.Array, error: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums of squares of error and input over the whole batch."""
    return sum_over_data(jnp.square(error).sum()), sum_over_data(jnp.square(x).sum())


@dataclasses.dataclass(frozen=True)
class MethodBase:
    """Defaults that most methods keep."""

    config: MethodConfig

    @property
    def has_aux(self) -> bool:
        """Whether the loss has an auxiliary term for dead latents."""
        return False

    def requests(self, rows: int, d_model: int, use_aux: bool) -> tuple[Request, ...] | None:
        """What a loss over a batch of `rows` rows selects; None where latents are dense and nothing is selected."""
        return None

    def project_gradient(self, params: Params, gradient: Params) -> Params:
        return gradient

    def after_step(self, params: Params) -> Params:
        return params
