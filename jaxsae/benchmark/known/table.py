"""How well dictionaries were recovered, on the screen, and the means that stand there."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsae.benchmark.known.config import EQUAL_L0
from jaxsae.progress import say

COLUMNS = {
    "mcc": "MCC",
    "mean_max_cosine": "max cos",
    "f1": "F1",
    "fvu": "FVU",
    "l0": "L0",
    "dead_fraction": "dead",
    "gamma": "gamma",
}
NAMES = {"pca": "PCA, largest by either sign", "random": "random directions", "oracle": "the true features"}


def summarised(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`runs`, a list of figures, one a seed, with their `mean` and `standard_error`; None where there is none to take."""
    names = [name for name, value in runs[0].items() if name not in ("seed", "learning_rate")]
    mean, error = {}, {}
    for name in names:
        values = [run[name] for run in runs]
        whole = None not in values
        mean[name] = float(np.mean(values)) if whole else None
        error[name] = float(np.std(values, ddof=1) / math.sqrt(len(values))) if whole and len(values) > 1 else None
    return {"runs": list(runs), "mean": mean, "standard_error": error}


def line(name: str, figures: dict[str, Any]) -> str:
    """One run's figures, as they come."""
    shown = [f"{title} {_number(figures[key])}" for key, title in COLUMNS.items()]
    return f"{name}: {', '.join(shown)} ({figures['seconds']:.0f} s)"


def show(figures: dict[str, Any]) -> None:
    """Prints the table: means over the seeds, with their standard errors."""
    flags = figures["flags"]
    say(
        f"{flags['features']:,} features in d {flags['d_model']}, {figures['active']:.2f} active a row; {figures['width']:,} "
        f"latents, k {figures['k']}; {figures['rows']:,} rows in {figures['steps']:,} steps; judged on "
        f"{flags['held_out']:,} others, F1 of {figures['f1_features']:,.0f} features; {len(flags['seeds'])} seed(s)"
    )
    say(f"{'':<28}" + "".join(f"{title:>15}" for title in COLUMNS.values()) + f"{'s':>7}")
    for name, found in figures["methods"].items():
        say(_row(name, found))
    for package, methods in figures["peers"].items():
        for name, found in methods.items():
            say(_row(f"{package} {name}, {found['learning_rate']:g}", found))
    for name, found in figures["baselines"].items():
        say(_row(NAMES[name], found))
    for package, methods in figures["peers"].items():
        for name, found in methods.items():
            off = found["mean"]["l0"] / figures["k"] - 1
            if abs(off) > EQUAL_L0:
                say(f"{package} {name} has an L0 {off:+.0%} off: its figures are not at equal L0")
            if found["at_end"]:
                say(
                    f"{package} {name} was best at the {found['at_end']} of the rates; --peer_rates may find it a better one"
                )


def _row(name: str, found: dict[str, Any]) -> str:
    mean, error = found["mean"], found["standard_error"]
    cells = []
    for key in COLUMNS:
        spread = "" if error[key] is None else f" ± {_number(error[key], like=mean[key])}"
        cells.append(_number(mean[key]) + spread)
    return f"{name:<28}" + "".join(f"{cell:>15}" for cell in cells) + f"{mean['seconds']:>7.0f}"


def _number(value: float | None, like: float | None = None) -> str:
    """Three digits behind the point, one where `like`, by default the value itself, has two or more before it."""
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value if like is None else like) < 10 else f"{value:.1f}"
