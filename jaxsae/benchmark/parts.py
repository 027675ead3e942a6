"""Parts of a step as programs of their own: the same functions that it is made of, compiled alone."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import SPECS, Batch, Method
from jaxsae.kernels import Selected, decode
from jaxsae.parallel import AXES, DATA, MODEL
from jaxsae.training.routes import DeadRoute, loss_and_gradient, select
from jaxsae.training.update import UpdateRule

NEVER_DEAD = 2**29  # rows: dead-latent accounting and AuxK are compiled in, and no latent dies while it is timed
ROWS, LISTS = P(DATA, None), P(DATA, MODEL)


@dataclasses.dataclass(frozen=True)
class Parts:
    """Makes the programs. Parameters are a `Params` over `mesh`, x: [rows, d_model]."""

    method: Method
    update: UpdateRule
    mesh: Mesh
    rows: int
    dtype: str

    def floor(self, parts: int) -> Callable:
        """(parameters, x) -> pre-activations [rows, width / parts]: the bare matmul of the encoder."""

        @jax.jit
        @partial(self._sharded, in_specs=(SPECS, ROWS), out_specs=LISTS)
        def floor(p, x):
            y = x.astype(self.dtype)
            w = p.W_enc[: len(p.W_enc) // parts].astype(self.dtype)
            return jnp.einsum("bd,nd->bn", y, w, preferred_element_type=jnp.float32)

        return floor

    def gradients(self, dead: DeadRoute | None) -> Callable:
        """(parameters, x, since_fired [width]) -> loss and gradient; `dead`: how those of dead latents go, None: left out."""

        @jax.jit
        @partial(self._sharded, in_specs=(SPECS, ROWS, P(MODEL)), out_specs=P(AXES))
        def gradients(p, x, since_fired):
            batch = Batch(x=x.astype(self.dtype), dead=since_fired > NEVER_DEAD, rows=self.rows)
            loss, _, gradient = loss_and_gradient(self.method, self.update, p, batch, dead)
            return jax.tree.map(lambda a: a[None], (loss, gradient))  # a row for each device

        return gradients

    def encode(self) -> Callable:
        """(parameters, x) -> values and indices [rows, k]: matmul and selection."""

        @jax.jit
        @partial(self._sharded, in_specs=(SPECS, ROWS), out_specs=(LISTS, LISTS))
        def encoded(p, x):
            batch = Batch(x=x.astype(self.dtype), dead=jnp.zeros(len(p.b_enc), bool), rows=self.rows)
            (best,) = select(self.method, p, batch, aux=False)
            return best.values, best.indices

        return encoded

    def decode(self) -> Callable:
        """(parameters, values, indices) -> reconstructions [rows, d_model]."""

        @jax.jit
        @partial(self._sharded, in_specs=(SPECS, LISTS, LISTS), out_specs=ROWS)
        def decoded(p, values, indices):
            return decode((Selected(values, indices),), p.W_dec)[0][0]

        return decoded

    @property
    def _sharded(self) -> Callable:
        return partial(jax.shard_map, mesh=self.mesh, check_vma=False)
