"""Mean and spread of activations, merged shard by shard in float64."""

import dataclasses
import math
from collections.abc import Iterable
from functools import reduce
from typing import Any

import numpy as np

_SLICE_ROWS = 4_096  # rows held in float64 at a time
OUTLIER = 6.0  # a dimension whose root mean square is so many times the median one is an outlier


@dataclasses.dataclass(frozen=True)
class Moments:
    """Row count, mean [d] and centred sum of squares [d] of some rows, all float64.

    `norm_sum` and `norm_max` are of the rows' lengths; NaN where a store was written without them.
    """

    rows: int
    mean: np.ndarray
    squares: np.ndarray
    norm_sum: float = math.nan
    norm_max: float = math.nan

    @classmethod
    def of(cls, x_NxD: np.ndarray) -> "Moments":
        """Moments of the rows of `x_NxD`, of any float type."""
        parts = []
        for start in range(0, len(x_NxD), _SLICE_ROWS):
            x = x_NxD[start : start + _SLICE_ROWS].astype(np.float64)
            mean, norms = x.mean(0), np.sqrt(np.einsum("nd,nd->n", x, x))
            x -= mean
            squares = np.einsum("nd,nd->d", x, x)
            parts.append(cls(len(x), mean, squares, float(norms.sum()), float(norms.max())))
        return cls.merged(parts)

    @classmethod
    def merged(cls, parts: Iterable["Moments"]) -> "Moments":
        """Moments of all rows together."""
        return reduce(cls._with, parts)

    def _with(self, other: "Moments") -> "Moments":
        rows = self.rows + other.rows
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.rows / rows)
        between = np.square(apart) * (self.rows * other.rows / rows)
        norms = self.norm_sum + other.norm_sum, float(np.maximum(self.norm_max, other.norm_max))
        return Moments(rows, mean, self.squares + other.squares + between, *norms)

    def to_json(self) -> dict[str, Any]:
        norms = {} if math.isnan(self.norm_sum) else {"norm_sum": self.norm_sum, "norm_max": self.norm_max}
        return {"rows": self.rows, "mean": self.mean.tolist(), "squares": self.squares.tolist()} | norms

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Moments":
        norms = values.get("norm_sum", math.nan), values.get("norm_max", math.nan)
        return cls(values["rows"], np.array(values["mean"]), np.array(values["squares"]), *norms)


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What the trainer centres and scales a site by.

    Attributes:
      rows: rows the figures were computed over.
      mean: float32 [d].
      scale: sqrt(E |x - mean|^2).
      mean_square_norm: E |x|^2.
      variance: float64 [d], of each dimension; the square of a float32 need not be one.
      mean_norm, max_norm: of the rows' lengths |x|; NaN in a store that was written without them.
    """

    rows: int
    mean: np.ndarray
    scale: float
    mean_square_norm: float
    variance: np.ndarray
    mean_norm: float = math.nan
    max_norm: float = math.nan

    @property
    def outlier_dimensions(self) -> dict[int, float]:
        """{dimension: its root mean square over the median one}, largest first, of those above `OUTLIER`."""
        rms = np.sqrt(np.square(self.mean, dtype=np.float64) + self.variance)
        median = float(np.median(rms))
        order = np.argsort(-rms, kind="stable")
        return {int(i): float(rms[i] / median) for i in order if median and rms[i] > OUTLIER * median}

    @classmethod
    def of(cls, moments: Moments) -> "Statistics":
        variance = moments.squares / moments.rows
        spread = float(variance.sum())
        raw = spread + float(np.square(moments.mean).sum())
        norms = moments.norm_sum / moments.rows, moments.norm_max
        return cls(moments.rows, moments.mean.astype(np.float32), spread**0.5, raw, variance, *norms)

    @classmethod
    def from_attributes(cls, attributes: dict[str, Any]) -> "Statistics":
        mean, variance = np.array(attributes["mean"], np.float32), np.array(attributes["variance"], np.float64)
        norms = attributes.get("mean_norm", math.nan), attributes.get("max_norm", math.nan)
        return cls(
            attributes["statistics_rows"], mean, attributes["scale"], attributes["mean_square_norm"], variance, *norms
        )

    def to_attributes(self) -> dict[str, Any]:
        """JSON that stands among an array's attributes; numbers survive the round trip exactly."""
        norms = {} if math.isnan(self.mean_norm) else {"mean_norm": self.mean_norm, "max_norm": self.max_norm}
        return norms | {
            "outlier_dimensions": {str(i): ratio for i, ratio in self.outlier_dimensions.items()},
            "statistics_rows": self.rows,
            "mean": self.mean.tolist(),
            "scale": self.scale,
            "mean_square_norm": self.mean_square_norm,
            "variance": self.variance.tolist(),
        }
