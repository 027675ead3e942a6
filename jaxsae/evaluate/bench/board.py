"""The table: dictionaries by figures, ranks within each, and what stands beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxsae.evaluate.bench.ranks import beats_alone, front, places, ranges
from jaxsae.evaluate.bench.side_by_side import BASES, FIGURES, Sums

EQUAL_L0 = 0.05  # L0s that differ by no more than this share are equal, as in `benchmark --what=known_dictionary`
SAME_L0 = 0.01  # on the front of L0 and FVU no lower FVU stands at an L0 that is higher by this share or less
PAIRED = "side by side"  # where figures are of the same sequences


def paired_columns(sums: Sums, names: Sequence[str]) -> list[dict[str, Any]]:
    """Columns of what was measured side by side."""
    out = []
    for figure, (_, _, better) in FIGURES.items():
        values = [sums.value(name, figure) for name in names]
        if all(value is None for value in values):
            continue
        beats, less = np.zeros((len(names),) * 2, bool), []
        for i, first in enumerate(names):
            less.append(sums.interval(first, figure, names[0]) if i else None)
            for j, second in enumerate(names):
                ends = sums.interval(first, figure, second) if i != j else None
                beats[i, j] = bool(ends) and ends[1] < 0
        intervals = [sums.interval(name, figure) for name in names]
        base = {name: value for name in BASES if (value := sums.value(name, figure)) is not None}
        column = _column(PAIRED, figure, better, values, intervals, beats, base)
        column["less"] = [None if a is None or values[0] is None else a - values[0] for a in values]
        out.append(column | {"less_interval": less, "paired": True, "ranked": figure != "L0"})
    return out


def suite_columns(suites: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Columns of the figures of suites' summaries, of two dictionaries or more."""
    out = []
    for suite, by_name in suites.items():
        figures = {name: {f["name"]: f for f in found.get("figures", ())} for name, found in by_name.items()}
        for figure in dict.fromkeys(f for found in figures.values() for f in found):
            each = [figures.get(name, {}).get(figure, {}) for name in names]
            values, intervals = ([f.get(key) for f in each] for key in ("value", "interval"))
            if sum(value is not None for value in values) < 2:
                continue
            about = next(f for f in each if f)
            better, base = about.get("better", ""), {}
            for f in each:  # those of the first that has them
                base = base or {name: v for name, v in (f.get("baselines") or {}).items() if v is not None}
            beats = beats_alone(values, intervals, better) if better else np.zeros((len(names),) * 2, bool)
            column = _column(suite, figure, better, values, intervals, beats, base)
            less = [_unpaired(values[0], intervals[0], v, e) for v, e in zip(values, intervals, strict=True)]
            column["less"], column["less_interval"] = zip(*less, strict=True)
            ranked = bool(better) and figure not in FIGURES  # those have a column of their own already
            out.append(column | {"paired": False, "ranked": ranked, "percent": bool(about.get("percent"))})
    return out


def _column(
    suite: str, figure: str, better: str, values: list, intervals: list, beats: np.ndarray, base: Mapping[str, float]
) -> dict[str, Any]:
    known = {"values": values, "intervals": intervals, "places": places(values, better), "ranks": ranges(values, beats)}
    return {"suite": suite, "figure": figure, "better": better, "baselines": dict(base), "percent": False} | known


def _unpaired(first: float | None, ends: Any, value: float | None, its: Any) -> tuple[float | None, list[float] | None]:
    """The difference of two figures, and its interval as if they were of sequences that have nothing in common."""
    if first is None or value is None:
        return None, None
    less = value - first
    if not ends or not its or None in (*ends, *its):
        return less, None
    half = float(np.hypot((ends[1] - ends[0]) / 2, (its[1] - its[0]) / 2))
    return less, [less - half, less + half]


def mean_ranks(columns: Sequence[Mapping[str, Any]], count: int) -> list[float | None]:
    """Of each dictionary the mean of its places in the columns that all have; None where there is none."""
    whole = [c["places"] for c in columns if c["ranked"] and None not in c["places"]]
    return [float(np.mean([of[i] for of in whole])) if whole else None for i in range(count)]


def mean_range(columns: Sequence[Mapping[str, Any]], index: int) -> list[float] | None:
    """The means of the best and of the worst ranks that the intervals leave it, in those columns."""
    whole = [c["ranks"][index] for c in columns if c["ranked"] and None not in c["places"]]
    return [float(np.mean([r[end] for r in whole])) for end in (0, 1)] if whole else None


def l0_and_fvu(columns: Sequence[Mapping[str, Any]]) -> tuple[list[float | None], list[float | None]]:
    """Those that were measured side by side."""
    by = {c["figure"]: c["values"] for c in columns if c["suite"] == PAIRED}
    return by["L0"], by["FVU"]


def on_front(columns: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Whether no other has as low an L0, within SAME_L0, and a lower FVU."""
    return front(*l0_and_fvu(columns), SAME_L0)


def unequal(names: Sequence[str], l0: Sequence[float]) -> dict[str, float]:
    """{dictionary: by what share its L0 is off the first one's}, where that is more than EQUAL_L0."""
    return {name: n / l0[0] - 1 for name, n in zip(names, l0, strict=True) if abs(n - l0[0]) > EQUAL_L0 * l0[0]}
