"""`sweep.json`: every member with its flags, status and figures, and the fits; any worker makes it from the directory."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.dictionary import SWITCHES
from jaxsae.files import write_text
from jaxsae.numbers import plain
from jaxsae.sweep.claims import Claims
from jaxsae.sweep.compute import training_flops
from jaxsae.sweep.config import SweepConfig
from jaxsae.sweep.directory import GRID, MEMBERS, SWEEP, read_outcome
from jaxsae.sweep.fits import fit_all
from jaxsae.sweep.grid import held_out
from jaxsae.training.metrics import read_metrics
from jaxsae.training.run import METRICS
from jaxsae.version import __version__

POINTS = 64  # of a curve, at most
_LAST = 0.05  # share of the steps whose mean is the loss of a member, and its FVU where it was not evaluated
_FITTING = 0.05  # share of the time that fits may take while members run


class Results:
    """Writes sweep.json, whole each time, as members end and while they run."""

    def __init__(self, config: SweepConfig, path: Path, d_model: dict[str, int], claims: Claims | None):
        """`d_model`: of each site. `claims`: to tell who runs; None: nobody does."""
        self._config, self._path, self._d_model, self._claims = config, path, d_model, claims
        self._grid = json.loads((path / GRID).read_text(encoding="utf-8"))
        self._held_out = held_out(self._grid["members"], config.holdout_members)
        self._fits: dict[str, Any] = {}
        self._fitted, self._cost = 0.0, 0.0

    def members(self) -> list[dict[str, Any]]:
        """All members as sweep.json has them."""
        return [self._member(name, flags) for name, flags in self._grid["members"].items()]

    def write(self, last: bool = False) -> dict[str, Any]:
        """Writes sweep.json and returns what it holds; fits where they cost little, or this is the `last` time.

        Several workers write: each looks again once it has written, so that whoever comes last has seen everything.
        """
        while True:
            members = self.members()
            self._fit(members, last)
            content = {
                "members": members,
                "fits": self._fits,
                "grid": _lists(self._grid["members"]),
                "store": self._grid["store"],
                "rows": self._grid["rows"],
                "evaluation": self._grid["evaluation"],
                "jaxsae": __version__,
            }
            content = plain(content)  # a fit may hold NumPy's numbers, and NaN where there is no answer
            write_text(self._path / SWEEP, json.dumps(content, indent=1, allow_nan=False) + "\n")
            if all(self._status(m["name"])[0] == m["status"] for m in members):
                return content

    def _fit(self, members: list[dict[str, Any]], last: bool) -> None:
        now = time.monotonic()
        if not last and now - self._fitted < self._cost / _FITTING:
            return
        wanted = {name: getattr(self._config, name) for name in ("compute", "target_delta_ce")}
        self._fits = fit_all(members, **{name: value for name, value in wanted.items() if value})
        self._fitted = time.monotonic()
        self._cost = self._fitted - now

    def _status(self, name: str) -> tuple[str, str | None]:
        """How a member stands, and what it failed of."""
        if outcome := read_outcome(self._path, name):
            return outcome["status"], outcome["error"]
        return ("running" if self._claims and self._claims.holder(name) else "waiting"), None

    def _member(self, name: str, flags: dict[str, Any]) -> dict[str, Any]:
        status, error = self._status(name)
        site = flags.get("site") or next(iter(self._d_model))
        return {
            "name": name,
            "status": status,
            "error": error,
            "held_out": name in self._held_out,
            "flags": flags | {"store": self._grid["store"]},
            "figures": figures(self._path / MEMBERS / name, flags, self._d_model[site]),
        }


def _lists(members: dict[str, dict[str, Any]]) -> dict[str, list]:
    """The flags in which members differ, each with its values."""
    names = dict.fromkeys(name for flags in members.values() for name in flags)
    values = {n: list(dict.fromkeys(_hashable(flags.get(n)) for flags in members.values())) for n in names}
    return {n: v for n, v in values.items() if len(v) > 1}


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _peak_rate(run: Path, lines: list[dict[str, Any]]) -> float | None:
    """What a finished run says of itself; before, the highest rate of a line, which in a short run may be of the fall."""
    try:
        return json.loads((run / "run.json").read_text(encoding="utf-8"))["learning_rate"]
    except (OSError, ValueError, KeyError):
        return max((m["learning_rate"] for m in lines), default=None)


def figures(run: Path, flags: dict[str, Any], d_model: int) -> dict[str, Any]:
    """What is known of a member so far; None for what is not.

    `fvu`, `l0`, `dead_fraction` and `rows` are of held-out rows once the member was evaluated, before that of its
    last batches. `loss` is the mean of the training loss over the last 5% of its steps so far.
    """
    k = flags["k"] if "k" in SWITCHES[flags["architecture"]] else None
    steps = flags["tokens"] // flags["batch_size"]
    cost = training_flops(d_model, flags["width"], k if "encoder" in SWITCHES[flags["architecture"]] else None, 1)
    lines = read_metrics(run / METRICS)
    last = lines[-max(1, round(len(lines) * _LAST)) :]
    mean = lambda name: float(np.mean([m[name] for m in last if m.get(name) is not None] or [np.nan]))
    known = {name: mean(name) for name in ("fvu", "l0", "dead_fraction", "loss")}
    out = {
        "width": flags["width"],
        "k": k,
        "d_model": d_model,
        "seed": flags["seed"],
        "architecture": flags["architecture"],
        "learning_rate": flags.get("learning_rate") or _peak_rate(run, lines),
        "tokens": steps * flags["batch_size"],
        "steps": steps,
        "flops": cost * steps * flags["batch_size"],
        **{name: value if np.isfinite(value) else None for name, value in known.items()},
        **dict.fromkeys(("delta_ce", "ce", "ce_spliced")),
        "rows": 0,
        "curve": [
            {"tokens": m["tokens"], "flops": cost * m["tokens"], "fvu": m["fvu"], "loss": m["loss"]}
            for m in thinned(lines)
        ],
    }
    for suite, names in (
        ("reconstruction", ("fvu", "l0", "dead_fraction", "rows")),
        ("splice", ("delta_ce", "ce", "ce_spliced")),
    ):
        found = _evaluated(run, suite, out["tokens"])
        out |= {name: found[name] for name in names if found.get(name) is not None}
    return out


def _evaluated(run: Path, suite: str, tokens: int) -> dict[str, Any]:
    """A suite's figures, where they are of the finished member."""
    try:
        found = json.loads((run / "eval" / f"{suite}.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return found if found.get("trained_tokens") == tokens else {}


def thinned(lines: list[dict]) -> list[dict]:
    """At most `POINTS` lines, evenly by logarithm of their step and with the first and the last."""
    if len(lines) <= POINTS:
        return lines
    at = np.unique(np.round(np.geomspace(1, len(lines), POINTS)).astype(int)) - 1
    return [lines[i] for i in at]
