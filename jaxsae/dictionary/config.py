"""What a dictionary is made of, as flags."""

import dataclasses
from typing import Literal

from jaxsae.config import check, check_positive, option
from jaxsae.kernels.avoid import ENCODERS, VARIABLE


@dataclasses.dataclass(frozen=True)
class MethodConfig:
    """Flags that define a dictionary and its loss."""

    width: int = option(help="number of latents")
    architecture: Literal["topk", "batchtopk", "relu"] = option(
        "topk", "method: topk (2406.04093), batchtopk (2412.06410) or relu (ReLU with an L1 penalty)"
    )
    k: int = option(32, "topk: active latents of each row; batchtopk: of a row on average")
    row_k_max: int | None = option(None, "batchtopk: the most latents that one row keeps; default: 4 k")
    encoder: Literal["auto", *ENCODERS, "approximate"] = option(
        "auto",
        "topk, batchtopk, in training: auto: exact, by the kernel that suits the device; a kernel by name: that one, as "
        f"exact; approximate: TPUs only, about 0.95 of a row's best. {VARIABLE}=NAME in the environment keeps auto from it",
    )
    aux_k: int | None = option(
        None, "topk: dead latents that model the residual; default: power of two nearest d_model/2"
    )
    aux_coefficient: float = option(1 / 32, "topk: weight of the auxiliary loss; 0 turns it off")
    l1_coefficient: float = option(5.0, "relu: weight of the L1 penalty, for inputs of norm sqrt(d_model)")
    l1_warmup: float = option(0.05, "relu: share of the steps over which the L1 weight rises from 0")

    def __post_init__(self):
        check_positive(self, "width", "k", "aux_k", "row_k_max")
        check(self.architecture == "relu" or self.k <= self.width, "k", self.k, f"must be at most --width={self.width}")
        enough = self.architecture != "batchtopk" or (self.row_k_max or self.k) >= self.k  # to come to k on average
        check(enough, "row_k_max", self.row_k_max, f"must be at least --k={self.k}")
        check((self.aux_k or 1) <= self.width, "aux_k", self.aux_k, f"must be at most --width={self.width}")
        check(self.aux_coefficient >= 0, "aux_coefficient", self.aux_coefficient, "must be 0 or above")
        check(self.l1_coefficient >= 0, "l1_coefficient", self.l1_coefficient, "must be 0 or above")
        check(0 <= self.l1_warmup <= 1, "l1_warmup", self.l1_warmup, "must be between 0 and 1")
