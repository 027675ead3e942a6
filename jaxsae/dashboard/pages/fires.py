"""What a latent fires on in short: tokens of its strongest contexts, and the whole words that these are parts of."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from jaxsae.dashboard.pages.block import narrow
from jaxsae.dashboard.pages.vocabulary import Vocabulary
from jaxsae.dashboard.record import TOP, Record

STRONGEST = 12  # contexts that are counted in
TOKENS, WHOLE = 5, 3  # that are kept, the most common
REACH = 6  # tokens to either side that belong to a word, at most
CHUNK = 1_024  # latents looked at together


def fires(record: Record, words: Vocabulary) -> tuple[dict[str, np.ndarray], list[str]]:
    """Of m latents that are shown, as indices, -1 where there is no more.

    Returns:
      fires [m, TOKENS], of words; whole [m, WHOLE], of the list that comes with it: words in which those tokens stand, such
      as "learning" of a token "ar". Only text has such words: otherwise whole is [m, 0].
    """
    m, text = len(record.shown), record.about.get("kind") == "text"
    tokens = np.full((m, TOKENS if record.tokens.shape[1] else 0), -1, np.int32)
    whole, known = np.full((m, WHOLE if text else 0), -1, np.int32), {}
    begins, ends = (np.array([word[i : i + 1 or None].isalnum() for word in words.words] + [False]) for i in (0, -1))
    for low in range(0, m, CHUNK) if tokens.size else ():
        latent, place = _strongest(record, slice(low, low + CHUNK))
        column = record.at[place][:, None] + np.arange(-REACH, REACH + 1)
        there = (column >= 0) & (column < record.tokens.shape[1])
        around = np.where(there, record.tokens[place[:, None], np.where(there, column, 0)], -1)
        around = words.index(around).astype(np.int64)
        _count(tokens, latent, around[:, REACH].tolist())
        if text:
            found = _whole(around, begins, ends, words.words)
            _count(whole, latent, [known.setdefault(word, len(known)) if word else -1 for word in found])
    return {"fires": narrow(tokens), "whole": narrow(whole)}, list(known)


def _strongest(record: Record, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """int64 [Q], [Q]: rows of latents, and their contexts that are counted."""
    start = record.start[rows.start : rows.stop + 1]
    place = start[:-1, None] + np.arange(STRONGEST)
    kept = place < start[1:, None]
    kept &= record.band[np.where(kept, place, 0)] == TOP if len(record.band) else False
    return np.nonzero(kept)[0] + rows.start, place[kept]


def _whole(around: np.ndarray, begins: np.ndarray, ends: np.ndarray, words: list[str]) -> list[str]:
    """The words in which the tokens in the middle of [Q, 2 REACH + 1] stand, "" where there is no letter or digit.

    Two tokens belong to one word where the first ends, and the second begins, with a letter or digit.
    """
    joined = ends[around[:, :-1]] & begins[around[:, 1:]]  # of each token with the next
    left = np.cumprod(joined[:, :REACH][:, ::-1], 1).sum(1)
    right = np.cumprod(joined[:, REACH:], 1).sum(1)
    rows = zip(around.tolist(), (REACH - left).tolist(), (REACH + 1 + right).tolist(), strict=True)
    found = ("".join([words[i] for i in row[first:last] if i >= 0]).strip() for row, first, last in rows)
    return [word if any(map(str.isalnum, word)) else "" for word in found]


def _count(out: np.ndarray, latent: np.ndarray, found: Iterable[int]) -> None:
    """Writes what is most common of each latent's into its row; latents stand together."""
    counts: dict[int, Counter[int]] = {}
    for row, one in zip(latent.tolist(), found, strict=True):
        counts.setdefault(row, Counter())[one] += 1
    for row, counter in counts.items():
        common = [one for one, _ in counter.most_common() if one >= 0][: out.shape[1]]
        out[row, : len(common)] = common
