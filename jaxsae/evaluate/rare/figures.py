"""What was found of planted features, by frequency and width, and the law of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsae.evaluate import intervals
from jaxsae.evaluate.rare.law import as_json, fit_power, fit_threshold
from jaxsae.evaluate.rare_config import RareConfig

ALSO = (
    0.7,
    0.8,
)  # cosines for which the law is told as well: of a rare feature a latent may point only nearly as it does


def figures(rare: RareConfig, runs: Sequence[dict[str, Any]], components: np.ndarray, lowest: float) -> dict[str, Any]:
    """The figures of all trainings.

    Args:
      runs: of each `seed`, `width`, `planned` [F], `rows` [F] (on which a feature stands) and what `judge` gives.
      components: [all seeds' F], best |cosine| with a principal component. lowest: the smallest frequency that was asked for.

    Returns:
      `frequencies`, as planned, and `lowest`; `features` (of all seeds), `seeds`, `widths`: {width: `found`, a share of each
      frequency, with `found_interval`, `cosine`, `recall` and `f1`, means of each; `share` of all features; `law`; `laws`
      {cosine: the law where that suffices}; `fvu`, `l0` (means over seeds); `absent`: best cosines with directions that were
      not planted, `mean`, `largest`, and the share that would count as found}; `power`, of the widths, and `powers`
      {cosine: ...}; `baselines`: `pca` and `absent`, shares found by chance; `thresholds`.
    """
    planned = np.array(sorted({f for run in runs for f in run["planned"]}, reverse=True))
    widths, found_by = {}, {}
    for width in sorted({run["width"] for run in runs}):
        mine = [run for run in runs if run["width"] == width]
        widths[str(width)], found_by[width] = _of_a_width(rare, mine, planned)
    absent = [widths[str(width)]["absent"]["found"] for width in found_by]
    return {
        "frequencies": planned,
        "lowest": lowest,
        "features": sum(len(run["planned"]) for run in runs) // len(widths),
        "seeds": len({run["seed"] for run in runs}),
        "thresholds": {"cosine": rare.rare_cosine, "f1": rare.rare_f1},
        "widths": widths,
        "power": as_json(_power(found_by, "found")),
        "powers": {name: as_json(_power(found_by, name)) for name in map(str, ALSO)},
        "baselines": {"pca": float((components >= rare.rare_cosine).mean()), "absent": max(absent)},
    }


def _of_a_width(
    rare: RareConfig, runs: Sequence[dict[str, Any]], planned: np.ndarray
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    column = lambda name, rows=runs: np.concatenate([np.asarray(run[name], float) for run in rows])
    # Frequencies as they came out, of all rows of a seed; what stands on none was not planted.
    asked, cosine, f1, rows = (column(name) for name in ("planned", "cosine", "f1", "rows"))
    there = rows > 0
    enough = f1 >= rare.rare_f1
    found = enough & (cosine >= rare.rare_cosine)
    frequency = column("share")
    less = {str(c): enough & (cosine >= c) for c in ALSO}
    law = lambda hits: as_json(fit_threshold(frequency[there], hits[there]))
    by = [there & np.isclose(asked, f) for f in planned]
    each = lambda of: [float(of[b].mean()) if b.any() else None for b in by]
    absent = column("absent")
    out = {
        "found": each(found),
        "found_interval": [intervals.of_share(found[b].sum(), b.sum()) for b in by],
        "cosine": each(cosine),
        "recall": each(column("recall")),
        "f1": each(f1),
        "share": float(found[there].mean()),
        "share_interval": intervals.of_share(found[there].sum(), there.sum()),
        "law": law(found),
        "laws": {name: law(hits) for name, hits in less.items()},
        "fvu": float(np.mean([run["fvu"] for run in runs])),
        "l0": float(np.mean([run["l0"] for run in runs])),
        "absent": {"mean": absent.mean(), "largest": absent.max(), "found": (absent >= rare.rare_cosine).mean()},
    }
    hits = {"found": found} | less
    return out, {"frequency": frequency[there]} | {name: of[there] for name, of in hits.items()}


def _power(found_by: dict[int, dict[str, np.ndarray]], name: str):
    """The law over the widths, of one of two ways to find."""
    frequency, found = (np.concatenate([of[key] for of in found_by.values()]) for key in ("frequency", name))
    width = np.concatenate([np.full(len(of[name]), n) for n, of in found_by.items()])
    return fit_power(frequency, width, found)
