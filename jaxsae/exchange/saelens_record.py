"""What the record in a file of SAELens says of the training that made it."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def recorded_k(settings: Mapping[str, Any]) -> Any:
    """k as the settings have it; a BatchTopK's, which may be a fraction, stands in the record of its training."""
    details = _details(settings)
    if "k" in settings and details is not settings:
        return settings["k"]
    k = details.get("k")
    return max(1, round(k)) if isinstance(k, float) and np.isfinite(k) else k


def recorded_l0(settings: Mapping[str, Any]) -> Any:
    """The L0 that the training of a jumprelu aimed at, from the record of its training."""
    return _details(settings).get("target_l0")


def trained_as(settings: Mapping[str, Any]) -> Any:
    """SAELens' name of what was trained, where the record says it: several of them are saved as jumprelu."""
    if _is_checkpoint(settings):
        return settings["architecture"]
    told = settings.get("metadata")
    return told.get("training_architecture") if isinstance(told, Mapping) else None


def _is_checkpoint(settings: Mapping[str, Any]) -> bool:
    """Whether these are the settings of a training, saved in its course."""
    return settings.get("architecture") in ("batchtopk", "matryoshka_batchtopk") or "jumprelu_bandwidth" in settings


def _details(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    if _is_checkpoint(settings):
        return settings
    told = settings.get("metadata")
    details = told.get("training_architecture_details") if isinstance(told, Mapping) else None
    return details if isinstance(details, Mapping) else {}


def recorded_prefixes(settings: Mapping[str, Any], width: int) -> tuple[int, ...]:
    """The prefixes of a matryoshka's training; none, which is jaxsae's default, where the record has none of this width."""
    widths = _details(settings).get("matryoshka_widths")
    whole = isinstance(widths, list) and all(type(n) is int for n in widths)
    if not whole or not widths or widths[-1] != width:
        return ()
    return tuple(widths) if all(a < b for a, b in zip([0, *widths], widths, strict=False)) else ()
