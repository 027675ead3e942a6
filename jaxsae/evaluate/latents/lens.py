"""The logit lens of latents' directions: which tokens each promotes and suppresses, and whether that comes true.

Directions have length 1, and stand about the mean of what the unembedding reads, at its typical length. The kurtosis of a
direction's logit weights is high where it moves few tokens, their skew above 0 where it promotes these, below where it
suppresses them (Gurnee et al., Universal Neurons, 2401.12181). What a direction adds to the logits by itself is not what
its latent does in the model, where later blocks read it as well.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxsae.evaluate.latents.counts import clopper_pearson
from jaxsae.evaluate.splice_figures import interval
from jaxsae.evaluate.subject import Subject
from jaxsae.progress import Progress

TOP = 10  # tokens of each end that are kept
IN_RESIDUAL = ("resid_pre", "resid_post", "embed", "attn_out", "mlp_out")
STEP = 1e-2  # of the stream's length
QUANTILE = 0.99  # of random directions' kurtosis, above which a latent's counts as high
_KEY = 0x1E45


def refused(sites: tuple[str, ...]) -> str | None:
    """Why there is no lens of a dictionary that writes these; None where there is one."""
    if len(sites) > 1:
        return f"{len(sites)} sites are written, and a latent has a direction at each"
    if sites[0].split(".")[0] not in IN_RESIDUAL:
        return f"{sites[0]} is no part of the residual stream, which the unembedding reads"
    return None


class Lens:
    """Of directions [n, d]: moments of their logit weights and the tokens at both ends, by direction.

    Attributes:
      promoted, suppressed: int32 [n, TOP], and promoted_weights, suppressed_weights: float32, logits for a direction of
        length 1. skew, kurtosis (excess), spread (standard deviation over tokens): [n].
    """

    def __init__(self, subject: Subject, directions: np.ndarray, stream: np.ndarray, label: str):
        n, top = len(directions), min(TOP, subject.vocabulary)
        self.skew, self.kurtosis, self.spread = np.zeros((3, n))
        self.promoted, self.suppressed = np.zeros((2, n, top), np.int32)
        self.promoted_weights, self.suppressed_weights = np.zeros((2, n, top), np.float32)
        step = STEP * float(np.linalg.norm(stream))
        with Progress(n, f"latents, lens of {label}", "direction") as bar:
            for first, weights in subject.lens(directions, stream, step):
                at = slice(first, first + len(weights))
                self._take(at, np.asarray(weights, np.float64), top)
                bar.advance(len(weights))

    def _take(self, at: slice, weights: np.ndarray, top: int) -> None:
        centred = weights - weights.mean(1, keepdims=True)
        spread = np.sqrt(np.square(centred).mean(1))
        scaled = centred / np.maximum(spread, 1e-30)[:, None]
        self.spread[at], self.skew[at], self.kurtosis[at] = spread, (scaled**3).mean(1), (scaled**4).mean(1) - 3
        for sign, ids, values in (
            (-1, self.promoted, self.promoted_weights),
            (1, self.suppressed, self.suppressed_weights),
        ):
            order = np.argsort(sign * weights, axis=1, kind="stable")[:, :top]
            ids[at], values[at] = order, np.take_along_axis(weights, order, 1)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """For the .npz file."""
        names = ("promoted", "promoted_weights", "suppressed", "suppressed_weights", "skew", "kurtosis", "spread")
        return {f"lens_{name}": getattr(self, name) for name in names}


def stream_of(moments_mean: np.ndarray, mean_square: float) -> np.ndarray:
    """float32 [d]: the mean, at the root of the mean square of rows' lengths."""
    return np.float32(moments_mean * np.sqrt(mean_square) / max(np.linalg.norm(moments_mean), 1e-30))


def figures(own: Lens, random: Lens) -> dict[str, Any]:
    """How many directions move few tokens, beside random ones.

    Returns:
      `directions`, `kurtosis_limit` (of 99 in 100 random directions), `promoting` and `suppressing` {count, share, interval,
      random}: whose kurtosis is above it, with a skew above and below 0; medians of `kurtosis`, `skew` and `spread`, and
      `baselines` {random: these}.
    """
    limit = float(np.quantile(random.kurtosis, QUANTILE))
    out: dict[str, Any] = {"directions": len(own.skew), "kurtosis_limit": limit}
    for name, sign in (("promoting", 1), ("suppressing", -1)):
        some = (own.kurtosis > limit) & (sign * own.skew > 0)
        ends = clopper_pearson(some.sum(), len(some))
        chance = ((random.kurtosis > limit) & (sign * random.skew > 0)).mean()
        out[name] = {"count": int(some.sum()), "share": some.mean(), "interval": [float(end) for end in ends]}
        out[name] |= {"random": chance}
    medians = lambda lens: {name: float(np.median(getattr(lens, name))) for name in ("kurtosis", "skew", "spread")}
    return out | {"medians": medians(own), "baselines": {"random": medians(random)}}


def comes_true(
    latents: sp.csr_matrix, tops: dict[str, np.ndarray], right: np.ndarray, sequence: np.ndarray
) -> dict[str, Any]:
    """How often what a latent's direction promotes is right where the latent fires.

    Args:
      latents: [N, n]. tops: {what: int [n, t]}, tokens each latent is taken to promote. right: bool [N, vocabulary], or int
        [N], the one token that is, -1 where none is asked for. sequence: [N].

    Returns:
      {what: {share, interval over sequences}}, and `firings` that were counted.
    """
    row = np.repeat(np.arange(latents.shape[0]), np.diff(latents.indptr))
    counted = np.ones(len(row), bool) if right.ndim == 2 else right[row] >= 0
    row, latent = row[counted], latents.indices[counted]
    sizes = np.bincount(sequence[row], minlength=sequence.max() + 1)
    out: dict[str, Any] = {"firings": len(row)}
    for name, top in tops.items():
        hit = np.zeros(len(row), bool)
        for column in top.T:
            hit |= right[row, column[latent]] if right.ndim == 2 else right[row] == column[latent]
        sums = np.bincount(sequence[row], weights=hit, minlength=len(sizes))
        some = sizes > 0
        share = sums.sum() / sizes.sum() if sizes.sum() else None
        out[name] = {"share": share, "interval": interval(sums[some], sizes[some])}
    return out
