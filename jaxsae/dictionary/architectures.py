"""The dictionaries there are, a row each, by the name that `--architecture` takes."""

from collections.abc import Callable
from statistics import NormalDist

from jaxsae.dictionary import finish, rates
from jaxsae.dictionary.config import MethodConfig
from jaxsae.dictionary.method import Method
from jaxsae.dictionary.objective import NestedPrefixes, SquaredError
from jaxsae.dictionary.penalty import L0, AuxK, GateL1, GateReconstruction, L0Target, L1OfNorms
from jaxsae.dictionary.selection import BatchTopK, Gated, JumpReLU, ReLU, TopK


def _ranking(config: MethodConfig, selection, objective) -> Method:
    aux = AuxK(config.aux_coefficient, config.width, config.aux_k) if config.aux_coefficient > 0 else None
    return Method(config, selection, objective, finish.UnitRows(), rates.Rates(rates.swept), aux)


def _batchtopk(c: MethodConfig) -> BatchTopK:
    return BatchTopK(c.k, min(c.width, c.row_k_max or 4 * c.k), c.encoder)


def topk(c: MethodConfig) -> Method:
    """Gao et al., 2406.04093: L = ||x - x_hat||^2 / d + AuxK."""
    return _ranking(c, TopK(c.k, c.encoder), SquaredError())


def batchtopk(c: MethodConfig) -> Method:
    """Bussmann et al., 2412.06410: TopK over the batch."""
    return _ranking(c, _batchtopk(c), SquaredError())


def matryoshka(c: MethodConfig) -> Method:
    """Bussmann et al., 2503.17547: BatchTopK, each prefix of the latents reconstructs."""
    return _ranking(c, _batchtopk(c), NestedPrefixes(c.nested_prefixes))


def relu(c: MethodConfig) -> Method:
    """Anthropic, Circuits Updates, April 2024: L = ||x - x_hat||^2 + lambda sum_i f_i ||W_dec,i||, decoder rows free."""
    # Latents start small: the penalty takes long to shrink what fits rows at once.
    return Method(
        c,
        ReLU(),
        SquaredError(per_number=False),
        finish.Free(),
        rates.Rates(rates.Fixed(5e-5)),
        penalties=(L1OfNorms(c.l1_coefficient, c.l1_warmup),),
        pre_bias=False,
        start_norm=0.1,
        fits_start=False,
    )


def gated(c: MethodConfig) -> Method:
    """Rajamanoharan et al., 2404.16014: L = ||x - x_hat||^2 + lambda ||ReLU(pi)||_1 + the gate's own reconstruction."""
    return Method(
        c,
        Gated(),
        SquaredError(per_number=False),
        finish.UnitRows(),
        rates.Rates(rates.swept, b1=0.0),
        penalties=(GateL1(c.l1_coefficient, c.l1_warmup), GateReconstruction(c.frozen_gate)),
    )


def jumprelu(c: MethodConfig) -> Method:
    """Rajamanoharan et al., 2407.14435: L = ||x - x_hat||^2 / d + lambda (L0 / L0* - 1)^2, or + lambda L0."""
    target = c.l0_target
    # Pre-activations of unit rows and inputs of norm sqrt(d) are about normal: so many are above it at the start.
    start = NormalDist().inv_cdf(1 - min(max(target or c.k, 0.5), c.width / 2) / c.width)
    l0 = L0Target(c.l0_coefficient, c.l0_warmup, target) if target else L0(c.l0_coefficient, c.l0_warmup)
    return Method(
        c,
        JumpReLU(c.bandwidth, start),
        SquaredError(),
        finish.UnitRowsAndThresholds(),
        rates.Rates(rates.swept),  # the paper's b1 of 0 gave a higher error in runs of 1,000 steps (BUILD_NOTES)
        penalties=(l0,),
        pre_bias=False,
    )


ARCHITECTURES: dict[str, Callable[[MethodConfig], Method]] = {
    row.__name__: row for row in (topk, batchtopk, matryoshka, jumprelu, gated, relu)
}


def make_method(config: MethodConfig) -> Method:
    """The method that `config.architecture` names."""
    return ARCHITECTURES[config.architecture](config)
