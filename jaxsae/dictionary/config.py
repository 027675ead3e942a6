"""What a dictionary is made of, as flags."""

import dataclasses
from typing import Literal

from jaxsae.config import check, check_positive, option
from jaxsae.errors import InputError
from jaxsae.kernels.avoid import ENCODERS, VARIABLE

_RANKS = ("k", "encoder", "aux_k", "aux_coefficient")
# The switches that an architecture takes beside --width.
SWITCHES = {
    "topk": _RANKS,
    "batchtopk": (*_RANKS, "row_k_max"),
    "matryoshka": (*_RANKS, "row_k_max", "prefixes"),
    "jumprelu": ("k", "target_l0", "l0_coefficient", "l0_warmup", "bandwidth"),
    "gated": ("l1_coefficient", "l1_warmup", "frozen_gate"),
    "relu": ("l1_coefficient", "l1_warmup"),
}


@dataclasses.dataclass(frozen=True)
class MethodConfig:
    """Flags that define a dictionary and its loss."""

    width: int = option(help="number of latents")
    architecture: Literal["topk", "batchtopk", "matryoshka", "jumprelu", "gated", "relu"] = option(
        "topk",
        "method: topk (2406.04093), batchtopk (2412.06410), matryoshka (BatchTopK over nested prefixes, 2503.17547), "
        "jumprelu (2407.14435), gated (2404.16014) or relu (ReLU with an L1 penalty)",
    )
    k: int = option(
        32,
        "topk: active latents of each row; batchtopk, matryoshka: of a row on average; jumprelu: the L0 that is aimed at",
    )
    row_k_max: int | None = option(None, "batchtopk, matryoshka: the most latents that one row keeps; default: 4 k")
    prefixes: tuple[int, ...] = option(
        (),
        "matryoshka: numbers of first latents that reconstruct by themselves, ascending, the last --width; default: 1/32, "
        "3/32, 7/32, 15/32 and all of them",
    )
    encoder: Literal["auto", *ENCODERS, "approximate"] = option(
        "auto",
        "topk, batchtopk, matryoshka, in training: auto: exact, by the kernel that suits the device; a kernel by name: that "
        f"one, as exact; approximate: TPUs only, about 0.95 of a row's best. {VARIABLE}=NAME in the environment keeps auto "
        "from it",
    )
    aux_k: int | None = option(
        None,
        "topk, batchtopk, matryoshka: dead latents that model the residual; default: power of two nearest d_model/2",
    )
    aux_coefficient: float = option(1 / 32, "topk, batchtopk, matryoshka: weight of the auxiliary loss; 0 turns it off")
    target_l0: float | None = option(
        None,
        "jumprelu: the L0 that is aimed at, where it is no whole number; default: --k; 0: none, the penalty is "
        "l0_coefficient times L0",
    )
    l0_coefficient: float = option(
        10.0, "jumprelu: weight of (L0 / target - 1)^2, over a squared error of 1 a number of a row at the start"
    )
    l0_warmup: float = option(0.05, "jumprelu: share of the steps over which that weight rises from 0")
    bandwidth: float = option(
        0.3, "jumprelu: window of the straight-through gradient, for inputs of norm sqrt(d_model)"
    )
    l1_coefficient: float = option(5.0, "relu, gated: weight of the L1 penalty, for inputs of norm sqrt(d_model)")
    l1_warmup: float = option(0.05, "relu, gated: share of the steps over which the L1 weight rises from 0")
    frozen_gate: bool = option(True, "gated: the decoder does not learn by the gate's own reconstruction")

    def __post_init__(self):
        check_positive(self, "width", "k", "aux_k", "row_k_max", "bandwidth")
        takes_k = self.takes("k")
        check(not takes_k or self.k <= self.width, "k", self.k, f"must be at most --width={self.width}")
        takes_rows = self.takes("row_k_max")
        enough = not takes_rows or (self.row_k_max or self.k) >= self.k  # to come to k on average
        check(enough, "row_k_max", self.row_k_max, f"must be at least --k={self.k}")
        check((self.aux_k or 1) <= self.width, "aux_k", self.aux_k, f"must be at most --width={self.width}")
        for name in ("aux_coefficient", "l1_coefficient", "l0_coefficient"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "must be 0 or above")
        for name in ("l1_warmup", "l0_warmup"):
            check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "must be between 0 and 1")
        l0 = self.target_l0
        check(0 <= (l0 or 0) <= self.width, "target_l0", l0, f"must be from 0 to --width={self.width}")
        if self.prefixes:
            given = ",".join(map(str, self.prefixes))
            rises = all(a < b for a, b in zip((0, *self.prefixes), self.prefixes, strict=False))
            check(rises, "prefixes", given, "must be whole numbers that rise, from 1 on")
            check(self.prefixes[-1] == self.width, "prefixes", given, f"must end with --width={self.width}")

    def takes(self, switch: str) -> bool:
        """Whether the architecture has this switch."""
        return switch in SWITCHES[self.architecture]

    @property
    def l0_target(self) -> float:
        """The L0 that a jumprelu aims at; 0: none."""
        return self.k if self.target_l0 is None else self.target_l0

    @property
    def ranks(self) -> bool:
        """Whether pre-activations are ranked, by an encoder that may be chosen, so that k of them are active."""
        return self.takes("encoder")

    @property
    def has_threshold(self) -> bool:
        """Whether one threshold stands in for the batch where latents are selected row by row."""
        return self.takes("row_k_max")

    @property
    def nested_prefixes(self) -> tuple[int, ...]:
        """Numbers of first latents that reconstruct by themselves: as 2503.17547 divides 65,536, where no flag says it."""
        shares = {max(1, self.width * share // 32) for share in (1, 3, 7, 15)}
        return self.prefixes or (*sorted(shares - {self.width}), self.width)


def check_switches(config: MethodConfig) -> None:
    """Raises `InputError` where a switch is set that the architecture does not take: it would do nothing."""
    taken = ("width", "architecture", *SWITCHES[config.architecture])
    for field in dataclasses.fields(config):
        if field.name not in taken and getattr(config, field.name) != field.default:
            known = ", ".join(f"--{name}" for name in SWITCHES[config.architecture])
            raise InputError(
                f"--{field.name}={getattr(config, field.name)}: --architecture={config.architecture} does not take it. It "
                f"takes {known}; leave the flag out."
            )
