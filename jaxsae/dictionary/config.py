"""What a dictionary is made of, as flags."""

import dataclasses
import math
from typing import Literal

from jaxsae.config import check, check_positive, option
from jaxsae.kernels.avoid import ENCODERS, VARIABLE

_RANKS = ("k", "encoder", "aux_k", "aux_coefficient")
_ANNEALS = ("k_start", "k_anneal")
_L1 = ("k", "target_l0", "l1_coefficient", "l1_warmup")
_ALL = ("tied", "aligned", "pre_bias", "frequency_penalty", "orthogonality", "orthogonality_chunk")
_ALL += ("adversary", "adversary_width", "adversary_k", "adversary_rows", "transcode", "skip", "site_widths", "layers")
_WEIGHTS = ("aux_coefficient", "l1_coefficient", "l0_coefficient", "multi_coefficient", "tanh_coefficient")
_WEIGHTS += ("pre_coefficient", "frequency_penalty", "orthogonality", "adversary")
_POSITIVE = ("width", "k", "aux_k", "row_k_max", "bandwidth", "k_start", "tanh_scale")
_POSITIVE += ("layers", "adversary_width", "adversary_k", "adversary_rows")
# The switches that an architecture takes beside --width.
SWITCHES = {
    "topk": (*_RANKS, *_ANNEALS, *_ALL),
    "batchtopk": (*_RANKS, "row_k_max", *_ANNEALS, *_ALL),
    "matryoshka": (*_RANKS, "row_k_max", "prefixes", "random_prefixes", *_ANNEALS, *_ALL),
    "jumprelu": ("k", "target_l0", "l0_coefficient", "l0_warmup", "bandwidth", *_ALL),
    "gated": (*_L1, "frozen_gate", *_ALL),
    "relu": (*_L1, *_ALL),
    "multi_topk": (*_RANKS, "multi_coefficient", *_ALL),
    "hierarchical_topk": (*_RANKS, "ranks", *_ALL),
    "abstopk": (*_RANKS, *_ANNEALS, *_ALL),
    "jumprelu_tanh": (
        "k",
        "target_l0",
        "tanh_coefficient",
        "tanh_ramp",
        "tanh_scale",
        "pre_coefficient",
        "bandwidth",
        *_ALL,
    ),
    "rescaled": ("shift", "pre_bias"),
}


