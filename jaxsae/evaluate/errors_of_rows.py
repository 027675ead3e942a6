"""Sums over rows of what was reconstructed and what it should be, and the figures that follow (see `reconstruction.py`)."""

import numpy as np


class Errors:
    """Sums over rows of products of x and x_hat, about `mean` and about 0."""

    def __init__(self, mean: np.ndarray):
        self.mean, self.rows, self.dimensions = np.asarray(mean, np.float64), 0, len(mean)
        self._sums = dict.fromkeys(("ee", "xx", "hh", "hx", "cosine", "yy", "gg", "gy", "cosine_centred"), 0.0)

    def add(self, x_BxD: np.ndarray, x_hat_BxD: np.ndarray) -> None:
        """Takes in activations and their reconstructions."""
        x, h = np.asarray(x_BxD, np.float64), np.asarray(x_hat_BxD, np.float64)
        self.rows += len(x)
        self._sums["ee"] += np.square(x - h).sum()
        self._add_pair(x, h, "xx", "hh", "hx", "cosine")
        self._add_pair(x - self.mean, h - self.mean, "yy", "gg", "gy", "cosine_centred")

    def _add_pair(self, a: np.ndarray, b: np.ndarray, *names: str) -> None:
        aa, bb, ab = np.square(a).sum(1), np.square(b).sum(1), (a * b).sum(1)
        norms = np.sqrt(aa * bb)
        cosines = np.divide(ab, norms, out=np.zeros_like(ab), where=norms > 0)
        for name, terms in zip(names, (aa, bb, ab, cosines), strict=True):
            self._sums[name] += terms.sum()

    def figures(self) -> dict[str, float | None]:
        """FVU and its relatives; a cosine with a vector of length 0 counts as 0."""
        s, n = self._sums, self.rows
        fvu = ratio(s["ee"], s["yy"])
        return {
            "fvu": fvu,
            "explained_variance": None if fvu is None else 1 - fvu,
            "mse": s["ee"] / (n * self.dimensions),
            "gamma": ratio(s["gg"], s["gy"]),
            "gamma_uncentred": ratio(s["hh"], s["hx"]),
            "cosine": s["cosine"] / n,
            "cosine_centred": s["cosine_centred"] / n,
        }


def ratio(a: float, b: float) -> float | None:
    """a / b, None where b is not above 0."""
    return a / b if b > 0 else None
