"""The dictionaries there are, a row each, by the name that `--architecture` takes."""

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from statistics import NormalDist

from jaxsae.dictionary import finish, rates
from jaxsae.dictionary.config import MethodConfig
from jaxsae.dictionary.method import Method
from jaxsae.dictionary.objective import ByRank, NestedPrefixes, Objective, SquaredError
from jaxsae.dictionary.penalty import (
    L0,
    AuxK,
    GateL1,
    GateReconstruction,
    L0Target,
    L1OfNorms,
    PreActivations,
    Steer,
    TanhOfNorms,
)
from jaxsae.dictionary.penalty.adversary import Adversary
from jaxsae.dictionary.penalty.frequency import Frequency
from jaxsae.dictionary.penalty.orthogonality import Orthogonality
from jaxsae.dictionary.selection import (
    AbsTopK,
    Anneal,
    BatchTopK,
    Gated,
    JumpReLU,
    JumpReLUTanh,
    Ranking,
    ReLU,
    Rescaled,
    TopK,
)


def _method(c: MethodConfig, selection, objective: Objective, end: finish.Finish, rate: rates.Rates, **more) -> Method:
    """A method with the switches that all take."""
    more["pre_bias"] = more.get("pre_bias", True) if c.pre_bias is None else c.pre_bias
    if c.transcode:  # rows of a decoder that starts at 0 have no length to keep
        end = finish.Thresholds() if isinstance(end, finish.UnitRowsAndThresholds) else finish.Free()
        more |= {"pre_bias": False, "fits_start": False}
        ranked = rates.TRANSCODER if c.layers == 1 else rates.DECODER
        rate = dataclasses.replace(rate, decoder=ranked if c.is_ranking else 1.0)
    if c.site_widths and isinstance(end, finish.UnitRows):
        made = finish.UnitSitesAndThresholds if isinstance(end, finish.Thresholds) else finish.UnitSites
        end = made(sites=c.site_widths)
    end = finish.Tied(end) if c.tied else finish.Aligned(end) if c.aligned else end
    if c.tied or c.aligned:  # how long the encoder's rows are is then no matter of choice
        more["fits_start"] = False
    rows = ()
    if c.orthogonality:
        rows += (Orthogonality(c.orthogonality, c.orthogonality_chunk),)
    if c.adversary:
        rows += (Adversary(c.adversary, c.opponent_width, c.adversary_k, c.adversary_rows),)
    frequency = Frequency(c.frequency_penalty) if c.frequency_penalty else None
    return Method(c, selection, objective, end, rate, frequency=frequency, rows=rows, **more)


def _ranking(c: MethodConfig, selection: Ranking, objective: Objective) -> Method:
    aux = AuxK(c.aux_coefficient, c.width, 4 * c.k, c.aux_k) if c.aux_coefficient > 0 else None
    return _method(c, selection, objective, finish.UnitRows(), rates.SWEPT, aux=aux)


def _anneal(c: MethodConfig) -> Anneal | None:
    return Anneal(c.k_start, c.k_anneal) if (c.k_start or c.k) > c.k and c.k_anneal > 0 else None


def _batchtopk(c: MethodConfig) -> BatchTopK:
    return BatchTopK(c.k, min(c.width, c.row_k_max or 4 * c.k), c.encoder, _anneal(c))


def _steer(c: MethodConfig, direct: float = 0.0) -> Steer | None:
    return Steer(c.l0_target, max(c.l0_target, c.width / 4), direct=direct) if c.l0_target else None


def topk(c: MethodConfig) -> Method:
    """Gao et al., 2406.04093: L = ||x - x_hat||^2 / d + AuxK."""
    return _ranking(c, TopK(c.k, c.encoder, _anneal(c)), SquaredError())


def batchtopk(c: MethodConfig) -> Method:
    """Bussmann et al., 2412.06410: TopK over the batch."""
    return _ranking(c, _batchtopk(c), SquaredError())


def matryoshka(c: MethodConfig) -> Method:
    """Bussmann et al., 2503.17547: BatchTopK, each prefix of the latents reconstructs."""
    return _ranking(c, _batchtopk(c), NestedPrefixes(c.nested_prefixes, c.random_prefixes))


def multi_topk(c: MethodConfig) -> Method:
    """Gao et al., 2406.04093, A.3: L(k) + L(4 k) / 8."""
    most = min(4 * c.k, c.width)
    ranks = (c.k, most) if most > c.k else (c.k,)
    return _ranking(c, TopK(most, c.encoder), ByRank(ranks, (1.0, c.multi_coefficient)[: len(ranks)], kept=1))