@dataclasses.dataclass(frozen=True)
class MethodConfig:
    """Flags that define a dictionary and its loss."""

    width: int = option(help="number of latents")
    architecture: Literal[
        "topk",
        "batchtopk",
        "matryoshka",
        "jumprelu",
        "gated",
        "relu",
        "multi_topk",
        "hierarchical_topk",
        "abstopk",
        "jumprelu_tanh",
        "rescaled",
    ] = option(
        "topk",
        "method: topk (2406.04093), batchtopk (2412.06410), matryoshka (BatchTopK over nested prefixes, 2503.17547), "
        "jumprelu (2407.14435), gated (2404.16014), relu (ReLU with an L1 penalty), multi_topk (TopK with an eye to 4 k, "
        "2406.04093), hierarchical_topk (one dictionary for all numbers of active latents up to k, 2505.24473), abstopk "
        "(latents of both signs, 2510.00404), jumprelu_tanh (JumpReLU in Anthropic's form of January 2025) or rescaled (a "
        "relu run's latents, rescaled and shifted, 2404.16014)",
    )
    k: int = option(
        32,
        "topk, multi_topk, hierarchical_topk, abstopk: active latents of each row; batchtopk, matryoshka: of a row on "
        "average; others: the L0 that is aimed at",
    )
    row_k_max: int | None = option(None, "batchtopk, matryoshka: the most latents that one row keeps; default: 4 k")
    k_start: int | None = option(
        None,
        "topk, abstopk, batchtopk, matryoshka: active latents of a row at the first step, which fall to k; default: k",
    )
    k_anneal: float = option(0.25, "k_start: share of the steps over which they fall from it to k")
    prefixes: tuple[int, ...] = option(
        (),
        "matryoshka: numbers of first latents that reconstruct by themselves, ascending, the last --width; default: 1/32, "
        "3/32, 7/32, 15/32 and all of them",
    )
    random_prefixes: bool = option(
        False, "matryoshka: prefixes but the last are drawn at each step, as many, between the first of them and all"
    )
    ranks: tuple[int, ...] = option(
        (),
        "hierarchical_topk: numbers of largest latents that reconstruct by themselves, ascending, the last k, of equal "
        "weights; default: powers of two and k, each of the weight of the numbers since the one before",
    )
    multi_coefficient: float = option(1 / 8, "multi_topk: weight of the reconstruction by 4 k latents")
    encoder: Literal["auto", *ENCODERS, "approximate"] = option(
        "auto",
        "rankings, in training: auto: exact, by the kernel that suits the device; a kernel by name: that one, as exact; "
        f"approximate: TPUs only, about 0.95 of a row's best. {VARIABLE}=NAME in the environment keeps auto from it",
    )
    aux_k: int | None = option(
        None,
        "rankings: dead latents that model the residual; default: power of two nearest d_model/2, at most 4 k",
    )
    aux_coefficient: float = option(1 / 32, "rankings: weight of the auxiliary loss; 0 turns it off")
    target_l0: float | None = option(
        None,
        "jumprelu, jumprelu_tanh, gated, relu: the L0 that is aimed at, where it is no whole number; default: --k; 0: none, "
        "penalties weigh what their coefficients say",
    )
    l0_coefficient: float = option(
        10.0, "jumprelu: weight of (L0 / target - 1)^2, over a squared error of 1 a number of a row at the start"
    )
    l0_warmup: float = option(0.05, "jumprelu: share of the steps over which that weight rises from 0")
    bandwidth: float | None = option(
        None,
        "jumprelu, jumprelu_tanh: window of the straight-through gradient, for inputs of norm sqrt(d_model); default: 0.3, "
        "of jumprelu_tanh 2",
    )
    l1_coefficient: float = option(
        5.0,
        "relu, gated: weight of the L1 penalty, for inputs of norm sqrt(d_model); where an L0 is aimed at, it begins at 0.02 "
        "of this and is steered",
    )
    l1_warmup: float = option(0.05, "relu, gated: share of the steps over which the L1 weight rises from 0")
    frozen_gate: bool = option(True, "gated: the decoder does not learn by the gate's own reconstruction")
    tanh_coefficient: float = option(
        4.0,
        "jumprelu_tanh: weight of the sparsity penalty; where an L0 is aimed at, it begins at 0.02 of this and is steered",
    )
    tanh_ramp: float | None = option(
        None,
        "jumprelu_tanh: share of the steps over which that weight rises; default: all, or 0.05 where an L0 is aimed at",
    )
    tanh_scale: float = option(4.0, "jumprelu_tanh: c of tanh(c f ||W_dec||)")
    pre_coefficient: float = option(3e-6, "jumprelu_tanh: weight of pre-activations below their thresholds")
    shift: bool = option(True, "rescaled: latents are shifted, too")
    tied: bool = option(False, "the encoder is the decoder's transpose throughout")
    aligned: bool = option(False, "each latent's encoder and decoder rows keep an inner product of 1 (2605.18629)")
    pre_bias: bool | None = option(
        None,
        "whether b_dec is subtracted from the input; default: yes, of relu and both kinds of jumprelu no, of rescaled as its "
        "relu run has it",
    )
    transcode: bool = option(False, "what is written is another site than what is read; follows from --writes")
    skip: bool = option(
        False, "transcode: what is read is also mapped to what is written directly, past the latents (2501.18823)"
    )
    site_widths: tuple[int, ...] = option(
        (), "numbers of each site where several are read and written as one (crosscoder); follows from --reads"
    )
    layers: int = option(
        1, "of a cross-layer transcoder, whose latents belong to them in turns; follows from --cross_layer and --reads"
    )
    frequency_penalty: float = option(
        0.0,
        "weight of a penalty on latents that fire on more than a tenth of the rows, by how far above they are; 0: none",
    )
    orthogonality: float = option(
        0.0, "weight of the mean largest squared cosine between decoder rows (OrtSAE, 2509.22033); 0: none"
    )
    orthogonality_chunk: int = option(1024, "orthogonality: latents, drawn at each step, that it is taken among")
    adversary: float = option(
        0.0,
        "weight of the share of decoder rows that a meta-SAE explains, which learns to in turns with this one (2604.03436); "
        "0: none",
    )
    adversary_width: int | None = option(None, "adversary: latents of the meta-SAE; default: a quarter of --width")
    adversary_k: int = option(4, "adversary: latents of the meta-SAE that are active for a decoder row")
    adversary_rows: int = option(1024, "adversary: latents, drawn at each step, whose decoder rows both learn from")

    def __post_init__(self):
        check_positive(self, *_POSITIVE)
        enough = -(-self.width // self.layers) * self.layers
        fix = f"counts the latents of all {self.layers} layers together: take a multiple of that, such as {enough}"
        check(self.width % self.layers == 0, "width", self.width, fix)
        # Of relu and gated runs of a time before they aimed at an L0, k says nothing.
        means_k = self.takes("k") and not (self.takes("l1_coefficient") and self.k == type(self).k)
        check(not means_k or self.k <= self.width, "k", self.k, f"must be at most --width={self.width}")
        takes_rows = self.takes("row_k_max")
        enough = not takes_rows or (self.row_k_max or self.k) >= self.k  # to come to k on average
        check(enough, "row_k_max", self.row_k_max, f"must be at least --k={self.k}")
        check((self.aux_k or 1) <= self.width, "aux_k", self.aux_k, f"must be at most --width={self.width}")
        for name in _WEIGHTS:
            check(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "must be a number of 0 or above")
        for name in ("l1_warmup", "l0_warmup", "k_anneal", "tanh_ramp"):
            value = getattr(self, name)
            check(value is None or 0 <= value <= 1, name, value, "must be between 0 and 1")
        more = self.k_start is None or self.k <= self.k_start <= self.width
        check(more, "k_start", self.k_start, f"must be from --k={self.k} to --width={self.width}")
        check(self.orthogonality_chunk > 1, "orthogonality_chunk", self.orthogonality_chunk, "must be 2 or more")
        both = self.tied and self.aligned
        check(not both, "aligned", "true", "with --tied=true encoder and decoder rows are one: leave out either")
        l0 = self.target_l0
        check(0 <= (l0 or 0) <= self.width, "target_l0", l0, f"must be from 0 to --width={self.width}")
        for name, end in (("prefixes", "width"), ("ranks", "k")):
            values, last = getattr(self, name), getattr(self, end)
            given = ",".join(map(str, values))
            rises = all(a < b for a, b in zip((0, *values), values, strict=False))
            check(rises, name, given, "must be whole numbers that rise, from 1 on")
            check(not values or values[-1] == last, name, given, f"must end with --{end}={last}")

    def takes(self, switch: str) -> bool:
        """Whether the architecture has this switch."""
        return switch in SWITCHES[self.architecture]

    @property
    def l0_target(self) -> float:
        """The L0 that penalties are to bring about; 0: none."""
        if not self.takes("target_l0"):
            return 0.0
        return min(self.k, self.width) if self.target_l0 is None else self.target_l0

    @property
    def told_k(self) -> float | None:
        """The latents of a row, or the L0 that was aimed at; None where neither was asked for."""
        if self.takes("target_l0"):
            return self.l0_target or None
        return self.k if self.takes("k") else None

    @property
    def is_ranking(self) -> bool:
        """Whether pre-activations are ranked, by an encoder that may be chosen, so that k of them are active."""
        return self.takes("encoder")

    @property
    def k_of_a_row(self) -> bool:
        """Whether every row keeps its own k, so that another k may be asked of a finished dictionary."""
        return self.is_ranking and not self.has_threshold

    @property
    def opponent_width(self) -> int:
        """Latents of the adversary."""
        return self.adversary_width or max(1, self.width // 4)

    @property
    def nested_ranks(self) -> tuple[int, ...]:
        """Numbers of largest latents that reconstruct by themselves: powers of two and k, where no flag says it."""
        return self.ranks or tuple(sorted({2**i for i in range(self.k.bit_length()) if 2**i <= self.k} | {self.k}))

    @property
    def has_threshold(self) -> bool:
        """Whether one threshold stands in for the batch where latents are selected row by row."""
        return self.takes("row_k_max")

    @property
    def nested_prefixes(self) -> tuple[int, ...]:
        """Numbers of first latents that reconstruct by themselves: as 2503.17547 divides 65,536, where no flag says it."""
        shares = {max(1, self.width * share // 32) for share in (1, 3, 7, 15)}
        return self.prefixes or (*sorted(shares - {self.width}), self.width)
