"""ReLU with an L1 penalty (Anthropic, Circuits Updates, April 2024).

    f = ReLU(W_enc x + b_enc),   x_hat = W_dec^T f + b_dec,   L = E ||x - x_hat||^2 + lambda E sum_i f_i ||W_dec,i||

Decoder rows are free to grow, since the penalty weighs them. The pre-activations are dense: how many
latents are active is what training finds out.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxsae.dictionary.base import Batch, MethodBase, Report, squared_sums
from jaxsae.dictionary.parameters import Params, tied_init
from jaxsae.parallel import MODEL, copy_to_data, copy_to_model, sum_over_data, sum_over_model
from jaxsae.platform import full_precision


class ReluL1(MethodBase):
    """All positive pre-activations; sparsity by penalty."""

    name: ClassVar[str] = "relu"
    pre_bias: ClassVar[bool] = False
    unit_decoder: ClassVar[bool] = False
    fits_start: ClassVar[bool] = False  # latents start small: the penalty takes long to shrink what fits rows at once

    def init(self, key: jax.Array, d_model: int) -> Params:
        return tied_init(key, self.config.width, d_model, norm=0.1)

    def default_learning_rate(self, d_model: int, steps: int) -> float:
        return 5e-5

    def loss(self, params: Params, batch: Batch, use_aux: bool) -> tuple[jax.Array, Report]:
        params = jax.tree.map(copy_to_data, params)
        f, y = _forward(params, copy_to_model(batch.x))
        error = batch.x.astype(jnp.float32) - params.b_dec - y
        warmth = jnp.clip(batch.step_fraction / max(self.config.l1_warmup, 1e-9), 0, 1)
        norms = jnp.sqrt(jnp.square(params.W_dec).sum(-1) + 1e-30)  # a row of zeros has a gradient too
        penalty = sum_over_model((f.sum(0) * norms).sum()) * self.config.l1_coefficient * warmth / batch.rows
        squared_error, squared_norm = squared_sums(batch.x.astype(jnp.float32), jax.lax.stop_gradient(error))
        report = Report(
            squared_error,
            squared_norm,
            active=sum_over_data(jax.lax.psum((f > 0).sum(), MODEL)),
            aux=sum_over_data(jax.lax.stop_gradient(penalty)),
            firings=sum_over_data((f > batch.firing).sum(0)),
            smallest=jnp.zeros(()),
        )
        return jnp.square(error).sum() / batch.rows + penalty, report

    def reconstruct(self, params: Params, batch: Batch) -> jax.Array:
        """What the latents give, without b_dec: float32 [B_local, d]."""
        return _forward(params, batch.x)[1]


def _forward(params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Latents [B_local, n_local] of this shard, and what those of all shards give, [B_local, d]."""
    sums = {"precision": full_precision(x.dtype), "preferred_element_type": jnp.float32}
    f = jax.nn.relu(jnp.einsum("bd,nd->bn", x, params.W_enc.astype(x.dtype), **sums) + params.b_enc)
    return f, sum_over_model(jnp.einsum("bn,nd->bd", f.astype(x.dtype), params.W_dec.astype(x.dtype), **sums))
