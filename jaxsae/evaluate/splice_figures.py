"""What splices into any model have in common: their stand-ins, and the figures taken of them."""

from typing import Any

import numpy as np

from jaxsae.evaluate.intervals import Z_95

STAND_INS = ("spliced", "zero", "mean")


def recovered(ce: float, ce_spliced: float, ce_base: float) -> float | None:
    """Share of what a baseline costs that is avoided, (CE_base - CE_spliced) / (CE_base - CE): loss recovered where zeros
    are the baseline, else faithfulness (Marks et al., 2403.19647); None where the baseline costs nothing."""
    return 1 - (ce_spliced - ce) / (ce_base - ce) if ce_base > ce else None


def interval(sums: np.ndarray, counts: np.ndarray | None = None) -> list[float] | None:
    """95% normal interval of sum(sums) / sum(counts) over independent games or sequences; None for one of them.

    Args:
      sums: [N], over the predictions of each.
      counts: [N], how many those are; default: one each, for the interval of a mean.
    """
    if len(sums) < 2:
        return None
    counts = np.ones(len(sums)) if counts is None else counts
    ratio = sums.sum() / counts.sum()
    rest = sums - ratio * counts
    half = Z_95 * np.sqrt(len(sums) / (len(sums) - 1) * np.square(rest).sum()) / counts.sum()
    return [ratio - half, ratio + half]


def with_interval(results: dict[str, Any], name: str) -> str:
    """A figure and its interval, where it has one, as a table shows them."""
    ends = results[f"{name}_interval"]
    return f"{results[name]:.4f}" + (f" [{ends[0]:.4f}, {ends[1]:.4f}]" if ends else "")


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """float64 log-probabilities over the last axis."""
    x = np.asarray(logits, np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))
