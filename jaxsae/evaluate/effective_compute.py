"""Effective compute: to what share of its training compute the dictionary sets the model back.

The share at which a scaling curve of the model has the loss that splicing the dictionary in leaves it with (Gao et al.,
arXiv 2406.04093, section 4.1): ((L0 - E) / (L0 + delta - E))^((a + b) / (a b)), L0 the model's cross-entropy and delta
what is added to it, both of the suite `splice`. Beside it the same in parameters at fixed tokens.

E depends on data and tokenizer: a published curve says something of models of English text alone, and about that much:
compare dictionaries on one model by it, and fit a curve to the model's own family for more.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsae.errors import InputError
from jaxsae.evaluate import says, splice
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.run import number, origin, write
from jaxsae.evaluate.scaling_curve import Curve, read_curve
from jaxsae.numbers import plain

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


def evaluate(context: Context) -> dict[str, Any]:
    """Puts the figures of eval/splice.json, measured now where it is missing or of another state of the run, on the curves.

    Returns:
      `tokens`, `ce`, `delta_ce`, `delta_ce_interval`; for each curve {name: ...} `fraction`, `fraction_interval` (95%, where
      that of delta CE leads), `parameters_fraction` with its interval, `compute` (FLOPs at which the curve's optimal
      model has the loss as it is, and spliced), `curves` (constants, source), `applies` (whether the curve is of such data),
      `refused` {name: why a curve gives none}, and `notes`.

    Raises:
      InputError: no curve gives a figure, such as where L0 <= E; whatever splice raises.
    """
    config = context.config
    curves = [read_curve(name) for name in config.scaling_curve]  # before anything runs for long
    spliced = _splice(context)
    out = on_curves(curves, spliced, config.model_tokens)
    if not out["fraction"]:
        raise InputError(" ".join(out["refused"].values()))
    kept = {name: spliced[name] for name in ("tokens", "ce", "ce_spliced", "delta_ce", "delta_ce_interval")}
    return kept | {"model_tokens": config.model_tokens} | out


def on_curves(curves: Sequence[Curve], spliced: Mapping[str, Any], tokens: float | None) -> dict[str, Any]:
    """What `evaluate` returns of the curves, for figures of a splice.

    Args:
      spliced: `ce`, `delta_ce`, `delta_ce_interval`, and `objective` or `games`. tokens: that the model was trained on.
    """
    out: dict[str, Any] = {name: {} for name in FIGURES} | {"curves": {}, "notes": []}
    kind = _not_text(spliced)
    for curve in curves:
        try:
            found = on_curve(curve, spliced["ce"], spliced["delta_ce"], spliced["delta_ce_interval"], tokens)
        except InputError as error:
            out["refused"][curve.name] = str(error)
            continue
        for name, value in found.items():
            out[name][curve.name] = value
        out["applies"][curve.name] = not (curve.text and kind)
        out["curves"][curve.name] = {k: v for k, v in dataclasses.asdict(curve).items() if k not in ("name", "text")}
    if unfit := [name for name, applies in out["applies"].items() if not applies]:
        out["notes"].append(
            f"{', '.join(unfit)}: fitted to the next-token loss on English text, and this model {kind}. These fractions "
            "say nothing of its training compute; fit a curve to its own family (--scaling_curve=FILE)."
        )
    return out


def on_curve(
    curve: Curve, ce: float, delta: float, interval: list[float] | None, tokens: float | None = None
) -> dict[str, Any]:
    """Figures of a loss and what is added to it on one curve.

    Args:
      curve: the curve. ce, delta: nats a token. interval: of delta. tokens: that the model was trained on, if known.

    Raises:
      InputError: the loss is not above the curve's E.
    """
    fraction = lambda added: curve.fraction(ce, added)
    parameters = lambda added: curve.parameters_fraction(ce, added, tokens)
    return {
        "fraction": fraction(delta),
        "fraction_interval": _interval(fraction, interval),
        "parameters_fraction": parameters(delta),
        "parameters_fraction_interval": _interval(parameters, interval),
        "compute": {"original": curve.compute(ce), "spliced": curve.compute(ce + delta)},
    }


def _interval(of: Callable[[float], float], interval: list[float] | None) -> list[float | None] | None:
    """[low, high]: more loss is less compute; None for an end where the loss would fall below what the curve reaches."""
    if interval is None:
        return None

    def end(added: float) -> float | None:
        try:
            return of(added)
        except InputError:
            return None

    return [end(interval[1]), end(interval[0])]


def _splice(context: Context) -> dict[str, Any]:
    """eval/splice.json where it is of this dictionary, else measured and written."""
    directory = Path(context.config.run) / "eval"
    own = plain(origin(context))
    try:
        found = json.loads((directory / "splice.json").read_text(encoding="utf-8"))
        if isinstance(found, dict) and {name: found.get(name) for name in own} == own:
            return {"delta_ce_interval": None} | {name: found[name] for name in found}
    except (OSError, ValueError):
        pass
    found = own | plain(splice.evaluate(context))
    write(directory, "splice", found, {})
    return found


def _not_text(spliced: Mapping[str, Any]) -> str:
    """What else than the next token of a text the model predicts; "" where it is that."""
    if "games" in spliced:
        return "predicts moves of Othello"
    return "" if spliced.get("objective", "next token") == "next token" else "predicts masked tokens"


summary = says.effective_compute


def table(results: dict[str, Any]) -> list[str]:
    """The figures in a few lines."""
    ends = lambda pair: "[" + ", ".join(number(v) for v in pair) + "]" if pair else ""
    lines = [f"ce {results['ce']:.4f}   delta_ce {results['delta_ce']:.4f}   ({results['tokens']:,} predictions)"]
    for name, fraction in results["fraction"].items():
        lines.append(
            f"{name}: {fraction:.4f} {ends(results['fraction_interval'][name])} of the compute, "
            f"{results['parameters_fraction'][name]:.4f} of the parameters"
        )
    return lines + [f"{name}: none. {why}" for name, why in results["refused"].items()] + results["notes"]
