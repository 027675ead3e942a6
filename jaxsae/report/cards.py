"""The few figures that head a run's page."""

from collections.abc import Mapping
from typing import Any

from jaxsae.numbers import is_number
from jaxsae.report.figures import NONE, Card, count, decimal, part, percent, plain_map
from jaxsae.report.read import RunFiles


def cards(run: RunFiles, othello: bool) -> list[Card]:
    """The few figures that head the page; where nothing was evaluated those of the last checkpoint on held-out rows, or,
    without these, the last training step's."""
    found = run.evaluations.get("reconstruction") or _judged_while_training(run)
    where = f"{count(found.get('rows'))} held-out rows" if found else "last training step"
    source = found or (run.metrics[-1] if run.metrics else {})
    plain, fvu = plain_map(found)
    beside = f"{where}; {plain.partition(',')[0]} {decimal(fvu)}" if is_number(fvu) else where
    out = [
        Card("FVU", decimal(source.get("fvu")), beside),
        Card("L0", f"{source['l0']:.1f}" if is_number(source.get("l0")) else NONE, f"active latents, {where}"),
        Card("dead", percent(source.get("dead_fraction")), f"of the latents, {_window(source, bool(found))}"),
    ]
    if splice := run.evaluations.get("splice"):
        zero = (
            splice["ce_zero"] - splice["ce"]
            if is_number(splice.get("ce_zero")) and is_number(splice.get("ce"))
            else None
        )
        out.append(Card("ΔCE", decimal(splice.get("delta_ce")), f"nats a token; zeros {decimal(zero)}"))
    board = run.evaluations.get("othello") if othello else None
    if board:
        best = part(board, "baselines", "raw", "above_0.9").get("total")
        beside = f"of {count(board.get('targets'))} with AUROC > 0.9; raw {count(best)}"
        out.append(Card("board targets", count(part(board, "above_0.9").get("total")), beside))
    return out


def _judged_while_training(run: RunFiles) -> dict[str, Any]:
    """The newest held-out figures of metrics.jsonl, by the names that reconstruction.json has; empty where there are none."""
    line = next((line for line in reversed(run.metrics) if "held_out_rows" in line), {})
    return {name.removeprefix("held_out_"): value for name, value in line.items() if name.startswith("held_out_")}


def _window(source: Mapping[str, Any], evaluated: bool) -> str:
    """In which rows dead latents did not fire."""
    if evaluated:
        return f"in {count(source.get('rows'))} held-out rows"
    window = source.get("dead_window")
    if window and source.get("dead_fraction") is None:
        return f"not known before {count(window)} rows"
    return f"in the last {count(window)} rows of training" if window else "in training"
