"""A meta-SAE's part of the page: what it explains of another dictionary's decoder, and the latents' own parts."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsae.evaluate.context import is_meta_sae
from jaxsae.numbers import is_number, short
from jaxsae.report import plots
from jaxsae.report.figures import Card, Group, Row, count, decimal, part, percent
from jaxsae.report.read import RunFiles

SUITE = "decomposability"
TITLE = "The decoder in meta-latents"
DRAWN = 7  # latents in each half of the picture


def is_meta(run: RunFiles, metadata: Mapping[str, Any]) -> bool:
    """Whether the run is a meta-SAE's."""
    return bool(run.flags.get("source_run")) or is_meta_sae(metadata)


def group(run: RunFiles) -> Group:
    """The figures beside their baselines, or the command that makes them."""
    e = run.evaluations.get(SUITE)
    if e is None:
        return Group(TITLE, missing=f"jaxsae evaluate --run={run.path} --suite={SUITE}")
    pca, control = part(e, "baselines", "pca_k"), part(e, "baselines", "random_decoder")
    matched = part(e, "baselines", "random_dictionary")
    beside = {"mean": decimal(part(e, "baselines", "mean").get("explained_variance"))}
    beside[f"PCA, {count(pca.get('components'))} components"] = decimal(pca.get("explained_variance"))
    named = f"best {count(matched.get('k'))} of {count(matched.get('width'))} random directions"
    beside[named] = decimal(matched.get("explained_variance"))
    if control:
        beside[f"meta-SAE of {control.get('directions')} directions"] = decimal(control.get("explained_variance"))
    each, a_meta = part(e, "explained_variance_of_latents"), part(e, "latents_a_meta_latent")
    a_latent = part(e, "meta_latents_a_latent")
    rows = [
        Row("explained variance", decimal(e.get("explained_variance")), beside, "of the decoder's rows at length 1"),
        Row(
            "… of the median latent", decimal(each.get("median")), {"mean": decimal(each.get("mean"))}, "of its own row"
        ),
        Row("meta-latents a latent", decimal(e.get("l0")), {"most": count(a_latent.get("max"))}, "L0"),
        Row("latents a meta-latent", decimal(a_meta.get("mean")), {"most": count(a_meta.get("max"))}),
        Row("dead meta-latents", percent(e.get("dead_fraction")), {}, "in no latent"),
    ]
    apart = part(e, "by_firing")
    for name, label in {"fired": "… of latents that fire", "never_fired": "… of latents that never fire"}.items():
        if latents := part(apart, name).get("latents"):
            note = f"{count(latents)} latents, on the {count(apart.get('rows'))} rows of the source's own evaluation"
            rows.insert(-3, Row(label, decimal(part(apart, name).get("explained_variance")), {}, note))
    return Group(TITLE, f"{count(e.get('latents'))} latents of {e.get('source_run') or 'another dictionary'}", rows)


def cards(run: RunFiles) -> list[Card]:
    """The figures that head the page; none where they were not made."""
    e = run.evaluations.get(SUITE)
    if e is None:
        return []
    control = part(e, "baselines", "random_decoder").get("explained_variance")
    l0 = f"{e['l0']:.1f}" if is_number(e.get("l0")) else count(None)
    beside = f"of {count(e.get('latents'))} decoder rows; of as many random directions {decimal(control)}"
    return [
        Card("explained variance", decimal(e.get("explained_variance")), beside),
        Card("L0", l0, "meta-latents a latent"),
        Card("dead", percent(e.get("dead_fraction")), "of the meta-latents, in no latent"),
    ]


def pictures(run: RunFiles) -> list[tuple[str, Markup]]:
    """(caption, picture): explained variance by latent, and the parts of some latents; none where they were not made."""
    e = run.evaluations.get(SUITE, {})
    each, graph = part(e, "explained_variance_of_latents"), part(e, "graph")
    out = []
    if each.get("counts"):
        out.append(("How much of each latent's row is explained", _histogram(each)))
    if graph.get("most_explained"):
        caption = (
            "Latents with their meta-latents: those explained most on the left, those explained least on the right; "
        )
        out.append((caption + "a line is as wide as the meta-latent's part is long", _graph(graph)))
    return out


def _histogram(each: Mapping[str, Any]) -> Markup:
    edges, counts, below = each["edges"], each["counts"], each.get("below") or 0
    with matplotlib.rc_context(plots.STYLE):
        figure, axes = plots.new(width=12.4, height=3.0)
        width = edges[1] - edges[0]
        axes.bar(
            edges[:-1], counts, width=width, align="edge", color=plots.ACCENT, edgecolor=plots.PAPER, linewidth=0.4
        )
        ticks, labels = [0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"]
        if below:
            axes.bar([-0.08], [below], width=width, color=plots.WARN, edgecolor="none")
            ticks, labels = [-0.08, *ticks], ["below 0", *labels]
        axes.set_xticks(ticks, labels)
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_formatter(lambda value, _: short(value))
        axes.set_xlabel("explained variance of a latent's decoder row")
        axes.set_ylabel("latents")
        median = each.get("median")
        told = f": the median is {median:.2f}" if is_number(median) else ""
        return plots.svg(figure, "explained-variance", f"Latents by how much of their decoder row is explained{told}")


def _graph(graph: Mapping[str, Any]) -> Markup:
    halves = [list(graph.get(name) or [])[:DRAWN] for name in ("most_explained", "least_explained")]
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(12.4, 5.2), layout="constrained")
        for axes, latents in zip(figure.subplots(1, 2), halves, strict=True):
            _half(axes, latents)
        return plots.svg(figure, "meta-latents", "Latents of most and least explained variance, and their meta-latents")


def _half(axes: Axes, latents: Sequence[Mapping[str, Any]]) -> None:
    """Latents on the left, their meta-latents on the right, each near the latents that it is part of."""
    axes.axis("off")
    edges = [
        (i, m, w) for i, row in enumerate(latents) for m, w in zip(row["meta_latents"], row["weights"], strict=True)
    ]
    about: dict[int, list[int]] = {}
    for i, meta, _ in edges:
        about.setdefault(meta, []).append(i)
    order = sorted(about, key=lambda meta: (sum(about[meta]) / len(about[meta]), meta))
    heights = lambda n: [1 - (i + 0.5) / n for i in range(n)]
    left, right = heights(len(latents)), dict(zip(order, heights(len(order)), strict=True))
    widest = max((w for *_, w in edges), default=1) or 1
    for i, meta, weight in edges:
        color = plots.ACCENT if len(about[meta]) > 1 else plots.MUTED
        axes.plot([0, 1], [left[i], right[meta]], color=color, linewidth=0.4 + 4 * weight / widest, alpha=0.7)
    for y, row in zip(left, latents, strict=True):
        axes.text(-0.03, y, f"latent {row['latent']}: {decimal(row['explained_variance'])}", ha="right", va="center")
    size = 9 if len(order) <= 26 else 7
    for meta, y in right.items():
        axes.text(1.03, y, f"meta-latent {meta}", ha="left", va="center", fontsize=size)
    axes.set_xlim(-0.6, 1.5)
    axes.set_ylim(0, 1)
