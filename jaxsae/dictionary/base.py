"""What passes between a method and whoever trains or judges it: a batch, and what a loss says beside its value.

Functions of both are the program of one device (see `jaxsae.kernels`): parameters are that device's shard of the latents,
`x` its rows of the batch; a loss is the sum over those rows, its gradient the whole batch's.
"""

from typing import Any

import flax.struct
import jax

from jaxsae.dictionary.widths import Widths

FIRING_THRESHOLD = 1e-3  # of an activation that counts as firing, inputs scaled to norm sqrt(d) (2406.04093)


@flax.struct.dataclass
class Batch:
    """What a loss sees besides the parameters.

    Attributes:
      x: [B_local, d_in], centred and scaled. dead: bool [n_local].
      rows: rows of the whole batch, over all devices. step_fraction: share of the steps that are done, 0 to 1.
      target: [B_local, d_out], what is reconstructed; None: x.
      firing: a latent fires on a row where it is above this.
      key: random, of this step and the same on every device; None: no step is under way.
      excess: float32 [n_local], what a penalty on frequent latents weighs each by, per row and unit of the latent; None.
      control: log of what a penalty's weight is multiplied by, to bring L0 to where it is asked for.
      slope: float32 [B_local, d_out], the gradient by the reconstruction of what else hangs on it, such as a model that it
        stands in; None. own: weight of the objective beside that.
      pull: float32 [B_local, d_out]: a latent of value f costs |f W_dec,i . pull| beside the objective; None.
    """

    x: jax.Array
    dead: jax.Array
    rows: int = flax.struct.field(pytree_node=False)
    step_fraction: jax.Array | float = 0.0
    target: jax.Array | None = None
    firing: float = flax.struct.field(pytree_node=False, default=FIRING_THRESHOLD)
    key: jax.Array | None = None
    excess: jax.Array | None = None
    control: jax.Array | float = 0.0
    slope: jax.Array | None = None
    own: float = flax.struct.field(pytree_node=False, default=1.0)
    pull: jax.Array | None = None

    @classmethod
    def of(cls, y: jax.Array, widths: Widths, **more: Any) -> "Batch":
        """That of y [B_local, numbers], sites side by side, centred and scaled."""
        return cls(widths.read(y), target=None if widths.writes is None else widths.written(y), **more)

    @property
    def wanted(self) -> jax.Array:
        """float32 [B_local, d_out]: what is reconstructed."""
        return (self.x if self.target is None else self.target).astype("float32")


@flax.struct.dataclass
class Report:
    """What a loss says besides its value; sums over the whole batch, equal on every device.

    Attributes:
      squared_error, squared_norm: of the reconstruction and of what it must match; their ratio is the batch's FVU.
      active: (row, latent) pairs with a latent that is not 0. aux: the auxiliary or penalty term, weighted.
      firings: int32 [n_local], rows of the whole batch on which each latent of this shard fires.
      smallest: the smallest active latent of the batch; what an inference threshold is an average of.
    """

    squared_error: jax.Array
    squared_norm: jax.Array
    active: jax.Array
    aux: jax.Array
    firings: jax.Array
    smallest: jax.Array
