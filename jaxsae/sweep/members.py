"""Which members the laws are fitted to, and what of them."""

import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxsae.numbers import is_number, is_positive

# Flags in which members may differ and still be one setting at one width and k: replicates, places, and how it ran.
_NO_SETTING = {
    "width",
    "k",
    "seed",
    "data_seed",
    "workdir",
    "store",
    "name",
    "flagfile",
    "mesh",
    "checkpoint_every",
    "log_every",
}


@dataclasses.dataclass(frozen=True)
class Member:
    """A finished member in numbers.

    Attributes:
      name, architecture, width, fvu, tokens, flops, held_out: as in sweep.json.
      k: active latents a row as measured (L0), or k where L0 was not. nominal_k: the flag, None for methods
        that have none (relu), whose sparsity another flag rules.
      delta_ce: nats a token, None where the model was not spliced.
      curve: {"tokens", "flops", "fvu"}: [points], rising in tokens; empty where there is none.
      setting: what else it was trained with.
    """

    name: str
    architecture: str
    width: int
    k: float
    nominal_k: float | None
    fvu: float
    tokens: float
    flops: float
    delta_ce: float | None
    held_out: bool
    curve: Mapping[str, np.ndarray]
    setting: str


def read_members(members: Iterable[Mapping[str, Any]]) -> tuple[list[Member], list[str]]:
    """The finished members that have figures, and a line for each finished one that has not."""
    out, trouble = [], []
    for member in members:
        if member.get("status") != "finished":
            continue
        figures = member.get("figures") or {}
        missing = [name for name in ("width", "fvu") if not is_positive(figures.get(name))]
        if not is_positive(figures.get("l0")) and not is_positive(figures.get("k")):
            missing.append("l0")
        if missing:
            trouble.append(f"{member.get('name')} has finished without {', '.join(missing)} and is not fitted.")
            continue
        delta = figures.get("delta_ce")
        out.append(
            Member(
                name=str(member.get("name")),
                architecture=str(figures.get("architecture") or "topk"),
                width=int(figures["width"]),
                k=float(figures["l0"] if is_positive(figures.get("l0")) else figures["k"]),
                nominal_k=float(figures["k"]) if is_positive(figures.get("k")) else None,
                fvu=float(figures["fvu"]),
                tokens=float(figures.get("tokens") or math.nan),
                flops=float(figures.get("flops") or math.nan),
                delta_ce=float(delta) if is_number(delta) else None,
                held_out=bool(member.get("held_out")),
                curve=_curve(figures.get("curve") or ()),
                setting=_setting(member.get("flags") or {}, figures),
            )
        )
    return out, trouble


def best_settings(members: Iterable[Member]) -> list[Member]:
    """Of members at one width and k, those of the setting with the lowest mean FVU, all seeds of it.

    A law holds at the best learning rate (and whatever else the grid varies); others would only raise it. Where there is no
    k all settings stay, since one of the flags rules the sparsity.
    """
    cells: dict[Any, dict[str, list[Member]]] = defaultdict(lambda: defaultdict(list))
    for member in members:
        cell = member.nominal_k if member.nominal_k is not None else member.setting
        cells[member.width, cell][member.setting].append(member)
    mean = lambda group: math.fsum(m.fvu for m in group) / len(group)
    return [m for settings in cells.values() for m in min(settings.values(), key=mean)]


def by_architecture(members: Iterable[Member]) -> dict[str, list[Member]]:
    """{architecture: its members}, in order of appearance."""
    out: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        out[member.architecture].append(member)
    return dict(out)


def by_k(members: Iterable[Member]) -> dict[float, list[Member]]:
    """{k as its flag says: members}, rising; without those that have no such flag."""
    out: dict[float, list[Member]] = defaultdict(list)
    for member in members:
        if member.nominal_k is not None:
            out[member.nominal_k].append(member)
    return dict(sorted(out.items()))


def _setting(flags: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    known = {name: value for name, value in flags.items() if name not in _NO_SETTING}
    known |= {name: figures.get(name) for name in ("learning_rate", "tokens")}
    return json.dumps(known, sort_keys=True, default=str)


def _curve(points: Iterable[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The points that hold positive numbers, each later than the one before."""
    kept, last = [], 0.0
    for point in points:
        row = [point.get(name) for name in ("tokens", "flops", "fvu")]
        if all(map(is_positive, row)) and row[0] > last:
            kept.append(row)
            last = row[0]
    columns = np.asarray(kept, np.float64).reshape(-1, 3).T
    return dict(zip(("tokens", "flops", "fvu"), columns, strict=True))
