"""Scores of one classifier for each target: areas under ROC curves and F1, with intervals over games.

Rows of one game are alike, so that intervals are over games: each figure is linearised, and the sum of a game's terms taken
as one observation (of AUROC by placement values, Obuchowski 1997, who extends DeLong et al. 1988 to clusters).
"""

import dataclasses

import numpy as np

from jaxsae.evaluate.intervals import Z_95


@dataclasses.dataclass(frozen=True)
class Scores:
    """Figures of T classifiers, NaN where a class is absent.

    Attributes:
      auroc, f1: [T]. auroc_by_game, f1_by_game: [G, T], what each game adds to a figure less its part, to first order; they
        sum to 0.
    """

    auroc: np.ndarray
    f1: np.ndarray
    auroc_by_game: np.ndarray
    f1_by_game: np.ndarray


def areas(scores_NxT: np.ndarray, labels_NxT: np.ndarray) -> np.ndarray:
    """[T]: AUROC of each column for its own target, ties counted half; NaN where a class is absent."""
    out = np.full(scores_NxT.shape[1], np.nan)
    for t, (column, holds) in enumerate(zip(scores_NxT.T, labels_NxT.T, strict=True)):
        positives, negatives = int(holds.sum()), int((~holds).sum())
        if positives and negatives:
            order, won = _wins(column, holds)
            out[t] = won[holds[order]].sum() / (positives * negatives)
    return out


def scores(logits_NxT: np.ndarray, labels_NxT: np.ndarray, games: int) -> Scores:
    """Of `games` games of equally many rows, game after game; a target is said to hold where its logit is above 0."""
    targets, game = labels_NxT.shape[1], np.repeat(np.arange(games), len(labels_NxT) // games)
    auroc, auroc_by_game = np.full(targets, np.nan), np.full((games, targets), np.nan)
    for t in range(targets):
        holds = labels_NxT[:, t]
        positives, negatives = int(holds.sum()), int((~holds).sum())
        if positives and negatives:
            order, won = _wins(logits_NxT[:, t], holds)
            there = holds[order]
            auroc[t] = won[there].sum() / (positives * negatives)
            # What a positive wins against all negatives, and a negative loses to all positives, as shares.
            terms = np.where(there, won / negatives, won / positives) - auroc[t]
            terms /= np.where(there, positives, negatives)
            auroc_by_game[:, t] = np.bincount(game[order], terms, minlength=games)
    said = logits_NxT > 0
    by_game = lambda a: a.reshape(games, -1, targets).sum(1)
    hits, sizes = by_game(said & labels_NxT), by_game(said) + by_game(labels_NxT)
    f1 = 2 * hits.sum(0) / np.maximum(sizes.sum(0), 1)
    f1_by_game = (2 * hits - f1 * sizes) / np.maximum(sizes.sum(0), 1)
    absent = np.isnan(auroc)
    return Scores(auroc, np.where(absent, np.nan, f1), auroc_by_game, np.where(absent, np.nan, f1_by_game))


def _wins(scores_N: np.ndarray, holds_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order [N] by score, and in it what each row beats of the negatives, or of a negative the positives that beat it."""
    order = np.argsort(scores_N)
    ascending, there = scores_N[order], holds_N[order]
    negatives = np.concatenate([[0], np.cumsum(~there)])
    starts_run = np.ones(len(order), bool)
    starts_run[1:] = ascending[1:] != ascending[:-1]
    if starts_run.all():
        below = negatives[:-1]
        above = there.sum() - (np.arange(len(order)) - below)
        return order, np.where(there, below, above).astype(np.float64)
    first = np.flatnonzero(starts_run)
    end = np.append(first[1:], len(order))
    run = np.cumsum(starts_run) - 1
    below = ((negatives[first] + negatives[end]) / 2)[run]  # tied ones count half
    positives_below = ((first - negatives[first] + end - negatives[end]) / 2)[run]
    return order, np.where(there, below, there.sum() - positives_below)


def mean_with_interval(values_T: np.ndarray, by_game_GxT: np.ndarray) -> tuple[float | None, list[float] | None]:
    """The mean over targets and its 95% interval over games; those that have no figure are left out."""
    defined = ~np.isnan(values_T)
    if not defined.any():
        return None, None
    mean, games = float(values_T[defined].mean()), len(by_game_GxT)
    if games < 2:
        return mean, None
    terms = by_game_GxT[:, defined].mean(1)
    half = Z_95 * float(np.sqrt(games / (games - 1) * np.square(terms).sum()))
    return mean, [mean - half, mean + half]
