"""A GPT in flax nnx whose activations have names, and can be read and replaced in a forward pass.

Sites of a model with L blocks: `embed`, then for each block l `resid_pre.l`, `attn_out.l`, `mlp_in.l`
(the MLP's normalised input), `mlp_out.l`, `resid_post.l`. Each is [B, T, d_model].
Pre-norm RMS normalisation without gains, ReLU, no biases; activations are kept two-dimensional between
attention layers, which is what XLA's CPU backend runs fastest.
"""

import dataclasses
from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsae.config import check_positive, option
from jaxsae.errors import InputError
from jaxsae.lm.taps import Replace, Taps

BLOCK_SITES = ("resid_pre", "attn_out", "mlp_in", "mlp_out", "resid_post")


@dataclasses.dataclass(frozen=True)
class GPTConfig:
    """Shape of a GPT: `vocabulary` tokens, `context` positions, `layers` blocks of width `d_model`."""

    vocabulary: int = option(60, "tokens there are")
    context: int = option(59, "positions")
    layers: int = option(4, "blocks")
    d_model: int = option(128, "width of the residual stream")
    heads: int = option(4, "attention heads of a block")
    mlp_ratio: int = option(4, "hidden width of an MLP, in units of d_model")

    def __post_init__(self):
        check_positive(self, "vocabulary", "context", "layers", "d_model", "heads", "mlp_ratio")
        if self.d_model % self.heads:
            raise InputError(f"d_model={self.d_model} must be a multiple of heads={self.heads}")

    def sites(self) -> tuple[str, ...]:
        """All site names, in the order of the forward pass."""
        return ("embed", *(f"{s}.{layer}" for layer in range(self.layers) for s in BLOCK_SITES))


def check_sites(config: GPTConfig, sites: Collection[str], flag: str = "sites") -> None:
    """Raises `InputError` listing the sites there are where one of `sites` is not among them."""
    for site in sites:
        if site not in config.sites():
            raise InputError(f"--{flag}={site}: no such site. This model has: {', '.join(config.sites())}")


def _rms_norm(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-5)


def _normal(rngs: nnx.Rngs, shape: tuple[int, ...], std: float) -> nnx.Param:
    return nnx.Param(std * jax.random.normal(rngs.params(), shape))


class Block(nnx.Module):
    """Attention, then an MLP, each added to the residual stream."""

    def __init__(self, config: GPTConfig, rngs: nnx.Rngs):
        d, hidden = config.d_model, config.mlp_ratio * config.d_model
        into_residual = (2 * config.layers) ** -0.5  # keeps the stream's variance near one at the start
        self.qkv = _normal(rngs, (d, 3 * d), 0.7 * d**-0.5)
        self.attn_out = _normal(rngs, (d, d), d**-0.5 * into_residual)
        self.mlp_in = _normal(rngs, (d, hidden), d**-0.5)
        self.mlp_out = _normal(rngs, (hidden, d), hidden**-0.5 * into_residual)
        self.heads = config.heads

    def __call__(self, x_NxD: jax.Array, attend: Callable, tap: Callable, layer: int) -> jax.Array:
        """The stream [N, d] after the block; `attend(block, normalised stream)` gives what attention adds."""
        x_NxD = tap(f"resid_pre.{layer}", x_NxD)
        x_NxD = x_NxD + tap(f"attn_out.{layer}", attend(self, _rms_norm(x_NxD)))
        hidden = tap(f"mlp_in.{layer}", _rms_norm(x_NxD))
        x_NxD = x_NxD + tap(f"mlp_out.{layer}", jax.nn.relu(hidden @ self.mlp_in[...]) @ self.mlp_out[...])
        return tap(f"resid_post.{layer}", x_NxD)

    def attention(self, x_NxD: jax.Array, batch: int) -> jax.Array:
        """What attention adds [N, d] to whole sequences, of which x_NxD holds `batch`."""
        (n, d), h = x_NxD.shape, self.heads
        qkv = (x_NxD @ self.qkv[...]).reshape(batch, n // batch, 3, h, d // h)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        scores = q @ k.swapaxes(-1, -2) * (d // h) ** -0.5
        causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        weights = jax.nn.softmax(jnp.where(causal, scores, -1e9))
        return (weights @ v).swapaxes(1, 2).reshape(n, d) @ self.attn_out[...]


class GPT(nnx.Module):
    """tokens [B, T] -> logits [B, T, vocabulary]; see `GPTConfig.sites` for what can be read."""

    def __init__(self, config: GPTConfig, rngs: nnx.Rngs):
        self.config = config
        self.embedding = _normal(rngs, (config.vocabulary, config.d_model), 0.1)
        self.position = _normal(rngs, (config.context, config.d_model), 0.1)
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.layers)])
        self.unembedding = _normal(rngs, (config.d_model, config.vocabulary), config.d_model**-0.5)

    def __call__(
        self, tokens_BxT: jax.Array, read: Collection[str] = (), replace: Replace | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Runs the model.

        Args:
          tokens_BxT: int [B, T], T <= context.
          read: names of sites to return.
          replace: site -> function of its activations [B, T, d_model] that gives what stands in for them.

        Returns:
          logits [B, T, vocabulary], and {site: [B, T, d_model]} for `read`.

        Raises:
          InputError: a site that this model does not have.
        """
        check_sites(self.config, [*read, *(replace or {})])
        taps = Taps(read, replace)
        return self.passed(tokens_BxT, taps), taps.seen

    def passed(self, tokens_BxT: jax.Array, taps: Taps) -> jax.Array:
        """logits [B, T, vocabulary] of a pass with `taps`."""
        (batch, length), d = tokens_BxT.shape, self.config.d_model
        whole = lambda x: x.reshape(batch, length, d)
        tap = lambda site, x_NxD: taps(site, whole(x_NxD)).reshape(batch * length, d)
        x_NxD = (self.embedding[...][tokens_BxT] + self.position[...][:length]).reshape(batch * length, -1)
        x_NxD = tap("embed", x_NxD)
        for layer, block in enumerate(self.blocks):
            x_NxD = block(x_NxD, lambda block, x: block.attention(x, batch), tap, layer)
        return self.unembed(x_NxD).reshape(batch, length, -1)

    def unembed(self, x_NxD: jax.Array) -> jax.Array:
        """Logits [N, vocabulary] of the last block's stream."""
        return _rms_norm(x_NxD) @ self.unembedding[...]


def init(config: GPTConfig, seed: int) -> GPT:
    """A model with random weights."""
    return GPT(config, nnx.Rngs(seed))
