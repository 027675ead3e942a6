"""Single units: how many targets the best of them tells, and what a dictionary's figures and a probe's are beside that."""

import dataclasses
from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxsae.dictionary import Dictionary
from jaxsae.dictionary.many import active_matrix
from jaxsae.evaluate.auroc import Best, best_units
from jaxsae.evaluate.coverage import Precise, both_halves, coverage, f1_of_boards, precise_classifiers
from jaxsae.evaluate.errors_of_rows import Errors
from jaxsae.evaluate.othello.targets import FOUND, STATES, both_present, mean_of_defined
from jaxsae.evaluate.scores import areas

_EXCLUSIVE = len(STATES)  # of a square's states exactly one holds


@dataclasses.dataclass(frozen=True)
class Found:
    """What single units of a kind tell.

    Attributes:
      figures: as they go into the JSON. best: the best unit of each target. precise: classifiers that reconstruct boards.
      active: the units as sparse latents [N, U]; of directions both halves.
    """

    figures: dict[str, Any]
    best: Best
    precise: Precise
    active: sp.csr_matrix


def of_dictionary(
    dictionary: Dictionary, x_NxD: np.ndarray, labels_NxT: np.ndarray, half: int, batch_size: int
) -> Found:
    """Of a dictionary's latents on activations x."""
    active, errors = encode_all(dictionary, x_NxD, batch_size)
    best = best_units(active, labels_NxT, half, exclusive=_EXCLUSIVE)
    boards, precise = _board_figures(active, labels_NxT, half)
    out = count_found(best.auroc, best.held_out) | {"best_latent": best.unit} | boards
    out |= {"fvu": errors.figures()["fvu"], "l0": active.nnz / len(x_NxD), "alive": len(np.unique(active.indices))}
    return Found(out, best, precise, active)


def of_directions(units_NxU: np.ndarray, labels_NxT: np.ndarray, half: int) -> Found:
    """Of coordinates of any kind, each with either sign."""
    best = best_units(units_NxU, labels_NxT, half, signed=True, exclusive=_EXCLUSIVE)
    active = both_halves(units_NxU)
    boards, precise = _board_figures(active, labels_NxT, half)
    return Found(count_found(best.auroc, best.held_out) | boards, best, precise, active)


def of_probes(logits_NxT: np.ndarray, labels_NxT: np.ndarray, half: int) -> dict[str, Any]:
    """Figures of one probe for each target; a probe says that its target holds where its logit is above 0."""
    own, said = areas(logits_NxT, labels_NxT), logits_NxT > 0
    hits, sizes = (said & labels_NxT).sum(0), said.sum(0) + labels_NxT.sum(0)
    f1 = np.where(both_present(labels_NxT), 2 * hits / np.maximum(sizes, 1), np.nan)
    # Fitted to other games, so that the same rows are held out already.
    return count_found(own, own) | {"coverage": mean_of_defined(f1)} | f1_of_boards(said[half:], labels_NxT[half:])


def count_found(best_T: np.ndarray, held_out_T: np.ndarray) -> dict[str, Any]:
    """Targets found, by state and in all, and the mean AUROC, NaN left out."""
    by_state = {state: int((part > FOUND).sum()) for state, part in zip(STATES, np.split(best_T, 3), strict=True)}
    return {
        "above_0.9": by_state | {"total": sum(by_state.values())},
        "held_out_total": int((held_out_T > FOUND).sum()),
        "mean_best_auroc": mean_of_defined(best_T),
        "best_auroc": best_T,
    }


def encode_all(dictionary: Dictionary, x_NxD: np.ndarray, batch_size: int) -> tuple[sp.csr_matrix, Errors]:
    """Active latents [N, n], sparse, and the sums of the reconstruction."""
    parts, errors = [], Errors(np.mean(x_NxD, 0, dtype=np.float64))
    for start in range(0, len(x_NxD), batch_size):
        x = x_NxD[start : start + batch_size]
        # One shape, compiled once.
        whole = np.pad(x, ((0, batch_size - len(x)), (0, 0)), mode="edge") if start else x
        latents = dictionary.encode(whole)
        errors.add(x, np.asarray(dictionary.decode(latents))[: len(x)])
        values, indices = (np.asarray(a)[: len(x)] for a in (latents.values, latents.indices))
        parts.append(active_matrix(values, indices, dictionary.width))
    return sp.vstack(parts, format="csr"), errors


def _board_figures(active: sp.csr_matrix, labels_NxT: np.ndarray, half: int) -> tuple[dict[str, Any], Precise]:
    defined = both_present(labels_NxT)
    f1 = np.where(defined, coverage(active, labels_NxT, _EXCLUSIVE), np.nan)
    precise = precise_classifiers(active[:half], labels_NxT[:half], _EXCLUSIVE)
    boards = f1_of_boards(precise.says(active[half:]), labels_NxT[half:])
    return {"coverage": mean_of_defined(f1)} | boards, precise
