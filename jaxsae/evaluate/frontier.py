"""How far a family of models gets with a compute, with no law assumed: the best losses that were measured, and lines between.

Of the models of a family those are kept than which none has a lower loss for no more compute, 6 N D; between neighbours
ln(L - E) goes as a straight line over ln C. Nothing is said outside of what was measured.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxsae.errors import InputError

# By so much L - E may lie outside, for which the last line is drawn on: a loss over other games differs by about half a
# percent, also that of the very model at the end.
SLACK = 0.02


@dataclasses.dataclass(frozen=True)
class Frontier:
    """The best of a family.

    Attributes:
      E: the floor. compute, losses: of the models kept, more compute and less loss from one to the next.
      the rest as a `Curve` has it.
    """

    name: str
    E: float
    compute_measured: tuple[float, ...]
    losses: tuple[float, ...]
    reference: str
    text: bool = False
    games: bool = True
    exact: bool = True

    @classmethod
    def of(cls, name: str, points: Sequence[tuple[float, float]], floor: float, reference: str) -> "Frontier":
        """That of models (compute, loss)."""
        kept: list[tuple[float, float]] = []
        for compute, loss in sorted(points):
            if not kept or loss < kept[-1][1]:
                kept.append((compute, loss))
        return cls(name, floor, *map(tuple, zip(*kept, strict=True)), reference)

    def compute(self, loss: float) -> float:
        """FLOPs at which the family has this loss.

        Raises:
          InputError: it is outside of what was measured.
        """
        highest, lowest = (np.log(end - self.E) for end in (self.losses[0], self.losses[-1]))
        slack = np.log1p(SLACK)
        at = np.log(loss - self.E) if loss > self.E else -np.inf
        if not lowest - slack <= at <= highest + slack:
            raise InputError(
                f"--scaling_curve={self.name}: a loss of {loss:.4f} nats is outside of what the family was measured at, "
                f"{self.losses[-1]:.4f} to {self.losses[0]:.4f}, and nothing is assumed of what lies beyond."
            )
        x, y = np.log(np.subtract(self.losses, self.E))[::-1], np.log(self.compute_measured)[::-1]
        i = int(np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2))
        return float(np.exp(y[i] + (at - x[i]) * (y[i + 1] - y[i]) / (x[i + 1] - x[i])))

    def fraction(self, loss: float, delta: float) -> float:
        """Share of the compute that is left where the loss rises by `delta`.

        Raises:
          InputError: either loss is outside of what was measured.
        """
        return self.compute(loss + delta) / self.compute(loss)

    def parameters_fraction(self, loss: float, delta: float, tokens: float | None = None) -> None:
        """None: which share is of parameters is not said by a frontier of compute."""
        return None

    def replicated(self) -> list["Frontier"]:
        """No fits, so none to models drawn anew."""
        return []

    def about(self) -> dict[str, Any]:
        """What a suite's JSON says of it."""
        return {
            "E": self.E,
            "reference": self.reference,
            "compute": list(self.compute_measured),
            "losses": list(self.losses),
        }
