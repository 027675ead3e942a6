"""Whether a dictionary has a latent for each planted feature: one that points as it does, and fires where it stands.

Of feature i the latent j(i) whose decoder row has the largest cosine with it. With r the share of rows with the feature on
which the latent fires, q that of rows without it, and f the feature's frequency, at that frequency

    F1 = 2 f r / (2 f r + (1 - f) q + f (1 - r))

r is taken on rows on which the feature was put for the purpose, since a rare one stands on too few; q on rows as they are.
"""

from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.evaluate.compare.cosines import nearest, unit
from jaxsae.evaluate.encoding import encode_rows
from jaxsae.evaluate.errors_of_rows import Errors
from jaxsae.evaluate.probe import principal_components
from jaxsae.evaluate.rare.features import NOT_PLANTED, directions
from jaxsae.evaluate.rare.rows import Judged
from jaxsae.progress import Progress

ABSENT = 512  # directions that were not planted, by which chance is told


def judge(dictionary: Dictionary, judged: Judged, batch_size: int, frequency: np.ndarray) -> dict[str, Any]:
    """The figures of a dictionary.

    Args:
      frequency: float [F], shares of the rows it was trained on that each feature stands on.

    Returns:
      `cosine`, `latent`, `recall` (r), `false` (q), `f1`, each [F]; `fvu`, `l0` on the rows as they are; `absent`: the best
      cosines with directions that were not planted.
    """
    planted, absolute = judged.planted, dictionary.config.architecture == "abstopk"
    decoder = unit(np.nan_to_num(np.asarray(dictionary.params.W_dec, np.float32)))
    best = nearest(planted.directions, decoder, absolute)[0]
    latent = np.maximum(best.index, 0)  # of a dictionary without directions the first, whose cosine is 0
    false, without = np.zeros(len(latent)), np.zeros(len(latent))
    fired, rows, errors = 0, 0, None
    with Progress(judged.rows, "rare: judging", "row", scale=True) as bar:
        for x, codes in judged.natural(batch_size):
            active = encode_rows(dictionary, x, batch_size)
            errors = errors or Errors(x.mean(0, dtype=np.float64))
            errors.add(x, np.asarray(dictionary.reconstruct(x)))
            on = (active.tocsc()[:, latent] != 0).astype(np.float64)
            stands = (codes != 0).astype(np.float64)
            false += np.asarray(on.sum(0)).ravel() - np.asarray(on.multiply(stands).sum(0)).ravel()
            without += len(x) - np.asarray(stands.sum(0)).ravel()
            fired, rows = fired + active.nnz, rows + len(x)
            bar.advance(len(x))
    with_it = judged.besides()
    active = encode_rows(dictionary, with_it.reshape(-1, with_it.shape[-1]), batch_size)
    each = with_it.shape[1]
    on = np.asarray(active[np.arange(active.shape[0]), np.repeat(latent, each)] != 0)
    recall = np.reshape(on.astype(float), (len(latent), each)).mean(1)
    rate = false / np.maximum(without, 1)
    absent = directions(planted.seed, NOT_PLANTED, ABSENT, decoder.shape[1])
    return {
        "cosine": best.cosine,
        "latent": best.index,
        "recall": recall,
        "false": rate,
        "f1": f1_at(frequency, recall, rate),
        "fvu": errors.figures()["fvu"],
        "l0": fired / rows,
        "absent": nearest(absent, decoder, absolute)[0].cosine,
    }


def f1_at(frequency: np.ndarray, recall: np.ndarray, false: np.ndarray) -> np.ndarray:
    """F1 of a latent at a feature's frequency; 0 where it fires on nothing."""
    right = 2 * frequency * recall
    wrong = (1 - frequency) * false + frequency * (1 - recall)
    return np.divide(right, right + wrong, out=np.zeros_like(right), where=right + wrong > 0)


def by_components(judged: Judged, batch_size: int) -> np.ndarray:
    """float [F]: the largest |cosine| of each planted feature with a principal component of the rows as they are."""
    x = np.concatenate([rows for rows, _ in judged.natural(batch_size)])
    return np.abs(judged.planted.directions @ principal_components(x)[1]).max(1)
