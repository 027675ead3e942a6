"""What the list of latents is drawn, sorted and searched by: columns of all latents, and words of those shown."""

from collections.abc import Mapping

import numpy as np

from jaxsae.dashboard.pages.block import narrow
from jaxsae.dashboard.pages.vocabulary import Vocabulary
from jaxsae.dashboard.record import Record
from jaxsae.errors import InputError

BEFORE, AFTER = 7, 4  # tokens of the strongest context that the list shows around the one that fires
FIGURES = ("frequency", "mean", "most", "norm", "auroc")


def columns(record: Record) -> dict[str, np.ndarray]:
    """float32 [n] of each figure, target int16 [n], shown int32 [m]."""
    found = {name: np.asarray(getattr(record, name), np.float32) for name in FIGURES}
    return found | {"target": narrow(record.target), "shown": record.shown.astype(np.int32)}


def labelled(record: Record, labels: Mapping[int, str], site: str) -> tuple[np.ndarray, list[str]]:
    """Latents with a label, int32 [l] ascending, and their labels.

    Raises:
      InputError: a label for a latent that is not there.
    """
    latents = sorted(labels)
    for latent in latents[:1] + latents[-1:]:
        if not 0 <= latent < record.width:
            raise InputError(
                f"--labels: latent {latent} of {site or 'the dictionary'} is not there, "
                f"its latents are 0 to {record.width - 1}. Remove the line or name the labels of this dictionary."
            )
    return np.array(latents, np.int32), [str(labels[latent]) for latent in latents]


def previews(record: Record, words: Vocabulary) -> dict[str, np.ndarray]:
    """Indices of words by which each of the m latents shown is told and found, -1 where there is none.

    Returns:
      snippet [m, BEFORE + 1 + AFTER]: the strongest context, with the token that fires at BEFORE. promoted [m, T].
    """
    m, length = len(record.shown), record.tokens.shape[1]
    first, some = record.start[:-1], np.diff(record.start) > 0
    snippet = np.full((m, 0), -1, np.int8)
    if length and some.any():
        row = np.where(some, first, 0)
        column = record.at[row][:, None] + np.arange(-BEFORE, AFTER + 1)
        there = some[:, None] & (column >= 0) & (column < length)
        snippet = np.where(there, record.tokens[row[:, None], np.where(there, column, 0)], -1)
    return {"promoted": words.index(record.promoted), "snippet": words.index(snippet)}
