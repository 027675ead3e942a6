"""Effective compute: to what share of its training compute the dictionary sets the model back.

The share at which a scaling curve of the model has the loss that splicing the dictionary in leaves it with (Gao et al.,
arXiv 2406.04093, section 4.1): ((L0 - E) / (L0 + delta - E))^((a + b) / (a b)), L0 the model's cross-entropy and delta
what is added to it, both of the suite `splice`. Beside it the same in parameters at fixed tokens.

E depends on data and tokenizer: a published curve says something of models of English text alone, and about that much. The
Othello GPT has a curve of its own family, and the frontier of that family, which assumes no law (`curves.py`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from jaxsae.errors import InputError
from jaxsae.evaluate import effective_compute_summary, splice
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.curves import FRONTIER, OWN, AnyCurve, read_curves
from jaxsae.evaluate.on_curves import on_curves
from jaxsae.evaluate.run import number, origin, write
from jaxsae.evaluate.scaling_curve import Curve
from jaxsae.evaluate.summary import as_json
from jaxsae.evaluate.text_model import reads_text
from jaxsae.lm import weights
from jaxsae.lm.family import shipped_family, tokens_trained
from jaxsae.numbers import plain

KEPT = ("tokens", "ce", "ce_spliced", "delta_ce", "delta_ce_interval")


def check(context: Context) -> None:
    """Refuses curves that do not hold, where that can be told before anything runs.

    Raises:
      InputError: no such curve; one of games for a model of text; a loss that is known, by an earlier splice or the
        model's card, and that none of the curves reaches.
    """
    curves = _curves(context)
    found = _spliced_before(context)
    loss = None if found else trained(context).get("loss")
    if found or loss is not None:
        found = found or {"ce": loss, "delta_ce": 0.0, "delta_ce_interval": None, "games": 0}
        _check_any(on_curves(curves, found, context.config.model_tokens))


def evaluate(context: Context) -> dict[str, Any]:
    """Puts the figures of eval/splice.json, measured now where it is missing or of another state of the run, on the curves.

    Returns:
      `tokens`, `ce`, `delta_ce`, `delta_ce_interval`; for each curve {name: ...} `fraction`, `fraction_interval` (95%, where
      that of delta CE leads, and of a fitted curve also what its models leave open), `parameters_fraction` with its
      interval, `compute` (FLOPs at which the curve's optimal model has the loss as it is, and spliced), `curves` (constants,
      source), `applies` (whether the curve is of such data), `refused` {name: why a curve gives none}, and `notes`. Of
      games, `whole_games` (`tokens`, `ce`, `floor`), `trained` (`parameters`, `tokens`, `compute` and `loss` of the model
      as its card has them, `loss_by_curve` that curves of its family give it for these) and, where its curve was asked for,
      `family`: [compute, loss] of each model.

    Raises:
      InputError: no curve gives a figure, such as where L0 <= E; whatever splice raises.
    """
    config = context.config
    curves = _curves(context)  # before anything runs for long
    spliced = _spliced_before(context) or _spliced_now(context)
    model = trained(context)
    out = on_curves(curves, spliced, config.model_tokens, model.get("tokens"))
    _check_any(out)
    kept = {name: spliced[name] for name in (*KEPT, "games", "whole_games") if name in spliced}
    if model:
        laws = [curve for curve in curves if isinstance(curve, Curve) and curve.exact]
        by_curve = {law.name: float(law.loss(model["parameters"], model["tokens"])) for law in laws}
        kept["trained"] = model | {"loss_by_curve": by_curve}
    if any(curve.name in (OWN, FRONTIER) for curve in curves):
        kept["family"] = [[m.compute, m.loss] for m in shipped_family().members]
    return kept | {"model_tokens": config.model_tokens} | out


def trained(context: Context) -> dict[str, Any]:
    """`parameters`, `tokens`, `compute` (6 N D) and `loss` of a model of games, as its card has them; {} without one."""
    source = context.config.model or context.dictionary.metadata.get("model") or ""
    if reads_text(context) or not (source == weights.SHIPPED or Path(source).is_file()):
        return {}
    try:
        card = weights.read_notes(source)
        n, d = card["parameters"], tokens_trained(card)
        return {"parameters": n, "tokens": d, "compute": 6.0 * n * d, "loss": card["held_out"]["cross_entropy_nats"]}
    except (KeyError, ValueError, SafetensorError):  # a file of weights alone, or none: what opens the model says so
        return {}


def _curves(context: Context) -> list[AnyCurve]:
    return read_curves(context.config.scaling_curve, games=not reads_text(context))


def _check_any(out: Mapping[str, Any]) -> None:
    if not out["fraction"]:
        raise InputError(" ".join(out["refused"].values()))


def _spliced_before(context: Context) -> dict[str, Any] | None:
    """eval/splice.json where it is of this dictionary and says what the curves need."""
    own = plain(origin(context))
    directory, name = _splice_file(context)
    try:
        found = json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or {name: found.get(name) for name in own} != own:
        return None
    if "games" in found and "whole_games" not in found:  # of an earlier version
        return None
    return {"delta_ce_interval": None} | found


def _spliced_now(context: Context) -> dict[str, Any]:
    found = plain(origin(context)) | plain(splice.evaluate(context))
    found["summary"] = as_json(splice.summary(found))
    write(*_splice_file(context), found, {})
    return found


def _splice_file(context: Context) -> tuple[Path, str]:
    """Directory and name of the suite's JSON, as `run.put_down` has them."""
    k = context.config.k
    return Path(context.config.run) / "eval", "splice" + ("" if k is None else f"_k{k}")


summary = effective_compute_summary.summary


def table(results: dict[str, Any]) -> list[str]:
    """The figures in a few lines."""
    ends = lambda pair: "[" + ", ".join(number(v) for v in pair) + "]" if pair else ""
    lines = [f"ce {results['ce']:.4f}   delta_ce {results['delta_ce']:.4f}   ({results['tokens']:,} predictions)"]
    for name, fraction in results["fraction"].items():
        part = results["parameters_fraction"][name]
        beside = "" if part is None else f", {part:.4f} of the parameters"
        lines.append(f"{name}: {fraction:.4f} {ends(results['fraction_interval'][name])} of the compute{beside}")
    if model := results.get("trained"):
        said = ", ".join(f"{name} {loss:.4f}" for name, loss in model["loss_by_curve"].items())
        lines.append(
            f"the model itself: N {model['parameters']:,}, D {model['tokens']:,}, {model['compute']:.3g} FLOPs, ce "
            f"{model['loss']:.4f}" + (f"; by its family's law {said}" if said else "")
        )
    return lines + [f"{name}: none. {why}" for name, why in results["refused"].items()] + results["notes"]
