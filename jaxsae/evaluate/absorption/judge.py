"""Rows on which a parent holds and its probe says so: does a main latent fire, or does another carry the parent's direction?

With p the probe's direction, a latent's projection is f_i W_dec,i . p, and the row's own (x - origin) . p.

Absorbed (in full, by one latent): no main latent fires, the latent with the largest projection has a cosine with p of
`cosine` or more, and its projection is `share` or more of the row's, which is above 0.

Fraction (absorbed in part, by some latents): of the others with a cosine of `part_cosine` or more and a projection above 0
the `part_latents` largest have together A, the main ones M, the row P: 0 where M >= P or A < `share` P; 1 where M <= 0; else
A' / (A' + M) with A' = min(A, P - M).
"""

import dataclasses

import numpy as np
import scipy.sparse as sp

from jaxsae.evaluate.absorption_config import AbsorptionConfig


@dataclasses.dataclass(frozen=True)
class Judged:
    """Of N rows.

    Attributes:
      main: bool [N], a main latent fires. absorbed: bool [N]. fraction: float64 [N]. absorber: int [N], the latent with the
        largest projection, -1 where none is active.
    """

    main: np.ndarray
    absorbed: np.ndarray
    fraction: np.ndarray
    absorber: np.ndarray


def judge(
    latents: sp.csr_matrix,
    projections: np.ndarray,
    onto_n: np.ndarray,
    cosines_n: np.ndarray,
    main: list[int],
    config: AbsorptionConfig,
) -> Judged:
    """What became of the parent on rows on which it holds.

    Args:
      latents: float32 [N, n]. projections: float64 [N] of the rows.
      onto_n: float64 [n], W_dec . p. cosines_n: float64 [n], of each latent's decoder and p.
    """
    values, index = padded(latents)
    own = values * onto_n[index]
    is_main = np.isin(index, main) & (values != 0)
    fires = is_main.any(1)
    top = own.argmax(1) if own.shape[1] else np.zeros(len(own), int)
    rows = np.arange(len(own))
    largest, absorber = own[rows, top], np.where(values[rows, top] != 0, index[rows, top], -1)
    aligned = (absorber >= 0) & (cosines_n[absorber] >= config.absorption_cosine)
    absorbed = ~fires & aligned & (projections > 0) & (largest >= config.absorption_share * projections)

    by_main = np.where(is_main, own, 0).sum(1)
    others = ~is_main & (values != 0) & (cosines_n[index] >= config.absorption_part_cosine) & (own > 0)
    carried = np.sort(np.where(others, own, 0), 1)[:, ::-1][:, : config.absorption_part_latents].sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        enough = (by_main < projections) & (carried / projections >= config.absorption_share)
        rest = np.minimum(carried, projections - by_main)
        fraction = np.where(by_main <= 0, 1.0, np.clip(rest / (rest + by_main), 0, 1))
    return Judged(fires, absorbed, np.where(enough, fraction, 0.0), absorber)


def padded(latents: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Values float64 and columns int [N, most of a row, at least 1] of a sparse matrix; 0 and 0 where a row has fewer."""
    counts = np.diff(latents.indptr)
    shape = len(counts), max(int(counts.max(initial=0)), 1)
    values, index = np.zeros(shape), np.zeros(shape, int)
    row = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(latents.data)) - np.repeat(latents.indptr[:-1], counts)
    values[row, place], index[row, place] = latents.data, latents.indices
    return values, index
