"""A model's loss, and what a dictionary adds to it, on curves of loss over compute: how much of the compute is left.

Losses of games are taken over whole games, as those of the family are, where `splice` begins at the first ply that it
replaces: plies before it are predicted as ever, so that what is added is spread over them. Where the entropy of the data is
known (`Curve.exact`) a loss is what it has above that on the very games it was taken on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.evaluate.curves import AnyCurve
from jaxsae.evaluate.intervals import Z_95

# Of each curve: what `on_curve` gives, whether it is of such data, why it gives nothing.
FIGURES = (
    "fraction",
    "fraction_interval",
    "parameters_fraction",
    "parameters_fraction_interval",
    "compute",
    "applies",
    "refused",
)
_UNDEFINED = 0.025  # share of fits to models drawn anew that may give no figure


def on_curves(
    curves: Sequence[AnyCurve],
    spliced: Mapping[str, Any],
    tokens: float | None,
    own_tokens: float | None = None,
) -> dict[str, Any]:
    """`FIGURES`, each {curve: value}, `curves` (constants, source) and `notes`, for figures of a splice.

    Args:
      spliced: `ce`, `delta_ce`, `delta_ce_interval`, and `objective` or `games`, with these `tokens` and `whole_games`.
      tokens: that the model was trained on, if they were told. own_tokens: the same as the model's card says, for curves of
        its own family.
    """
    out: dict[str, Any] = {name: {} for name in FIGURES} | {"curves": {}, "notes": []}
    kind = _not_text(spliced)
    for curve in curves:
        loss, delta, interval = on_whole_games(curve, spliced)
        known = tokens if curve.text or tokens is not None else own_tokens
        try:
            found = on_curve(curve, loss, delta, interval, known)
        except InputError as error:
            out["refused"][curve.name] = str(error)
            continue
        for name, value in found.items():
            out[name][curve.name] = value
        out["applies"][curve.name] = not (curve.text and kind)
        out["curves"][curve.name] = curve.about()
        out["notes"] += _beyond(curve, loss, loss + delta)
    if unfit := [name for name, applies in out["applies"].items() if not applies]:
        out["notes"].append(
            f"{', '.join(unfit)}: fitted to the next-token loss on English text, and this model {kind}. These fractions "
            "say nothing of its training compute; fit a curve to its own family (--scaling_curve=FILE)."
        )
    return out


def on_whole_games(curve: AnyCurve, spliced: Mapping[str, Any]) -> tuple[float, float, list[float] | None]:
    """The loss, what is added to it and the interval of that, as this curve counts losses."""
    whole, ends = spliced.get("whole_games"), spliced["delta_ce_interval"]
    if not whole:
        return spliced["ce"], spliced["delta_ce"], ends
    share = spliced["tokens"] / whole["tokens"]
    loss = curve.E + whole["ce"] - whole["floor"] if curve.exact else whole["ce"]
    return loss, share * spliced["delta_ce"], [share * end for end in ends] if ends else None


def on_curve(
    curve: AnyCurve, ce: float, delta: float, interval: list[float] | None, tokens: float | None = None
) -> dict[str, Any]:
    """Figures of a loss and what is added to it on one curve.

    Args:
      curve: the curve. ce, delta: nats a token. interval: of delta. tokens: that the model was trained on, if known.

    Raises:
      InputError: the loss is not above the curve's E, or outside of what a frontier was measured at.
    """
    fraction = lambda curve, added: curve.fraction(ce, added)
    parameters = lambda curve, added: curve.parameters_fraction(ce, added, tokens)
    return {
        "fraction": fraction(curve, delta),
        "fraction_interval": _interval(fraction, curve, delta, interval),
        "parameters_fraction": parameters(curve, delta),
        "parameters_fraction_interval": _interval(parameters, curve, delta, interval),
        "compute": {"original": curve.compute(ce), "spliced": curve.compute(ce + delta)},
    }


def _interval(
    of: Callable[[AnyCurve, float], float | None], curve: AnyCurve, delta: float, ends: list[float] | None
) -> list[float | None] | None:
    """[low, high], of delta's interval, and of fits to models drawn anew where the curve has such.

    More loss is less compute. None for an end where the loss would fall below what the curve reaches, and for both where
    too many of the fits give no figure.
    """
    found = lambda curve, added: _or_none(lambda: of(curve, added))
    if found(curve, delta) is None:
        return None
    if not (others := curve.replicated()):
        return [found(curve, ends[1]), found(curve, ends[0])] if ends else None
    error = (ends[1] - ends[0]) / 2 / Z_95 if ends else 0.0
    drawn = delta + error * np.random.default_rng(0).standard_normal(len(others))
    values = [found(other, added) for other, added in zip(others, drawn, strict=True)]
    defined = [value for value in values if value is not None]
    if len(defined) < (1 - _UNDEFINED) * len(values):
        return None
    return np.quantile(defined, [0.025, 0.975]).tolist()


def _or_none(of: Callable[[], float | None]) -> float | None:
    try:
        return of()
    except InputError:
        return None


def _beyond(curve: AnyCurve, *losses: float) -> list[str]:
    """A note where a fitted curve is drawn on past the losses of its models."""
    if not (ends := getattr(curve, "measured", None)) or (ends[0] <= min(losses) and max(losses) <= ends[1]):
        return []
    return [
        f"{curve.name}: losses of {losses[0]:.4f} and, spliced, {losses[1]:.4f} nats; its models have {ends[0]:.4f} to "
        f"{ends[1]:.4f}, and beyond that the law is taken to go on."
    ]


def _not_text(spliced: Mapping[str, Any]) -> str:
    """What else than the next token of a text the model predicts; "" where it is that."""
    if "games" in spliced:
        return "predicts moves of Othello"
    return "" if spliced.get("objective", "next token") == "next token" else "predicts masked tokens"
