"""A record of latents that fire at random, with what they did at every position to hold it against."""

import dataclasses

import numpy as np
import scipy.sparse as sp

from jaxsae.dashboard.drawn import choose, fires
from jaxsae.dashboard.record import Record
from jaxsae.dictionary import Dictionary, MethodConfig, Params

SEQUENCES, CONTEXT, WIDTH, D, K = 30, 24, 300, 16, 6
DEAD = (5, 77)
BINS, BANDS, LENGTH, BEFORE = 20, 4, 8, 5
SITE = "resid_post.3"


@dataclasses.dataclass(frozen=True)
class World:
    """`z` [SEQUENCES, CONTEXT, WIDTH], activations, NaN at the first position, which was not harvested; `tokens` [S, C]."""

    record: Record
    dictionary: Dictionary
    z: np.ndarray
    tokens: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """[R, WIDTH], those that were harvested."""
        return self.z[:, 1:].reshape(-1, WIDTH)


def world(seed: int = 0, **about) -> World:
    """Rows of K active latents each; decoder rows of any length."""
    rng = np.random.default_rng(seed)
    alive = np.setdiff1d(np.arange(WIDTH), DEAD)
    z = np.zeros((SEQUENCES * CONTEXT, WIDTH), np.float32)
    for row in z:
        row[rng.choice(alive, K, replace=False)] = rng.gamma(2.0, 1.5, K)
    z = z.reshape(SEQUENCES, CONTEXT, WIDTH)
    z[:, 0] = np.nan
    tokens = rng.integers(0, 50, (SEQUENCES, CONTEXT)).astype(np.int32)
    W_dec = (rng.uniform(0.5, 2, (WIDTH, 1)) * rng.standard_normal((WIDTH, D))).astype(np.float32)
    params = Params.of(W_enc=W_dec, b_enc=np.zeros(WIDTH, np.float32), W_dec=W_dec, b_dec=np.zeros(D, np.float32))
    metadata = {"model": "gpt2", "site": SITE, "context": CONTEXT}
    dictionary = Dictionary(params, MethodConfig(width=WIDTH, architecture="topk", k=K), metadata)
    return World(_record(z, tokens, W_dec, rng, about), dictionary, z, tokens)


def _record(z, tokens, W_dec, rng, about) -> Record:
    rows = z[:, 1:].reshape(-1, WIDTH)
    active = rows > 0
    shown = np.flatnonzero(active.any(0)).astype(np.int32)
    most = rows.max(0)
    places, start = [], [0]
    for latent in shown:
        places += _places(z[..., latent], most[latent], rng)
        start.append(len(places))
    windows = [_window(z[..., latent], tokens, s, p) for latent, s, p, _ in _with_latent(places, shown, start)]
    unit = W_dec / np.linalg.norm(W_dec, axis=1, keepdims=True)
    nearest, nearest_cosine = _largest(unit @ unit.T, shown)
    phi, phi_values = _largest(np.nan_to_num(np.corrcoef(active.T + 1e-9 * rng.random((WIDTH, len(rows))))), shown)
    lens = np.sort(rng.standard_normal((len(shown), 4)).astype(np.float32), 1)
    sequence, position = (a.ravel() for a in np.mgrid[0:SEQUENCES, 1:CONTEXT])
    first = choose(sequence, position, LENGTH, 40, seed=0)
    drawn_start, drawn_fires = fires(sp.csc_matrix(rows), first, LENGTH)
    at_first = list(zip(sequence[first], position[first], strict=True))
    return Record(
        about={
            **{"kind": "text", "site": SITE, "model": "gpt2", "store": "store", "rows": len(rows), "bands": BANDS},
            **{"sequences": SEQUENCES, "width": WIDTH, "d_model": D, "architecture": "topk", "seed": 0, **about},
        },
        frequency=active.mean(0).astype(np.float32),
        mean=(rows.sum(0) / np.maximum(active.sum(0), 1)).astype(np.float32),
        most=most.astype(np.float32),
        norm=np.linalg.norm(W_dec, axis=1).astype(np.float32),
        auroc=np.full(WIDTH, np.nan, np.float32),
        target=np.full(WIDTH, -1, np.int32),
        shown=shown,
        histogram=np.stack([np.histogram(r[r > 0], BINS, (0, r.max()))[0] for r in rows.T[shown]]).astype(np.int32),
        promoted=np.tile(np.array([3, 4, -1], np.int32), (len(shown), 1)),
        promoted_weights=lens[:, [3, 2, 0]],
        suppressed=np.tile(np.array([7, 8, 9], np.int32), (len(shown), 1)),
        suppressed_weights=lens[:, [0, 1, 2]] - 4,
        nearest=nearest,
        nearest_cosine=nearest_cosine,
        together={"": (phi, phi_values)},
        start=np.array(start, np.int64),
        band=np.array([band for _, _, band in places], np.int8),
        sequence=np.array([s for s, _, _ in places], np.int32),
        position=np.array([p for _, p, _ in places], np.int32),
        at=np.array([at for at, _, _ in windows], np.int16),
        tokens=np.stack([t for _, t, _ in windows]),
        values=np.stack([v for _, _, v in windows]),
        mine=np.zeros(0, np.uint64),
        theirs=np.zeros(0, np.uint64),
        words={token: f" t{token}" for token in range(49)},  # 49 has none
        drawn=np.stack([tokens[s, p : p + LENGTH] for s, p in at_first]),
        drawn_sequence=sequence[first].astype(np.int32),
        drawn_position=position[first].astype(np.int32),
        drawn_start=drawn_start,
        drawn_fires=drawn_fires,
    )


def _with_latent(places, shown, start):
    owner = np.repeat(shown, np.diff(start))
    return [(latent, *place) for latent, place in zip(owner, places, strict=True)]


def _places(z_SxC, most, rng):
    """(sequence, position, band): the four strongest of different sequences, and up to two of each band."""
    found = np.argwhere(np.nan_to_num(z_SxC) > 0)
    values = z_SxC[tuple(found.T)]
    by_strength = found[np.argsort(-values)]
    _, first = np.unique(by_strength[:, 0], return_index=True)
    top = [(s, p, 0) for s, p in by_strength[np.sort(first)][:4]]
    band = np.ceil(values / most * BANDS).astype(int)
    drawn = []
    for b in range(1, BANDS + 1):
        own = found[band == b]
        drawn += [(s, p, b) for s, p in own[np.sort(rng.permutation(len(own))[:2])]]
    return top + drawn


def _window(z_SxC, tokens, s, p):
    first, last = max(0, p - BEFORE), min(CONTEXT, p - BEFORE + LENGTH)
    out, values = np.full(LENGTH, -1, np.int32), np.full(LENGTH, np.nan, np.float32)
    out[: last - first], values[: last - first] = tokens[s, first:last], z_SxC[s, first:last]
    return p - first, out, values


def _largest(score_NxN, shown, count=3):
    score = score_NxN[shown].astype(np.float32)
    score[np.arange(len(shown)), shown] = -np.inf
    top = np.argsort(-score, axis=1)[:, :count]
    return top.astype(np.int32), np.take_along_axis(score, top, 1)