def hierarchical_topk(c: MethodConfig) -> Method:
    """2505.24473: the mean of the errors by the j largest latents, of the j that --ranks names, or all from 1 to k."""
    ranks = c.nested_ranks
    # Where no flag says them each stands for those since the one before: with equal weights half of the loss would be
    # of the few latents that come first.
    shares = [1] * len(ranks) if c.ranks else [j - i for i, j in pairwise((0, *ranks))]
    weights = tuple(share / sum(shares) for share in shares)
    return _ranking(c, TopK(c.k, c.encoder), ByRank(ranks, weights, kept=len(ranks)))


def abstopk(c: MethodConfig) -> Method:
    """2510.00404: TopK of sizes, latents keep their signs."""
    return _ranking(c, AbsTopK(c.k, c.encoder, _anneal(c)), SquaredError())


def relu(c: MethodConfig) -> Method:
    """Anthropic, Circuits Updates, April 2024: L = ||x - x_hat||^2 + lambda sum_i f_i ||W_dec,i||, decoder rows free."""
    steer = _steer(c)
    # Under a weight that is fixed latents start small: it takes long to shrink what fits rows at once.
    return _method(
        c,
        ReLU(),
        SquaredError(per_number=False),
        finish.Free(),
        rates.Rates(rates.swept, decoder=rates.DECODER if steer else 1.0),
        penalties=(L1OfNorms(c.l1_coefficient, c.l1_warmup, steer, sites=c.site_widths),),
        pre_bias=False,
        start_norm=1.0 if steer else 0.1,
        fits_start=steer is not None,
    )


def rescaled(c: MethodConfig) -> Method:
    """Rajamanoharan et al., 2404.16014, 5.3: a finished relu's latents, rescaled and shifted for a lower squared error."""
    end, rate = finish.Magnitudes(shift=c.shift), rates.Rates(rates.swept, decoder=1.0)  # nothing of it learns
    return _method(c, Rescaled(c.shift), SquaredError(), end, rate, pre_bias=False, fits_start=False)


def gated(c: MethodConfig) -> Method:
    """Rajamanoharan et al., 2404.16014: L = ||x - x_hat||^2 + lambda ||ReLU(pi)||_1 + the gate's own reconstruction."""
    return _method(
        c,
        Gated(),
        SquaredError(per_number=False),
        finish.UnitRows(),
        rates.SWEPT,  # the paper's b1 of 0 gave an FVU of 0.078 where 0.9 gives 0.050 (BUILD_NOTES)
        penalties=(GateL1(c.l1_coefficient, c.l1_warmup, _steer(c)), GateReconstruction(c.frozen_gate)),
    )


def jumprelu(c: MethodConfig) -> Method:
    """Rajamanoharan et al., 2407.14435: L = ||x - x_hat||^2 / d + lambda (L0 / L0* - 1)^2, or + lambda L0."""
    target = c.l0_target
    # Pre-activations of unit rows and inputs of norm sqrt(d) are about normal: so many are above it at the start.
    start = NormalDist().inv_cdf(1 - min(max(target or c.k, 0.5), c.width / 2) / c.width)
    l0 = L0Target(c.l0_coefficient, c.l0_warmup, target=target) if target else L0(c.l0_coefficient, c.l0_warmup)
    return _method(
        c,
        JumpReLU(c.bandwidth or 0.3, start),
        SquaredError(),
        finish.UnitRowsAndThresholds(),
        rates.SWEPT,  # the paper's b1 of 0 gave a higher error in runs of 1,000 steps (BUILD_NOTES)
        penalties=(l0,),
        pre_bias=False,
    )


def jumprelu_tanh(c: MethodConfig) -> Method:
    """Anthropic, Circuits Updates, January 2025: JumpReLU with a tanh penalty whose gradient reaches all parameters."""
    ramp = c.tanh_ramp if c.tanh_ramp is not None else 0.05 if c.l0_target else 1.0
    return _method(
        c,
        JumpReLUTanh(c.bandwidth or 2.0, start=0.1),
        SquaredError(per_number=False),
        finish.Free(),
        rates.Rates(rates.swept, decoder=1.0),  # with 4, FVU is 0.074 where it is 0.063 (BUILD_NOTES)
        penalties=(
            TanhOfNorms(c.tanh_coefficient, ramp, _steer(c, direct=0.5), scale=c.tanh_scale, sites=c.site_widths),
            PreActivations(c.pre_coefficient, 0.0, sites=c.site_widths),
        ),
        pre_bias=False,
    )


ARCHITECTURES: dict[str, Callable[[MethodConfig], Method]] = {
    row.__name__: row
    for row in (
        topk,
        batchtopk,
        matryoshka,
        jumprelu,
        gated,
        relu,
        multi_topk,
        hierarchical_topk,
        abstopk,
        jumprelu_tanh,
        rescaled,
    )
}


def make_method(config: MethodConfig) -> Method:
    """The method that `config.architecture` names."""
    return ARCHITECTURES[config.architecture](config)
