"""A language model inside another program: passes with taps, and how far apart the next-token distributions of two are.

Functions are the program of one device of a mesh, so that a dictionary's program and a model's are one.
"""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsae.lm.decoder import forward
from jaxsae.lm.decoder.distribution import log_shares
from jaxsae.lm.decoder.shape import Decoder
from jaxsae.lm.gpt import GPT
from jaxsae.lm.taps import Taps
from jaxsae.parallel import MODEL, sum_over_model

ROWS_AT_ONCE = 512  # of which logits stand


class Passes(Protocol):
    """A model's passes. Hashable: programs that are compiled with it are found by it."""

    def run(self, weights: Any, tokens: jax.Array, taps: Taps, remember: bool = True) -> jax.Array:
        """What next-token distributions are made of, [B, T, c], of tokens [B, T].

        Args:
          remember: whether a gradient's backward pass keeps what is within blocks, or makes it again.
        """

    def divergence(self, weights: Any, p: jax.Array, q: jax.Array) -> jax.Array:
        """float32 [N]: KL(p || q) in nats of the distributions made of p and q [N, c], of which q has a gradient."""

    def cross_entropy(self, weights: Any, p: jax.Array, targets: jax.Array) -> jax.Array:
        """float32 [N]: -log of what distributions made of p [N, c] give the tokens `targets` [N]."""


@dataclasses.dataclass(frozen=True)
class DecoderPasses:
    """Of a decoder of `lm.decoder`, whose vocabulary is split over `model`."""

    shape: Decoder

    def run(self, weights: Any, tokens: jax.Array, taps: Taps, remember: bool = True) -> jax.Array:
        return forward.stream(weights, self.shape, tokens, taps, remember)

    def divergence(self, weights: Any, p: jax.Array, q: jax.Array) -> jax.Array:
        def part(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
            there, log_p, log_q = self._logs(weights, *pair)
            return sum_over_model(jnp.where(there, jnp.exp(log_p) * (log_p - log_q), 0).sum(-1))

        return _in_pieces(part, p, q)

    def cross_entropy(self, weights: Any, p: jax.Array, targets: jax.Array) -> jax.Array:
        def part(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
            logits = forward.logits(weights, self.shape, pair[0])
            count = logits.shape[-1]
            logs = log_shares(logits, forward.tokens_there(self.shape, count))
            mine = pair[1] - jax.lax.axis_index(MODEL) * count
            here = (mine >= 0) & (mine < count)
            found = jnp.take_along_axis(logs, jnp.where(here, mine, 0)[:, None], 1)[:, 0]
            return -sum_over_model(jnp.where(here, found, 0))

        return _in_pieces(part, p, targets)

    def _logs(self, weights: Any, p: jax.Array, q: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Which tokens of this shard there are, [v], and both distributions' log-probabilities of these, [N, v]."""
        of_p, of_q = (forward.logits(weights, self.shape, x) for x in (p, q))
        there = forward.tokens_there(self.shape, of_p.shape[-1])
        return there, *(log_shares(x, there) for x in (of_p, of_q))


@dataclasses.dataclass(frozen=True)
class GPTPasses:
    """Of a GPT of `lm.gpt`, whole on every device; its distributions are made of its logits.

    Attributes:
      graph: of `flax.nnx.split`, whose state are the weights.
    """

    graph: Any

    def run(self, weights: Any, tokens: jax.Array, taps: Taps, remember: bool = True) -> jax.Array:
        model: GPT = nnx.merge(self.graph, weights)
        return model.passed(tokens, taps)

    def divergence(self, weights: Any, p: jax.Array, q: jax.Array) -> jax.Array:
        log_p, log_q = (jax.nn.log_softmax(x.astype(jnp.float32)) for x in (p, q))
        return (jnp.exp(log_p) * (log_p - log_q)).sum(-1)

    def cross_entropy(self, weights: Any, p: jax.Array, targets: jax.Array) -> jax.Array:
        logs = jax.nn.log_softmax(p.astype(jnp.float32))
        return -jnp.take_along_axis(logs, targets[:, None], 1)[:, 0]


def _in_pieces(function: Any, p: jax.Array, q: jax.Array) -> jax.Array:
    """`function` of pairs of rows, some at a time, each made again for its gradient."""
    rows = len(p)
    size = next(n for n in range(min(ROWS_AT_ONCE, rows), 0, -1) if rows % n == 0)
    if size == rows:
        return function((p, q))
    cut = lambda x: x.reshape(-1, size, *x.shape[1:])
    return jax.lax.map(jax.checkpoint(function), (cut(p), cut(q))).reshape(rows)
