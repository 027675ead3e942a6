"""Plots of a sweep: frontiers, compute, dead latents, and the fitted surface with members and held-out members on it."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from jaxsae.numbers import short
from jaxsae.report.plots import INK, MUTED, PAPER, STYLE, WARN, new, series_color, svg
from jaxsae.sweep.laws import JOINT, JOINT_WITHOUT_FLOOR, Law

Line = tuple[str, Sequence[float], Sequence[float]]  # label, x, y
BEYOND = 4.0  # how far past the widths the fitted law is drawn
_LAWS = {law.name: law for law in (JOINT, JOINT_WITHOUT_FLOOR)}
_HELD_OUT = dict(
    marker="o", markersize=8.5, markerfacecolor="none", markeredgecolor=WARN, markeredgewidth=1.6, linestyle="none"
)


def lines(
    name: str,
    series: Sequence[Line],
    x: str,
    y: str,
    legend: str,
    description: str,
    percent: bool = False,
    **size: float,
) -> Markup:
    """One line with points for each series, ordered from small to large; logarithmic but for percentages."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new(**{"width": 5.4, "height": 3.4} | size)
        for i, (label, across, up) in enumerate(series):
            order = np.argsort(across)
            color = series_color(i, len(series))
            axes.plot(
                np.take(across, order), np.take(up, order), "o-", color=color, markersize=4, linewidth=1.5, label=label
            )
        _log(axes.xaxis, [v for _, across, _ in series for v in across])
        if percent:
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g}%"))
        else:
            _log(axes.yaxis, [v for _, _, up in series for v in up])
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        _legend(axes, legend)
        return svg(figure, name, description)


