"""What several units say together: k-sparse probes of each target, and whole boards, square by square."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxsae.evaluate.othello import few
from jaxsae.evaluate.othello.targets import FOUND, STATES
from jaxsae.evaluate.scores import mean_with_interval, scores
from jaxsae.evaluate.splice_figures import interval

SQUARES = 64


def by_k(
    fitted: few.Units, labels_fit: np.ndarray, seen: few.Units, labels: np.ndarray, games: int, sizes: Sequence[int]
) -> tuple[dict[str, Any], dict[int, np.ndarray]]:
    """Figures of k-sparse probes, and {k: their logits [N, T]}.

    Args:
      fitted, labels_fit: the units and targets of the games that probes are fitted to. seen, labels: of `games` others.
    """
    apart, logits = few.differences(fitted, labels_fit), {}
    for k in sizes:
        logits[k] = few.fit(fitted, labels_fit, k, apart).logits(seen)
    columns = [probe_figures(logits[k], labels, games) for k in sizes]
    return {name: [column[name] for column in columns] for name in columns[0]}, logits


def probe_figures(logits_NxT: np.ndarray, labels_NxT: np.ndarray, games: int) -> dict[str, Any]:
    """Means over targets of probes' AUROC and F1, with intervals over games, and how many are found."""
    found = scores(logits_NxT, labels_NxT, games)
    auroc, auroc_ends = mean_with_interval(found.auroc, found.auroc_by_game)
    f1, f1_ends = mean_with_interval(found.f1, found.f1_by_game)
    return {
        "mean_auroc": auroc,
        "mean_auroc_interval": auroc_ends,
        "above_0.9": int((found.auroc > FOUND).sum()),
        "mean_f1": f1,
        "mean_f1_interval": f1_ends,
    }


def boards(scores_NxT: np.ndarray, labels_NxT: np.ndarray, games: int) -> dict[str, Any]:
    """How many squares of a board are wrong where each has the state of the largest score, and how many boards are right;
    `wrong` [64]: the share of boards in which a square is."""
    missed = _states(scores_NxT) != _states(labels_NxT)
    wrong = missed.sum(1)
    of_games = wrong.reshape(games, -1)
    right = (of_games == 0).mean(1)
    return {
        "boards": float(right.mean()),
        "boards_interval": _of_shares(interval(right)),
        "squares_wrong": float(wrong.mean()),
        "squares_wrong_interval": interval(of_games.mean(1)),
        "wrong": missed.mean(0),
    }


def _of_shares(ends: list[float] | None) -> list[float] | None:
    """An interval from 0 to 1 at most, beyond which a normal one of a rare thing may reach."""
    return ends and [max(0.0, ends[0]), min(1.0, ends[1])]


def _states(scores_NxT: np.ndarray) -> np.ndarray:
    """int [N, 64]: of each square the state with the largest score."""
    return scores_NxT.reshape(-1, len(STATES), SQUARES).argmax(1)


def all_boards(named: Mapping[str, np.ndarray], labels_NxT: np.ndarray, games: int) -> dict[str, Any]:
    """{name: `boards`} of some scores [N, T]."""
    return {name: boards(found, labels_NxT, games) for name, found in named.items()}


def said_scores(said_NxT: np.ndarray, labels_fit: np.ndarray) -> np.ndarray:
    """[N, T]: 1 for what is said to hold, and below it how common a state is elsewhere, for squares of which nothing is said,
    or several things are."""
    return said_NxT + 0.99 * labels_fit.mean(0)
