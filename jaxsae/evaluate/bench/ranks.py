"""Ranks of dictionaries by a figure, as ranges where intervals overlap, and which of them nothing beats."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from jaxsae.evaluate.summary import MORE

Interval = Sequence[float | None] | None


def beats_alone(values: Sequence[float | None], intervals: Sequence[Interval], better: str) -> np.ndarray:
    """bool [n, n]: whether i is better than j by a figure: with the whole of its interval, or by its value where one of them
    has none."""
    sign, n = (1 if better == MORE else -1), len(values)
    out = np.zeros((n, n), bool)
    for i in range(n):
        for j in range(n):
            if i == j or values[i] is None or values[j] is None:
                continue
            a, b = intervals[i], intervals[j]
            if a and b and None not in (*a, *b):
                out[i, j] = a[0] > b[1] if sign > 0 else a[1] < b[0]
            else:
                out[i, j] = sign * (values[i] - values[j]) > 0
    return out


def ranges(values: Sequence[float | None], beats: np.ndarray) -> list[tuple[int, int] | None]:
    """(best, worst rank) of each: 1 and those that beat it, to all but those that it beats; None without a value."""
    there = np.array([value is not None for value in values])
    out: list[tuple[int, int] | None] = []
    for i, known in enumerate(there):
        out.append((1 + int(beats[:, i].sum()), int(there.sum() - beats[i].sum())) if known else None)
    return out


def places(values: Sequence[float | None], better: str) -> list[float | None]:
    """The rank of each by its value alone, equal ones sharing their mean; None without a value."""
    known = [i for i, value in enumerate(values) if value is not None]
    sign, out = (-1 if better == MORE else 1), [None] * len(values)
    for i, rank in zip(known, rankdata([sign * values[i] for i in known]), strict=True):
        out[i] = float(rank)
    return out


def front(x: Sequence[float | None], y: Sequence[float | None], slack: float = 0.0) -> list[bool]:
    """Whether each is on the Pareto front of two figures of which less is better: none is as small in both, and smaller in
    one.

    Args:
      slack: share by which two of `x` may differ and count as equal.
    """
    points = [None if a is None or b is None else (a, b) for a, b in zip(x, y, strict=True)]

    def beaten(p: tuple[float, float], q: tuple[float, float]) -> bool:
        if abs(q[0] - p[0]) <= slack * p[0]:
            return q[1] < p[1]
        return q[0] < p[0] and q[1] <= p[1]

    return [p is not None and not any(q is not None and beaten(p, q) for q in points) for p in points]
