"""Rotary positions: frequencies under each scaling of transformers, and the turn itself.

default: theta^(-2i/r) (Su et al., 2104.09864); linear: positions divided (Chen et al., 2306.15595); dynamic: a base that
grows beyond the model's context; llama3: low frequencies divided; yarn (Peng et al., 2309.00071); longrope (Ding et al.,
2402.13753).
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxsae.lm.decoder.shape import Rope


def tables(rope: Rope, length: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin, float32 [length, rotated / 2], of the angles at each position of a sequence of `length`."""
    frequencies, factor = KINDS[rope.kind](rope, dict(rope.settings), length)
    angles = np.arange(length, dtype=np.float32)[:, None] * frequencies.astype(np.float32)
    return np.cos(angles) * np.float32(factor), np.sin(angles) * np.float32(factor)


def turned(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """x [B, T, ..., d_head] with the first numbers of each head turned: number i with number i + rotated / 2.

    Args:
      cos, sin: [T, rotated / 2].
    """
    half = cos.shape[-1]
    wide = (1, cos.shape[0], *[1] * (x.ndim - 3), half)
    cos, sin = (t.reshape(wide).astype(x.dtype) for t in (cos, sin))
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin, rest], -1)


def _base(rope: Rope, theta: float | None = None) -> np.ndarray:
    exponents = np.arange(0, rope.rotated, 2, dtype=np.float32) / np.float32(rope.rotated)
    return (1.0 / np.power(np.float32(theta or rope.theta), exponents)).astype(np.float32)


def _default(rope: Rope, settings: Mapping, length: int) -> tuple[np.ndarray, float]:
    return _base(rope), 1.0


def _linear(rope: Rope, settings: Mapping, length: int) -> tuple[np.ndarray, float]:
    return _base(rope) / np.float32(settings["factor"]), 1.0


def _dynamic(rope: Rope, settings: Mapping, length: int) -> tuple[np.ndarray, float]:
    factor, longest = settings["factor"], max(length, rope.context)
    grown = (factor * longest / rope.context - (factor - 1)) ** (rope.rotated / (rope.rotated - 2))
    return _base(rope, rope.theta * grown), 1.0


def _llama3(rope: Rope, settings: Mapping, length: int) -> tuple[np.ndarray, float]:
    plain, factor = _base(rope), settings["factor"]
    low, high, trained = (
        settings[n] for n in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    )
    turns = trained * plain / (2 * math.pi)  # in the context that it was trained on
    share = np.clip((turns - low) / (high - low), 0, 1)
    return ((1 - share) * plain / factor + share * plain).astype(np.float32), 1.0


def _yarn(rope: Rope, settings: Mapping, length: int) -> tuple[np.ndarray, float]:
    trained = settings["original_max_position_embeddings"]
    factor = settings.get("factor") or rope.context / trained

    def grown(times: float = 1.0) -> float:
        return 1.0 if factor <= 1 else 0.1 * times * math.log(factor) + 1.0

    attention, scale, all_scale = (settings.get(n) for n in ("attention_factor", "mscale", "mscale_all_dim"))
    if attention is None:
        attention = grown(scale) / grown(all_scale) if scale and all_scale else grown()
    ends = [
        rope.rotated * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))
        for turns in (settings.get("beta_fast") or 32, settings.get("beta_slow") or 1)
    ]
    if settings.get("truncate", True):
        ends = [math.floor(ends[0]), math.ceil(ends[1])]
    low, high = max(ends[0], 0), min(ends[1], rope.rotated - 1)
    ramp = np.clip((np.arange(rope.rotated // 2, dtype=np.float32) - low) / (high - low or 0.001), 0, 1)
    plain = _base(rope)
    return (plain / factor * ramp + plain * (1 - ramp)).astype(np.float32), attention


def _longrope(rope: Rope, settings: Mapping, length: int) -> tuple[np.ndarray, float]:
    trained = settings["original_max_position_embeddings"]
    factor = settings.get("factor") or rope.context / trained
    attention = settings.get("attention_factor")
    if attention is None:
        attention = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(trained))
    by = np.asarray(settings["long_factor" if length > trained else "short_factor"], np.float32)
    return _base(rope) / by, attention


KINDS: dict[str, Callable[[Rope, Mapping, int], tuple[np.ndarray, float]]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
# What each kind reads of `rope_parameters`, beside theta and the share of a head that is turned.
SETTINGS = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": (
        "factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
        "original_max_position_embeddings",
    ),
    "longrope": ("factor", "attention_factor", "long_factor", "short_factor", "original_max_position_embeddings"),
}  # fmt: skip
