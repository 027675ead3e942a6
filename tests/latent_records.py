"""Records of latents that were never trained: each fires on a few words of a stream, or on a square of made-up boards."""

import numpy as np

from jaxsae.dashboard import Record
from jaxsae.dashboard.record import TOP

HISTOGRAM, ENDS, NEAR, BANDS = 24, 10, 8, 5
AWKWARD = [
    "</script>",
    "<b>bold</b>",
    "\u2028",
    "\n",
    "\t",
    "  ",
    " ",
    '"',
    "\\",
    "'",
    "&amp;",
    "\u202e",
    "\ufffd",
    " é",
    " 日本",
    "-->",
]


def made_words(count: int, seed: int = 0) -> list[str]:
    """Words of syllables with a space before each, behind the awkward ones."""
    rng = np.random.default_rng(seed)
    syllables = ["ka", "lo", "mi", "ten", "sor", "va", "el", "qui", "pra", "du", "ne", "sh", "ing", "or", "tu", "ba"]
    made = {}
    while len(made) < count - len(AWKWARD):
        made[" " + "".join(rng.choice(syllables, rng.integers(1, 5)))] = None
    return (AWKWARD + list(made))[:count]


def made_stream(words: int, length: int, seed: int = 0) -> np.ndarray:
    """int32 [length], tokens as common as words are (Zipf)."""
    share = 1 / np.arange(1, words + 1)
    return np.random.default_rng(seed).choice(words, length, p=share / share.sum()).astype(np.int32)


def text_record(
    n: int,
    words: list[str],
    stream: np.ndarray,
    *,
    top: int = 8,
    banded: int = 2,
    length: int = 24,
    seed: int = 0,
    **about,
) -> Record:
    """Latent i fires on one word of `stream`, more where the word before is a long one; every ninth never fires."""
    rng = np.random.default_rng(seed)
    counts = np.bincount(stream, minlength=len(words))
    frequent = np.flatnonzero(counts >= 2)
    own = rng.choice(frequent, n).astype(np.int32)
    silent = np.arange(n) % 9 == 8
    shown = np.flatnonzero(~silent).astype(np.int32)
    m, each = len(shown), top + BANDS * banded
    by_word = np.argsort(stream, kind="stable")
    first = np.concatenate([[0], np.cumsum(counts)])
    picks = first[own[shown]][:, None] + (rng.random((m, each)) * counts[own[shown]][:, None]).astype(np.int64)
    middle = by_word[picks].ravel()
    band = np.tile(np.concatenate([np.full(top, TOP), np.repeat(np.arange(1, BANDS + 1), banded)]).astype(np.int8), m)
    most = (rng.gamma(3, 2, n) * ~silent).astype(np.float32)
    share = np.where(band == TOP, 0.9 + 0.1 * rng.random(len(band)), (band - rng.random(len(band))) / BANDS)
    share = share.astype(np.float32).reshape(m, each)
    share[:, :top] = -np.sort(-share[:, :top])
    share[:, 0] = 1
    at = rng.integers(length // 3, length - 2, len(middle)).astype(np.int16)
    column = middle[:, None] + np.arange(length) - at[:, None]
    there = (column >= 0) & (column < len(stream))
    tokens = np.where(there, stream[np.clip(column, 0, len(stream) - 1)], -1)
    tokens[rng.random(len(tokens)) < 0.1, length - 1 :] = -1
    height = (share * most[shown][:, None]).astype(np.float32).ravel()
    values = np.where(tokens == np.repeat(own[shown], each)[:, None], height[:, None] * 0.7, 0).astype(np.float32)
    values[rng.random(values.shape) < 0.06] *= 0.4
    values += (rng.random(values.shape) < 0.05) * height[:, None] * rng.random(values.shape).astype(np.float32) * 0.3
    values[:, :2] = np.nan
    values[np.arange(len(at)), at] = height
    edges = np.exp(-np.arange(HISTOGRAM) / 3.5)
    frequency = np.where(silent, 0, counts[own] / len(stream)).astype(np.float32)
    histogram = rng.poisson(counts[own[shown]][:, None] * edges / edges.sum() * 20).astype(np.int32)
    near = rng.integers(0, n, (m, NEAR)).astype(np.int32)
    falling = -np.sort(-rng.random((m, NEAR)).astype(np.float32))
    ends = lambda: rng.integers(0, len(words), (m, ENDS)).astype(np.int32)
    weights = lambda: -np.sort(-rng.gamma(2, 0.4, (m, ENDS)).astype(np.float32))
    told = {
        "run": "made", "kind": "text", "site": "resid_post.2", "model": "made", "tokenizer": "made", "store": "made.store",
        "rows": len(stream), "sequences": len(stream) // 256, "width": n, "d_model": 64, "architecture": "topk",
        "bands": BANDS, "seed": seed, "version": "0",
    }  # fmt: skip
    return Record(
        about=told | about,
        frequency=frequency,
        mean=most * np.float32(0.4),
        most=most,
        norm=(0.8 + 0.4 * rng.random(n)).astype(np.float32),
        auroc=np.full(n, np.nan, np.float32),
        target=np.full(n, -1, np.int32),
        shown=shown,
        histogram=histogram,
        promoted=ends(),
        promoted_weights=weights(),
        suppressed=ends(),
        suppressed_weights=-weights(),
        nearest=near,
        nearest_cosine=falling,
        together={"": (np.roll(near, 1, 0), falling * np.float32(0.6))},
        start=np.arange(m + 1, dtype=np.int64) * each,
        band=band,
        sequence=(middle // 256).astype(np.int32),
        position=(middle % 256).astype(np.int32),
        at=at,
        tokens=tokens.astype(np.int32),
        values=values,
        mine=np.zeros(0, np.uint64),
        theirs=np.zeros(0, np.uint64),
        words=dict(enumerate(words)),
    )
