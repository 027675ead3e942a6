"""Plots that suites describe as data: lines, points and bars, with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from jaxsae.numbers import is_number, short
from jaxsae.report import plots

_FIRST = (plots.ACCENT, plots.WARN, plots.INK, plots.MUTED)  # of few series
_STYLES = ("-", "--", "-.", ":")
_MARKS = "os^Dv<>P"


def draw(name: str, plot: Mapping[str, Any]) -> Markup:
    """A `Plot` of `evaluate/summary.py`, as its JSON has it."""
    series = plot["series"]
    with matplotlib.rc_context(plots.STYLE):
        figure, axes = plots.new(width=6.6, height=3.6)
        if plot["kind"] == "bars":
            _bars(axes, plot)
        else:
            _lines(axes, plot)
        for level in plot.get("guides", {}).values():
            axes.axhline(level, color=plots.MUTED, linewidth=0.9, linestyle=":")
        for label, level in plot.get("guides", {}).items():
            axes.annotate(label, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7.5)
        axes.set_xlabel(plot["x_label"])
        axes.set_ylabel(plot["y_label"])
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=8)
        return plots.svg(figure, name, _described(plot))


def _color(i: int, count: int) -> str:
    return _FIRST[i] if count <= len(_FIRST) else plots.series_color(i, count)


def _lines(axes: Axes, plot: Mapping[str, Any]) -> None:
    series, count = plot["series"], len(plot["series"])
    for i, (label, values) in enumerate(series.items()):
        at = [j for j, value in enumerate(values) if is_number(value) and is_number(plot["x"][j])]
        x, y = [plot["x"][j] for j in at], [values[j] for j in at]
        color, mark = _color(i, count), _MARKS[i % len(_MARKS)]
        line = "none" if plot["kind"] == "points" else _STYLES[i % len(_STYLES)] if count <= 4 else "-"
        axes.plot(x, y, linestyle=line, marker=mark, color=color, markersize=3.5, linewidth=1.5, label=label)
        _whiskers(axes, x, y, [_interval(plot, label, j) for j in at], color)
    if plot.get("log_x") and all(is_number(x) and x > 0 for x in plot["x"]):
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    known = [v for values in series.values() for v in values if is_number(v)]
    if plot.get("log_y") and known and min(known) > 0:
        axes.set_yscale("log")
    else:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def _bars(axes: Axes, plot: Mapping[str, Any]) -> None:
    series, count = plot["series"], len(plot["series"])
    width = 0.8 / max(1, count)
    for i, (label, values) in enumerate(series.items()):
        at = [j for j, value in enumerate(values) if is_number(value)]
        x = [j + (i - (count - 1) / 2) * width for j in at]
        color = _color(i, count)
        axes.bar(x, [values[j] for j in at], 0.92 * width, color=color, edgecolor="none", label=label)
        _whiskers(axes, x, [values[j] for j in at], [_interval(plot, label, j) for j in at], plots.MUTED)
    long = sum(map(len, map(str, plot["x"]))) > 60
    turned = {"rotation": 30, "ha": "right"} if long else {}
    axes.set_xticks(range(len(plot["x"])), [str(x) for x in plot["x"]], fontsize=8, **turned)
    axes.grid(visible=False, axis="x")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def _interval(plot: Mapping[str, Any], label: str, j: int) -> Sequence[float] | None:
    of_series = plot.get("intervals", {}).get(label)
    ends = of_series[j] if of_series else None
    return ends if ends and all(map(is_number, ends)) else None


def _whiskers(
    axes: Axes, x: Sequence[float], y: Sequence[float], ends: Sequence[Sequence[float] | None], color: str
) -> None:
    some = [(a, b, e) for a, b, e in zip(x, y, ends, strict=True) if e]
    if some:
        # An interval of a bootstrap need not hold the figure itself.
        low, high = [max(0, b - e[0]) for _, b, e in some], [max(0, e[1] - b) for _, b, e in some]
        at = [a for a, _, _ in some], [b for _, b, _ in some]
        axes.errorbar(*at, yerr=[low, high], fmt="none", ecolor=color, elinewidth=0.9, capsize=2)


def _described(plot: Mapping[str, Any]) -> str:
    """For readers who do not see it: the ends of each series."""
    told = []
    for label, values in plot["series"].items():
        known = [v for v in values if is_number(v)]
        told.append(f"{label} from {known[0]:.4g} to {known[-1]:.4g}" if known else f"{label} without values")
    return f"{plot['title']}, {plot['y_label']} against {plot['x_label']}: {'; '.join(told)}"
