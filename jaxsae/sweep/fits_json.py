"""Fitted laws as the JSON of a sweep has them."""

from collections.abc import Sequence
from typing import Any

from jaxsae.sweep.bootstrap import Bootstrap
from jaxsae.sweep.members import Member


def described(found: Bootstrap, members: Sequence[Member]) -> dict[str, Any]:
    """A fitted law and its intervals, as `fits` of sweep.json holds them; see `fits.fit_all`."""
    fit = found.fit
    names = [m.name for m in members] if len(members) == len(fit.y) else [""] * len(fit.y)
    return {
        "law": fit.law.name,
        "equation": fit.law.equation,
        "reference": fit.law.reference,
        "constants": found.constants(),
        "members": [m.name for m in members],
        "range": {v: [float(fit.x[v].min()), float(fit.x[v].max())] for v in fit.law.variables},
        "points": len(fit.y),
        "sigma": fit.sigma,
        "starts": fit.starts,
        "agreeing_starts": fit.agreeing,
        "identified": fit.identified,
        "outliers": [name for name, weight in zip(names, fit.weights, strict=True) if weight < 1 and name],
    }
