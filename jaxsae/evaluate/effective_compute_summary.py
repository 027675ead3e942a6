"""What effective compute says of a dictionary: curves side by side, which of them apply, and where the model lies on them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsae.evaluate.curves import FRONTIER, OWN
from jaxsae.evaluate.says import percent
from jaxsae.evaluate.scaling_curve import CONSTANTS, Curve
from jaxsae.evaluate.summary import MORE, Figure, Plot, Summary, Table

Results = Mapping[str, Any]
_POINTS = 40  # of a curve in a plot


def summary(e: Results) -> Summary:
    """Of the suite's results."""
    applies = [name for name, fits in e["applies"].items() if fits]
    borrowed = [name for name in e["fraction"] if name not in applies]
    figures = [
        Figure(
            f"effective compute, {name}",
            share,
            e["fraction_interval"][name],
            MORE,
            {"parameters": e["parameters_fraction"][name]},
            "of the training compute has the spliced loss" + ("" if name in applies else "; a curve of other data"),
            percent=True,
        )
        for name, share in e["fraction"].items()
    ]
    said = lambda names: ", ".join(f"{_share(e, name)} by {name}" for name in names)
    says = f"Spliced, the model is as good as one trained with {said(applies)} of its compute" if applies else ""
    if borrowed:
        beside = f"{', '.join(borrowed)}, of next tokens of English text, would say {said(borrowed)} and do not apply"
        says = f"{says}; {beside}" if says else f"No curve is of such a model: {beside}"
    whole = e.get("whole_games")
    many = f"{whole['tokens']:,} moves of {e['games']:,} games" if whole else f"{e['tokens']:,} predictions"
    return Summary(
        title="Effective compute",
        sample=many,
        says=f"{says}.",
        limits=_limits(e, applies),
        figures=figures,
        tables=[_constants(e)] if e["curves"] else [],
        plots=[_family_plot(e)] if "family" in e else [_curves_plot(e)],
    )


def _share(e: Results, name: str) -> str:
    ends = e["fraction_interval"][name]
    beside = f" ({percent(ends[0])} to {percent(ends[1])})" if ends and None not in ends else ""
    return percent(e["fraction"][name]) + beside


def _limits(e: Results, applies: list[str]) -> str:
    if not any(name in e["fraction"] for name in (OWN, FRONTIER)):
        return _limits_of_others(applies)
    parts = []
    if own := e["curves"].get(OWN):
        parts.append(f"{OWN} is a law fitted to {own['points']} models of less compute{_misses(e, own)}")
    if FRONTIER in e["fraction"]:
        parts.append(
            f"{FRONTIER} assumes no law, but ends in one size that was trained for longer, so that compute spent better "
            "would leave a larger share"
        )
    return "; ".join([*parts, "no share of compute says which abilities were lost."])


def _misses(e: Results, own: Mapping[str, Any]) -> str:
    """By how much the law misses models that it was not fitted to."""
    said = f", which misses one left out by {own['rms_left_out']:.1%} of its loss"
    model = e.get("trained")
    if not model:
        return said
    there, here = (loss - own["E"] for loss in (model["loss_by_curve"][OWN], model["loss"]))
    side = "low" if there < here else "high"
    return f"{said} and puts this one {abs(there / here - 1):.0%} too {side} above the floor"


def _limits_of_others(applies: list[str]) -> str:
    if applies:
        return (
            "The curve was fitted to English text of another tokenizer: it ranks dictionaries of one model, and says little "
            "of that model's own compute; so do its intervals, which are those of delta CE alone."
        )
    return "A curve of other data ranks dictionaries of one model, and says nothing of its compute."


def _constants(e: Results) -> Table:
    """Constants of each curve with their intervals, and what it says the model's loss takes."""
    rows = []
    for name, curve in e["curves"].items():
        ends = curve.get("intervals") or {}
        shown = lambda c, curve=curve, ends=ends: (
            f"{curve[c]:.4g}" + (f" ({ends[c][0]:.3g} to {ends[c][1]:.3g})" if c in ends else "")
        )
        compute = e["compute"][name]
        constants = [shown(c) if c in curve else "-" for c in CONSTANTS]
        rows.append([name, *constants, f"{compute['original']:.3g}", f"{compute['spliced']:.3g}", curve["reference"]])
    note = "L(N, D) = E + A/N^a + B/D^b; compute is 6 N D, in FLOPs, of the best N and D for the loss."
    if model := e.get("trained"):
        note += f" The model itself took {model['compute']:.3g}: N {model['parameters']:,}, D {model['tokens']:,}."
    return Table("Curves", ["curve", *CONSTANTS, "compute of the loss", "and spliced", "from"], rows, note)


def _family_plot(e: Results) -> Plot:
    """Loss above the floor against compute: models of the family, what was fitted to them, and this model."""
    name = next(name for name in (OWN, FRONTIER) if name in e["curves"] or name in e["refused"])
    curve, whole, model = e["curves"].get(name), e["whole_games"], e.get("trained")
    floor = next((c["E"] for c in e["curves"].values() if c.get("exact") or "compute" in c), whole["floor"])
    marks = [("models of the family", compute, loss - floor) for compute, loss in e["family"]]
    loss, spliced = (value - whole["floor"] for value in _losses(e))
    if model:
        marks.append(("this model, as it was trained", model["compute"], loss))
    if curve:
        on_it = e["compute"][name]
        marks += [("this model, by the curve", on_it["original"], loss), ("spliced", on_it["spliced"], spliced)]
    compute = [x for _, x, _ in marks]
    if OWN in e["curves"]:
        law = _curve(OWN, e["curves"][OWN])
        for flops in np.geomspace(min(compute), max(compute), _POINTS):
            marks.append(("the fitted curve", float(flops), law.optimal_loss(flops) - floor))
    marks.sort(key=lambda mark: mark[1])
    names = dict.fromkeys(label for label, _, _ in marks)
    return Plot(
        "Loss above the floor against compute",
        "compute of training, 6 N D, FLOPs",
        "nats a move above the floor",
        [x for _, x, _ in marks],
        {label: [y if own == label else None for own, _, y in marks] for label in names},
        kind="points",
        log_x=True,
        log_y=True,
        guides={"the model": loss, "spliced": spliced},
    )


def _curves_plot(e: Results) -> Plot:
    """Each curve's loss at the best N and D for a compute, with the model's loss and the spliced one across."""
    laws = {name: _curve(name, curve) for name, curve in e["curves"].items()}
    both = [value for found in e["compute"].values() for value in found.values()]
    x = np.geomspace(min(both) / 10, max(both) * 10, _POINTS).tolist()
    return Plot(
        "Loss against compute",
        "compute of training, 6 N D, FLOPs",
        "nats a token",
        x,
        {name: [law.optimal_loss(flops) for flops in x] for name, law in laws.items()},
        log_x=True,
        guides=dict(zip(("the model", "spliced"), _losses(e), strict=True)),
    )


def _losses(e: Results) -> tuple[float, float]:
    """The model's loss, and spliced; of games over all plies."""
    whole = e.get("whole_games") or {"ce": e["ce"], "tokens": e["tokens"]}
    return whole["ce"], whole["ce"] + e["delta_ce"] * e["tokens"] / whole["tokens"]


def _curve(name: str, held: Mapping[str, Any]) -> Curve:
    return Curve(name, **{c: held[c] for c in CONSTANTS}, reference=held["reference"])
