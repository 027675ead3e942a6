"""Flags of the optimiser and of the rate's schedule."""

import dataclasses
from typing import Literal

from jaxsae.config import check, check_positive, option


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Flags of the optimiser and its schedule."""

    optimizer: Literal["adam", "adam_bf16", "adam_factored", "sign"] = option(
        "adam",
        "adam: float32 moments, 8 bytes a parameter; adam_bf16: bfloat16 moments with stochastic rounding, 4; "
        "adam_factored: float32 momentum and a second moment of one number a row, 4; sign: no moments, 0",
    )
    learning_rate: float | None = option(None, "peak rate; default: the method's own, from d_model, width and steps")
    decoder_rate: float | None = option(
        None,
        "rate of the decoder's rows over that of all else; default: 4; of transcoders 8, or 1 where they do not rank; 1 of "
        "jumprelu_tanh, of a relu that aims at no L0, and with --optimizer=sign",
    )
    skip_rate: float | None = option(None, "skip: rate of W_skip over that of all else; default: 1")
    warmup_fraction: float = option(0.05, "share of the steps over which the rate rises from 0")
    decay_fraction: float = option(0.2, "share of the steps, at the end, over which the rate falls to 0")
    b1: float | None = option(None, "decay of the first moment; default: 0.9")
    b2: float = option(0.999, "decay of the second moment")
    epsilon: float = option(6.25e-10, "Adam's epsilon (2406.04093)")
    lazy_rows: bool = option(
        False, "latents without a gradient keep weights and moments: cheaper where a batch reaches few of many latents"
    )
    clip_norm: float | None = option(None, "largest norm of the whole gradient; default: no clipping")

    def __post_init__(self):
        check_positive(self, "learning_rate", "decoder_rate", "skip_rate", "epsilon", "clip_norm")
        for name in ("warmup_fraction", "decay_fraction"):
            value = getattr(self, name)
            check(0 <= value <= 1, name, value, "must be between 0 and 1")
        for name in ("b1", "b2"):  # 1: a moment that no gradient reaches, over a bias of 0
            value = getattr(self, name)
            check(value is None or 0 <= value < 1, name, value, "must be at least 0 and below 1")
        both = self.warmup_fraction + self.decay_fraction
        check(both <= 1, "decay_fraction", self.decay_fraction, f"with --warmup_fraction it covers {both:g} of the run")