def compute(
    name: str, curves: Sequence[Line], aside: Sequence[bool], fit: dict[str, Any] | None, law: Law, description: str
) -> Markup:
    """FVU against FLOPs: each width's training curves, their envelope, and the law fitted to it; `aside`: not fitted."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new(5.0, 3.4)
        widths = list(dict.fromkeys(label for label, _, _ in curves))
        for (label, flops, fvu), out in zip(curves, aside, strict=True):
            color, style = series_color(widths.index(label), len(widths)), (0, (1, 1.5)) if out else "-"
            text = f"{label}, held out" if out else label
            axes.plot(flops, fvu, color=color, linestyle=style, linewidth=1.0, alpha=0.85, label=text)
        low = np.concatenate([np.asarray(fvu) for _, _, fvu in curves])
        if fit:
            envelope = fit["envelope"]
            at = {used: [i for i, fitted in enumerate(envelope["fitted"]) if fitted == used] for used in (True, False)}
            for used, color, label in ((False, MUTED, "not contested"), (True, INK, "envelope")):
                x, y = (np.take(envelope[v], at[used]) for v in ("flops", "fvu"))
                axes.plot(x, y, "o", color=color, markersize=2.6, label=label, zorder=4)
            if fit["constants"]:
                values = {c: entry["value"] for c, entry in fit["constants"].items()}
                flops = np.geomspace(envelope["flops"][min(at[True])], 10 * envelope["flops"][-1], 100)
                axes.plot(flops, law(values, C=flops), color=INK, linestyle=(0, (5, 3)), linewidth=1.1, label="L(C)")
        top = np.quantile(low, 0.9)  # the first steps would squeeze the rest
        axes.set_xscale("log")
        _powers(axes.xaxis)
        _log(axes.yaxis, np.linspace(low.min(), top, 50))
        axes.set_ylim(low.min() / 1.12, top * 1.05)
        axes.set_xlabel("training FLOPs")
        axes.set_ylabel("FVU")
        _legend(axes, "latents")
        return svg(figure, name, description)


def surface(
    name: str, joint: dict[str, Any], members: Sequence[dict], held_out: Sequence[dict], description: str
) -> Markup:
    """Contours of the fitted L(n, k), the members on it as points with their FVU, held-out ones ringed."""
    law = _law(joint)
    with matplotlib.rc_context(STYLE):
        figure, axes = new(5.6, 4.1)
        n_low, n_high, k_low, k_high = _ends(joint, held_out)
        n = np.geomspace(n_low / 1.25, n_high * 1.25, 90)
        k = np.geomspace(k_low / 1.25, k_high * 1.25, 80)
        values = law(n=n[None, :], k=k[:, None])
        levels = np.unique(np.round(np.geomspace(values.min(), values.max(), 11)[1:-1], 3))
        shades = [series_color(i, len(levels)) for i in range(len(levels))][::-1]
        drawn = axes.contour(n, k, values, levels=levels, colors=shades, linewidths=1.3)
        axes.clabel(drawn, fmt=lambda value: f"{value:.3g}", fontsize=8)
        edge = joint["range"]["n"][1]
        if n_high > edge * 1.01:
            axes.axvline(edge * 1.06, color=MUTED, linestyle=(0, (2, 3)), linewidth=1)
            axes.annotate(
                "beyond the fit",
                (edge * 1.1, 0.98),
                xycoords=("data", "axes fraction"),
                color=MUTED,
                fontsize=8,
                va="top",
            )
        for marked, style in (
            (members, dict(color=INK, edgecolors=PAPER)),
            (held_out, dict(color=WARN, edgecolors=PAPER)),
        ):
            axes.scatter(
                [m["width"] for m in marked], [m["k"] for m in marked], s=26, zorder=4, linewidths=0.8, **style
            )
        axes.plot([m["width"] for m in held_out], [m["k"] for m in held_out], zorder=5, **_HELD_OUT)
        for m in (*members, *held_out):
            axes.annotate(
                f"{m['fvu']:.3f}", (m["width"], m["k"]), (0, 6), textcoords="offset points", fontsize=7, ha="center"
            )
        for axis, ticks in (
            (axes.xaxis, {m["width"] for m in (*members, *held_out)}),
            (axes.yaxis, {m["k"] for m in (*members, *held_out)}),
        ):
            _log(axis, sorted(ticks), exactly=True)
        axes.grid(visible=False)
        axes.set_xlabel("latents n")
        axes.set_ylabel("active latents k")
        return svg(figure, name, description)


def sections(
    name: str, joint: dict[str, Any], members: Sequence[dict], held_out: Sequence[dict], description: str
) -> Markup:
    """L(n, k) against n for each k of the members, with members and held-out ones."""
    law = _law(joint)
    with matplotlib.rc_context(STYLE):
        figure, axes = new(5.6, 4.1)
        ks = sorted({m["nominal_k"] for m in (*members, *held_out)})
        low, high = joint["range"]["n"]
        for i, k in enumerate(ks):
            own = [m for m in members if m["nominal_k"] == k]
            aside = [m for m in held_out if m["nominal_k"] == k]
            color = series_color(i, len(ks))
            at = np.mean([m["k"] for m in own or aside])
            inside, outside = np.geomspace(low, high, 60), np.geomspace(high, high * BEYOND, 30)
            axes.plot(inside, law(n=inside, k=at), color=color, linewidth=1.4, label=f"{k:g}")
            axes.plot(outside, law(n=outside, k=at), color=color, linewidth=1.2, linestyle=(0, (4, 3)))
            axes.plot([m["width"] for m in own], [m["fvu"] for m in own], "o", color=color, markersize=4.5)
            axes.plot([m["width"] for m in aside], [m["fvu"] for m in aside], "o", color=color, markersize=4.5)
        ring = dict(_HELD_OUT, label="held out")
        if held_out:
            axes.plot([m["width"] for m in held_out], [m["fvu"] for m in held_out], zorder=5, **ring)
        _log(axes.xaxis, sorted({m["width"] for m in (*members, *held_out)}), exactly=True)
        _log(axes.yaxis, [m["fvu"] for m in (*members, *held_out)])
        axes.set_xlabel("latents n")
        axes.set_ylabel("FVU")
        _legend(axes, "k")
        return svg(figure, name, description)


def _law(joint: dict[str, Any]) -> Callable[..., np.ndarray]:
    constants = {name: entry["value"] for name, entry in joint["constants"].items()}
    return lambda **x: _LAWS[joint["law"]](constants, **x)


def _ends(joint: dict[str, Any], held_out: Sequence[dict]) -> tuple[float, float, float, float]:
    n, k = ([*joint["range"][v], *(m[name] for m in held_out)] for v, name in (("n", "width"), ("k", "k")))
    return min(n), max(n), min(k), max(k)


def _legend(axes: Axes, title: str) -> None:
    handles, labels = axes.get_legend_handles_labels()
    first = dict(reversed(list(zip(reversed(labels), reversed(handles), strict=True))))
    if len(first) > 1:
        options = dict(frameon=False, fontsize=8, title_fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes.legend(first.values(), first.keys(), title=title, **options)


def _log(axis: Any, values: Sequence[float], exactly: bool = False) -> None:
    """A logarithmic axis with readable numbers; ticks at `values` themselves where asked for."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    span = max(values) / min(values)
    if exactly or len(set(values)) <= 6:
        axis.set_major_locator(matplotlib.ticker.FixedLocator(sorted(set(values))[:: 1 + len(set(values)) // 10]))
    elif span < 5:
        axis.set_major_locator(MaxNLocator(5))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if 1000 <= value < 1e5 else short(value)))


def _powers(axis: Any) -> None:
    axis.set_major_locator(LogLocator(numticks=6))
    axis.set_minor_locator(NullLocator())
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    axis.set_major_formatter(FuncFormatter(lambda value, _: "10" + str(round(np.log10(value))).translate(digits)))
