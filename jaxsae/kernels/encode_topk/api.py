"""Chooses an implementation of the fused top-k encoder, and joins the shards' selections."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxsae.errors import InputError
from jaxsae.kernels.avoid import avoided
from jaxsae.kernels.counting import running_count
from jaxsae.kernels.encode_topk import approximate, choose, chunked, cpu, hopper, reference, screened, tpu, xla
from jaxsae.kernels.encode_topk.bisect import merge_by_bisection
from jaxsae.parallel import MODEL

GATHERED = 2048  # candidates of a row that are gathered from all shards; of more, a bisection moves less
IMPLEMENTATIONS = {
    "screened": screened.encode_topk,
    "cpu": cpu.encode_topk,
    "pallas_tpu": tpu.encode_topk,
    "xla": xla.encode_topk,
    "chunked": chunked.encode_topk,
    "mosaic_gpu": hopper.encode_topk,
    "reference": reference.encode_topk,
    "approximate": approximate.encode_topk,
}


def encode_topk(
    x: jax.Array, w_enc: jax.Array, b_enc: jax.Array, k: int, implementation: str = "auto"
) -> tuple[jax.Array, jax.Array]:
    """Values and indices [B, k] of the k largest pre-activations x W_enc^T + b_enc of each row.

    Exact (but for `approximate`); descending; ties by lowest index. A row with a NaN pre-activation has NaN for
    all its values, an infinite one stands among the values. Not differentiable by itself: see `kernels.encode`.

    Args:
      x: [B, d]. w_enc: [n, d]. b_enc: [n]; -inf leaves a latent out. k: 1 to n.
      implementation: `auto` (see `choose.py`), or a name in `IMPLEMENTATIONS`.

    Returns:
      values float32 [B, k] and indices int32 [B, k].

    Raises:
      InputError: shapes that do not fit together, no rows, k out of range or no whole number, an unknown
        implementation, or one that does not run on this device or take these shapes or types.
    """
    x, w_enc, b_enc = jnp.asarray(x), jnp.asarray(w_enc), jnp.asarray(b_enc)
    if x.ndim != 2 or w_enc.ndim != 2 or x.shape[1] != w_enc.shape[1] or b_enc.shape != w_enc.shape[:1]:
        raise InputError(
            f"encode_topk takes x[B, d], W_enc[n, d], b_enc[n]: got {x.shape}, {w_enc.shape}, {b_enc.shape}"
        )
    if not x.shape[0]:
        raise InputError(f"encode_topk takes at least one row: got x of shape {x.shape}")
    if not isinstance(k, (int, np.integer)):
        raise InputError(f"k={k!r}: must be a whole number")
    if not 1 <= k <= w_enc.shape[0]:
        raise InputError(f"--k={k}: must be between 1 and the number of latents, {w_enc.shape[0]}")
    if implementation not in ("auto", *IMPLEMENTATIONS):
        raise InputError(f"implementation {implementation!r}: choose auto, {', '.join(IMPLEMENTATIONS)}")
    if implementation == "auto":
        implementation = choose.for_target(x, w_enc, k)
    elif why := avoided(implementation):
        raise InputError(f"--encoder={implementation} {why} in the environment: take another, or auto")
    return IMPLEMENTATIONS[implementation](x, w_enc, b_enc, k)


def merge_over_model(values: jax.Array, k: int) -> jax.Array:
    """Which entries of this shard's lists belong to the k best over all `model` shards; ties by lowest index.

    Only values travel: a shard's latents all have higher indices than those of the shards before it.

    Args:
      values: [B, k_local], descending in each row, this shard's best.

    Returns:
      bool [B, k_local]. All True in a row that holds a NaN on any shard, so that the NaN stays visible.
    """
    shards = jax.lax.psum(1, MODEL)
    if shards == 1:
        return jnp.ones(values.shape, bool)
    if shards * values.shape[1] > GATHERED:
        return merge_by_bisection(values, k)
    everyone = jax.lax.all_gather(values, MODEL)  # [shards, B, k_local]
    flat = everyone.transpose(1, 0, 2).reshape(values.shape[0], -1)
    threshold = jax.lax.top_k(flat, k)[0][:, -1:]
    equal = (everyone == threshold[None]).sum(2)  # [shards, B]
    above = (flat > threshold).sum(1)
    before = jnp.where(jnp.arange(shards)[:, None] < jax.lax.axis_index(MODEL), equal, 0).sum(0)
    room = jnp.maximum(k - above - before, 0)
    tied = values == threshold
    keep = (values > threshold) | (tied & (running_count(tied) <= room[:, None]))
    return keep | jnp.isnan(flat).any(-1, keepdims=True)
