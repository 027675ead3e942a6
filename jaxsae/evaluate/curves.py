"""Which curves of loss over compute there are: published ones, that of the Othello GPT's own family, and files."""

import dataclasses
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jaxsae.errors import InputError
from jaxsae.evaluate.frontier import Frontier
from jaxsae.evaluate.scaling_curve import CONSTANTS, PUBLISHED, Curve
from jaxsae.evaluate.scaling_fit import fit_curve
from jaxsae.lm.family import shipped_family
from jaxsae.numbers import is_positive

OWN, FRONTIER = "othello", "othello_frontier"
NAMES = (*PUBLISHED, OWN, FRONTIER)
AnyCurve = Curve | Frontier


def read_curves(names: Sequence[str] | None, games: bool) -> list[AnyCurve]:
    """The curves of `--scaling_curve`; where it is None, those for a model that plays Othello, or that reads text.

    Raises:
      InputError: as `read_curve`; a curve of games for a model of text.
    """
    curves = [read_curve(name) for name in names or ((OWN, FRONTIER, *PUBLISHED) if games else PUBLISHED)]
    for curve in curves:
        if curve.games and not games:
            raise InputError(
                f"--scaling_curve={curve.name}: is of models that play Othello, and this one does not. Give "
                f"{', '.join(PUBLISHED)}, or a JSON file of the model's own family."
            )
    return curves


def read_curve(name: str) -> AnyCurve:
    """A curve by name, or one from a JSON file: {"E", "A", "B", "a", "b"} or {"points": [[N, D, loss], ...]}, with "floor"
    where the entropy of the data is known, or a table of `jaxsae.lm.family`.

    Raises:
      InputError: neither, or a file that does not hold such a thing.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    if name in (OWN, FRONTIER):
        return _own() if name == OWN else _frontier()
    where = f"--scaling_curve={name}"
    path = Path(name)
    if not path.is_file():
        raise InputError(f"{where}: no such curve and no such file. Give {', '.join(NAMES)}, or a JSON file.")
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: cannot be read as JSON ({error}).") from None
    if isinstance(held, dict) and "members" in held:
        return _of_members(held, path, where)
    if isinstance(held, dict) and "points" in held:
        return fit_curve(path.stem, held["points"], where, held.get("floor"))
    missing = [c for c in CONSTANTS if c not in held] if isinstance(held, dict) else list(CONSTANTS)
    if missing:
        raise InputError(f"{where}: lacks {', '.join(missing)}. It needs E, A, B, a, b, or points [N, D, loss].")
    bad = [c for c in CONSTANTS if not is_positive(held[c]) and not (c == "E" and held[c] == 0)]
    if bad:
        raise InputError(f"{where}: {bad[0]} = {held[bad[0]]!r} must be a positive number.")
    return Curve(path.stem, **{c: float(held[c]) for c in CONSTANTS}, reference=str(held.get("reference", path.name)))


def _of_members(held: Any, path: Path, where: str) -> Curve:
    """Fitted to a table that `python -m jaxsae.lm.family` wrote."""
    try:
        points = [[m["parameters"], m["tokens"], m["loss"]] for m in held["members"]]
    except (TypeError, KeyError):
        raise InputError(
            f"{where}: members must have parameters, tokens and loss, as jaxsae.lm.family writes them."
        ) from None
    return fit_curve(path.stem, points, where, held.get("floor"))


@cache
def _own() -> Curve:
    """Fitted to the family in the package; models of another recipe stay out of it."""
    family = shipped_family()
    points = [[m.parameters, m.tokens, m.loss] for m in family.members]
    curve = fit_curve(OWN, points, f"--scaling_curve={OWN}", family.floor)
    about = f"{len(points)} models of the Othello GPT's family (jaxsae/lm/othello_family.json), E known"
    return dataclasses.replace(curve, games=True, reference=about)


@cache
def _frontier() -> Frontier:
    """Of the family in the package, and of the shipped model itself, which reaches further."""
    family = shipped_family()
    models = (*family.members, *family.others)
    about = f"the best of {len(models)} models of the Othello GPT's family, with lines between them"
    return Frontier.of(FRONTIER, [(m.compute, m.loss) for m in models], family.floor, about)
