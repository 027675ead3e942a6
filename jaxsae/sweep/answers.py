"""What the laws are for: how wide and how long for a compute budget, and which k for a delta CE."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import nnls

from jaxsae.sweep.bootstrap import Bootstrap
from jaxsae.sweep.members import Member

SEARCH = 64.0  # widths are searched from 1/64 of the smallest to 64 times the largest
_GRID = 600


def flops_a_token(members: Sequence[Member]) -> tuple[float, float]:
    """(c0, c1), both at least 0, of flops a token = c0 + c1 n, by least squares on the relative error over members."""
    known = [m for m in members if math.isfinite(m.flops) and math.isfinite(m.tokens)]
    if not known:
        raise ValueError("no member says its flops and tokens")
    rate = np.array([m.flops / m.tokens for m in known])
    design = np.stack([np.ones(len(known)), [m.width for m in known]], 1) / rate[:, None]
    scale = np.linalg.norm(design, axis=0)
    (c0, c1), _ = nnls(design / scale, np.ones(len(known)))
    return float(c0 / scale[0]), float(c1 / scale[1])


def optimal_allocation(law: Bootstrap, cost: tuple[float, float], flops: float) -> dict[str, Any]:
    """The width and tokens that L(n, D) gives the least loss for at a budget of `flops` = D (c0 + c1 n).

    Returns:
      `flops`, `width`, `tokens`, `fvu`, both intervals, and `extrapolation`: what lies beyond the members, or "".
    """
    fit = law.fit
    if not fit.identified:
        none = dict.fromkeys(("width", "width_interval", "tokens", "tokens_interval", "fvu"))
        return {"flops": float(flops)} | none | {"extrapolation": "these members do not determine L(n, D)"}
    widths = np.geomspace(fit.x["n"].min() / SEARCH, fit.x["n"].max() * SEARCH, _GRID)
    tokens = flops / (cost[0] + cost[1] * widths)
    values = np.log(fit.predict(n=widths, D=tokens))
    best = int(values.argmin())
    drawn = widths[law.log_values(n=widths, D=tokens).argmin(1)]
    at_end = best in (0, _GRID - 1)
    outside = fit.beyond(n=widths[best], D=tokens[best])
    if at_end:
        outside = "; ".join(filter(None, ["the optimum lies beyond the widths searched", outside]))
    return {
        "flops": float(flops),
        "width": float(widths[best]),
        "width_interval": None if at_end else law.interval(drawn),
        "tokens": float(tokens[best]),
        "tokens_interval": None if at_end else law.interval(flops / (cost[0] + cost[1] * drawn)),
        "fvu": float(np.exp(values[best])),
        "extrapolation": outside,
    }


def exponents(law: Bootstrap) -> dict[str, dict[str, Any]]:
    """n_opt ~ C^p and D_opt ~ C^(1-p), where flops are proportional to n D.

    A n^-a + B n^c (C/n)^-b is least at n ~ C^(b / (a + b + c)), which is equation 4 of Hoffmann et al. for c = 0.
    """
    drawn, value = law.drawn, law.fit.constants
    out = {}
    width = lambda c: c["b"] / (c["a"] + c["b"] + c["c"])
    for name, share in (("width", width), ("tokens", lambda c: 1 - width(c))):
        out[name] = {"value": share(value), "interval": law.interval(share(drawn))}
    return out


def best_k(law: Bootstrap, target: float, width: float | None) -> dict[str, Any]:
    """The k at which a law of delta CE gives `target` nats a token, at a width where the law knows of widths.

    Returns:
      `delta_ce` (the target), `width`, `k`, `interval`, `extrapolation`; `k` None where more latents do not lower delta CE.
    """
    with_width = "n" in law.fit.law.variables and width is not None

    def solve(constants: dict[str, Any]) -> Any:
        rest = np.log(target) - constants["c"] - (constants["q"] * np.log(width) if with_width else 0.0)
        with np.errstate(all="ignore"):
            return np.where(constants["p"] < 0, np.exp(np.minimum(rest / constants["p"], 700)), np.nan)

    k = float(solve(law.fit.constants))
    out = {"delta_ce": float(target), "width": width, "k": k if math.isfinite(k) else None, "interval": None}
    out["extrapolation"] = ""
    if out["k"] is not None:
        out["interval"] = law.interval(solve(law.drawn))
        out["extrapolation"] = law.fit.beyond(k=k, **({"n": width} if with_width else {}))
    return out
