"""Directions that nobody learned, as many as a dictionary has: random ones, and ones spread as its own decoder's rows are.

Activations lie mostly in few directions, and so do decoders: two of them are near to each other by that alone.
"""

import numpy as np

from jaxsae.evaluate.compare.cosines import nearest, summed, unit

_KEY = 0x434D
CURVE = np.linspace(0, 1, 51)  # cosines at which the shares of latents above them are kept


def directions(kind: str, rows_MxD: np.ndarray, seed: int) -> np.ndarray:
    """float32 [as many as have a direction, d], of length 1.

    Args:
      kind: "random": all directions are alike; "covariance": Gaussian, with the mean and the covariance of the rows.
      rows_MxD: the decoder's rows at length 1, or 0.
    """
    rows = np.float64(rows_MxD[rows_MxD.any(1)])
    drawn = np.random.default_rng([seed, _KEY]).standard_normal(rows.shape)
    if kind == "covariance":
        mean = rows.mean(0)
        values, vectors = np.linalg.eigh(np.cov(rows.T, bias=True).reshape(rows.shape[1], -1))
        drawn = mean + drawn @ (vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T)
    return unit(np.float32(drawn))


KINDS = ("random", "covariance")


def by_chance(
    own_NxD: np.ndarray, rows_MxD: np.ndarray, threshold: float, parts: int, absolute: bool, seed: int
) -> dict[str, dict[str, float]]:
    """What a dictionary [N, d] shares with directions in place of another one's [M, d].

    Returns:
      {kind: `mean_max_cosine`, `shared`, `sum`, the share that only several of them together come to, and `curve`}.
    """
    own, out = own_NxD[own_NxD.any(1)], {}
    for kind in KINDS:
        drawn = directions(kind, rows_MxD, seed)
        found = nearest(own, drawn, absolute)[0]
        near = found.cosine >= threshold
        together = summed(own[~near], drawn, parts, absolute)[0][:, -1] >= threshold
        out[kind] = {
            "mean_max_cosine": float(found.cosine.mean()),
            "shared": float(near.mean()),
            "sum": float(together.sum() / len(own)),
            "curve": above(found.cosine),
        }
    return out


def above(cosines: np.ndarray) -> list[float]:
    """Shares of latents whose nearest one is as near as each of CURVE, or nearer."""
    return [float((cosines >= c).mean()) for c in CURVE]
