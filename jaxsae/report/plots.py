"""Plots as inline SVG in the page's own colours and type, so that they follow its light and dark themes."""

import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from jaxsae.numbers import short

# Stand-ins that matplotlib can draw with, and the CSS variables that take their place.
INK, MUTED, GRID, ACCENT, WARN = "#010203", "#020304", "#030405", "#040506", "#050607"
PAPER = "#060708"
SERIES = tuple(f"#0708{i:02d}" for i in range(8))  # colours of ordered series, from small to large
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", ACCENT: "--accent", WARN: "--warn", PAPER: "--paper"}
_VARIABLES |= {stand_in: f"--s{i}" for i, stand_in in enumerate(SERIES)}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxsae",
    "font.size": 9,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "text.color": INK,
}
POINTS = 600  # of a curve; more would only make the page heavy


def curve(name: str, tokens: Sequence[float], values: Sequence[float], log: bool, description: str) -> Markup:
    """A training curve against tokens; `log` asks for a logarithmic axis where all values allow it."""
    points = [(t, v) for t, v in zip(tokens, values, strict=True) if _finite(t) and _finite(v)]
    step = max(1, len(points) // POINTS)
    points = points[::-1][::step][::-1]  # keeps the last
    with matplotlib.rc_context(STYLE):
        figure, axes = new()
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=ACCENT, linewidth=1.6)
            axes.plot(x[-1:], y[-1:], "o", color=ACCENT, markersize=4)
            _y_axis(axes, y, log)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axes.set_xlabel("tokens")
        return svg(figure, name, description)


def histogram(name: str, log10_edges: Sequence[float], counts: Sequence[int], never: int, description: str) -> Markup:
    """Latents by log10 of how often they fire; those that never do stand apart on the left."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new(width=12.4, height=3.2)
        widths = [b - a for a, b in itertools.pairwise(log10_edges)]
        axes.bar(log10_edges[:-1], counts, width=widths, align="edge", color=ACCENT, edgecolor=ACCENT, linewidth=0.4)
        left = log10_edges[0] - 0.9
        axes.bar([left], [never], width=0.5, color=WARN, edgecolor="none")
        ticks = list(range(math.ceil(log10_edges[0]), 1))
        axes.set_xticks([left, *ticks], ["never", *(power_of_ten(t) for t in ticks)])
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axes.set_xlabel("share of rows that a latent is active on")
        axes.set_ylabel("latents")
        return svg(figure, name, description)


def by_number(
    name: str, series: Mapping[str, Sequence[float | None]], x: str, y: str, description: str, percent: bool = False
) -> Markup:
    """A line with points for each of `series`, {label: values at 1, 2, ...}; None: no value there."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new(width=6.2, height=3.2)
        for i, (label, values) in enumerate(series.items()):
            at = [n for n, value in enumerate(values, 1) if _finite(value)]
            color, style = (ACCENT, "o-") if not i else (WARN, "o--")
            axes.plot(at, [values[n - 1] for n in at], style, color=color, markersize=4, linewidth=1.5, label=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        shown = (lambda value, _: f"{100 * value:.3g}%") if percent else (lambda value, _: short(value))
        axes.yaxis.set_major_formatter(FuncFormatter(shown))
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.legend(frameon=False, fontsize=8)
        return svg(figure, name, description)


def power_of_ten(exponent: int) -> str:
    """-3 -> 10⁻³; the largest few in plain digits."""
    plain = {0: "1", -1: "0.1", -2: "0.01"}
    return plain.get(exponent, "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")))


def series_color(i: int, count: int) -> str:
    """Colour of the i-th of `count` ordered series, spread over the scale."""
    return SERIES[round(i * (len(SERIES) - 1) / max(1, count - 1))]


def new(width: float = 4.2, height: float = 2.3) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _y_axis(axes: Axes, values: Sequence[float], log: bool) -> None:
    if log and min(values) > 0 and max(values) > 5 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif min(values) >= 0:
        axes.set_ylim(0, 1.08 * max(values) or 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an <svg> element that stands alone: own ids, theme colours, no links, a text for readers."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'((?: id="|href="#|url\(#))', rf"\g<1>{re.sub(r'[^a-z0-9]', '-', name)}-", text)
    text = re.sub(r"(font: [\d.]+px) [^;\"]*", r"\1 system-ui, sans-serif", text)
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, f"var({variable})")
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    label = escape(description)
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip())


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
