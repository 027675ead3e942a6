"""Where on the board, and when in a game, targets are told: by ring of squares, from the centre to the edge, and by ply."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxsae.evaluate.othello.targets import FOUND, RING_OF_SQUARE, RING_OF_TARGET, RINGS, both_present, mean_of_defined
from jaxsae.evaluate.scores import areas

STAGES = 4  # of a game, of plies


def rings(
    best: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray], labels_NxT: np.ndarray, games: int, first: int
) -> dict[str, Any]:
    """Figures by ring.

    Args:
      best: {kind of units: AUROC [T] of the best}. scores: {kind: [N, T], of which AUROCs are taken ply by ply}, for
      labels_NxT: targets of `games` games, whose first position kept is the ply `first`.
    """
    of_ring = [ring == RING_OF_TARGET for ring in range(len(RINGS))]
    out: dict[str, Any] = {"rings": RINGS, "squares": np.bincount(RING_OF_SQUARE)}
    out["targets"] = [int(both_present(labels_NxT)[here].sum()) for here in of_ring]
    out["mean_best_auroc"] = {kind: [mean_of_defined(auroc[here]) for here in of_ring] for kind, auroc in best.items()}
    out["found"] = {kind: [int((auroc[here] > FOUND).sum()) for here in of_ring] for kind, auroc in best.items()}
    plies = len(labels_NxT) // games
    cuts = [part for part in np.array_split(np.arange(plies), STAGES) if len(part)]
    out["plies"] = [[first + int(part[0]), first + int(part[-1])] for part in cuts]
    ply = np.tile(np.arange(plies), games)
    stages = [np.isin(ply, part) for part in cuts]
    of = lambda found: [areas(found[here], labels_NxT[here]) for here in stages]
    by_ply = {kind: of(found) for kind, found in scores.items()}
    # [ring][stage]
    out["by_ply"] = {
        kind: [[mean_of_defined(auroc[here]) for auroc in stage] for here in of_ring] for kind, stage in by_ply.items()
    }
    return out


def chosen_units(units_NxU: sp.csr_matrix, chosen_T: np.ndarray) -> np.ndarray:
    """float32 [N, T]: of each target the unit that was chosen for it; 0 where none was."""
    dense = units_NxU.tocsc()[:, np.maximum(chosen_T, 0)].toarray()
    return np.where(chosen_T < 0, 0, dense)
