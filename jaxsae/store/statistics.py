"""Mean and spread of activations, merged shard by shard in float64."""

import dataclasses
from collections.abc import Iterable
from functools import reduce
from typing import Any

import numpy as np

_SLICE_ROWS = 4_096  # rows held in float64 at a time


@dataclasses.dataclass(frozen=True)
class Moments:
    """Row count, mean [d] and centred sum of squares [d] of some rows, all float64."""

    rows: int
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, x_NxD: np.ndarray) -> "Moments":
        """Moments of the rows of `x_NxD`, of any float type."""
        parts = []
        for start in range(0, len(x_NxD), _SLICE_ROWS):
            x = x_NxD[start : start + _SLICE_ROWS].astype(np.float64)
            mean = x.mean(0)
            parts.append(cls(len(x), mean, np.square(x - mean).sum(0)))
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
        return Moments(rows, mean, self.squares + other.squares + between)

    def to_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "mean": self.mean.tolist(), "squares": self.squares.tolist()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Moments":
        return cls(values["rows"], np.array(values["mean"]), np.array(values["squares"]))


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What the trainer centres and scales a site by.

    Attributes:
      rows: rows the figures were computed over.
      mean: float32 [d].
      scale: sqrt(E |x - mean|^2).
      mean_square_norm: E |x|^2.
      variance: float32 [d], of each dimension.
    """

    rows: int
    mean: np.ndarray
    scale: float
    mean_square_norm: float
    variance: np.ndarray

    @classmethod
    def of(cls, moments: Moments) -> "Statistics":
        variance = moments.squares / moments.rows
        spread = float(variance.sum())
        raw = spread + float(np.square(moments.mean).sum())
        return cls(moments.rows, moments.mean.astype(np.float32), spread**0.5, raw, variance.astype(np.float32))

    @classmethod
    def from_attributes(cls, attributes: dict[str, Any]) -> "Statistics":
        mean, variance = (np.array(attributes[name], np.float32) for name in ("mean", "variance"))
        return cls(attributes["statistics_rows"], mean, attributes["scale"], attributes["mean_square_norm"], variance)

    def to_attributes(self) -> dict[str, Any]:
        """JSON that stands among an array's attributes; float32 values survive the round trip exactly."""
        return {
            "statistics_rows": self.rows,
            "mean": self.mean.tolist(),
            "scale": self.scale,
            "mean_square_norm": self.mean_square_norm,
            "variance": self.variance.tolist(),
        }
