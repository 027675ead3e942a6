"""Which latents a row, or the whole batch, keeps: this device's part of the choice, as lists of pairs."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from jaxsae.kernels import pairs
from jaxsae.kernels.by_layer import layer_of, layers_of
from jaxsae.kernels.encode_topk import encode_by_layer, encode_by_size, merge_over_batch, merge_over_model
from jaxsae.parallel import AXES


@dataclasses.dataclass(frozen=True)
class Request:
    """Which latents to select.

    Attributes:
      k: how many a row keeps over all shards; with `batch_total` the most that it may keep.
      batch_total: how many (row, latent) pairs the whole batch keeps (BatchTopK); None: k in each row.
      encoder: which implementation of `encode_topk` selects.
      signed: pre-activations are ranked by their sizes and keep their signs; nothing is cut at 0.
    """

    k: int
    batch_total: int | None = None
    encoder: str = "auto"
    signed: bool = False


@flax.struct.dataclass
class Selected:
    """This shard's part of a selection, after ReLU.

    Attributes:
      values: float32 [B, min(k, n_local)], by size, 0 where the entry is not among the best or, unless signs are kept, is
        negative; NaN where the row's pre-activations hold a NaN.
      indices: int32, local latents, of the same shape.
      part: int32, of the same shape, the part of the reconstruction that an entry adds to; None: there is one.
      parts: how many there are.
    """

    values: jax.Array
    indices: jax.Array
    part: jax.Array | None = None
    parts: int = flax.struct.field(pytree_node=False, default=1)

    def decoded(self, w_dec: jax.Array) -> jax.Array:
        """float32 [parts, B, d_out]: what this shard's latents give."""
        if self.part is None:
            return pairs.gather_sum(self.values, self.indices, w_dec)[None]
        return pairs.parts_sum(self.values, self.indices, self.part, self.parts, w_dec)

    def products(self, dy: jax.Array, w_dec: jax.Array) -> jax.Array:
        """float32 [B, k]: <dy, W_dec,i> of each entry, for dy [parts, B, d_out]."""
        if self.part is None:
            return pairs.gather_dot(dy[0], self.values, self.indices, w_dec)
        return pairs.parts_dot(dy, self.values, self.indices, self.part, w_dec)

    def by_part(self, dy: jax.Array) -> list[tuple[jax.Array, jax.Array, jax.Array]]:
        """(values, indices, dy) of each part, for sums over pairs."""
        if self.part is None:
            return [(self.values, self.indices, dy[0])]
        return [(jnp.where(self.part == g, self.values, 0), self.indices, one) for g, one in enumerate(dy)]


def select(x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, mask: jax.Array | None, request: Request) -> Selected:
    """This shard's part of what is asked for.

    Args:
      x: [B, d], centred, the same on every `model` shard. w_enc: [n_local, d]. b_enc: [n_local]. Of rows x [B, L d] latent i
        reads part i mod L. mask: bool [n_local], latents that may be chosen; None: all.

    Of L layers a batch's best are looked for among twice a layer's even share of what a row may keep: hardly a row of a layer
    has as many, and lists as long as a row's would be L times as many candidates. Where one has, all are looked through.
    """
    layers = layers_of(x, w_enc)
    few, most = -(-2 * request.k // layers), min(request.k, len(b_enc) // layers)
    if request.batch_total is None or layers == 1 or few >= most:
        return _chosen(x, w_enc, b_enc, mask, request)
    found = _chosen(x, w_enc, b_enc, mask, request, few)
    layer, kept = layer_of(found.indices, layers), found.values > 0
    full = [((layer == one) & kept).sum(1).max() >= few for one in range(layers)]
    # The same on every device, since all take part in the choice.
    more = jax.lax.pmax(jnp.stack(full).any(), AXES)
    return jax.lax.cond(more, lambda: _chosen(x, w_enc, b_enc, mask, request), lambda: found)


def _chosen(
    x: jax.Array,
    w_enc: jax.Array,
    b_enc: jax.Array,
    mask: jax.Array | None,
    request: Request,
    each: int | None = None,
) -> Selected:
    """The choice among at most `each` candidates of a layer; None: among all."""
    k = min(request.k, w_enc.shape[0])
    if request.signed:
        values, negative, indices = encode_by_size(x, w_enc, b_enc, mask, k, request.encoder)
    else:
        bias = b_enc if mask is None else jnp.where(mask, b_enc, -jnp.inf)
        values, indices = encode_by_layer(x, w_enc, bias, k, request.encoder, each)
    keep = merge_over_model(values, request.k)
    if request.batch_total is not None:
        # Of the row's best over all shards, not of each shard's, so that the choice is the same on every mesh.
        keep &= merge_over_batch(jnp.where(keep, values, -jnp.inf), request.batch_total)
    kept = jnp.where(keep, jnp.maximum(values, 0), 0)
    return Selected(jnp.where(negative, -kept, kept) if request.signed else kept, indices)
