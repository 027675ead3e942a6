"""Which target of the board a latent tells best, by what `evaluate --suite=othello` found."""

import json
from pathlib import Path

import numpy as np


def best_targets(run: Path, width: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [n] AUROC and int32 [n] target, of the largest where a latent tells several best; NaN and -1 of latents that
    tell none better than all others do, and where nothing was evaluated."""
    auroc, target = np.full(width, np.nan, np.float32), np.full(width, -1, np.int32)
    try:
        found = json.loads((run / "eval" / "othello.json").read_text(encoding="utf-8"))
        best, latents = found["best_auroc"], found["best_latent"]
        known = [(float(a), int(latent), t) for t, (a, latent) in enumerate(zip(best, latents, strict=True)) if a]
    except (OSError, ValueError, KeyError, TypeError):
        return auroc, target
    if found.get("width", width) != width:  # of another dictionary
        return auroc, target
    for value, latent, number in known:
        if 0 <= latent < width and not auroc[latent] >= value:
            auroc[latent], target[latent] = value, number
    return auroc, target
