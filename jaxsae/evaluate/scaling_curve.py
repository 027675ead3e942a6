"""How a language model's loss falls with its parameters and tokens: published curves, and curves of the model's own family.

L(N, D) = E + A / N^a + B / D^b, nats a token (Hoffmann et al. 2022, arXiv 2203.15556, equation 2). A model that spends its
compute C = 6 N D best has a A / N^a = b B / D^b (equation 4), so that its reducible loss L - E falls as C^-(a b / (a + b)).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxsae.errors import InputError

CONSTANTS = ("E", "A", "B", "a", "b")
FIX = "Give a curve of the model's own family: --scaling_curve=FILE, a JSON file with E, A, B, a, b, or points [N, D, loss]."


@dataclasses.dataclass(frozen=True)
class Curve:
    """L(N, D) = E + A / N^a + B / D^b.

    Attributes:
      reference: where it comes from. text: whether it was fitted to English text, and so holds for nothing else.
      games: whether it was fitted to models that play Othello. exact: whether E is the entropy of the data, which is known
        of games that are played at random; then losses are compared by what they have above it on the same games.
      points: models that it was fitted to; of these measured, the least and the largest loss; rms_log_residual, of ln L;
        rms_left_out, of ln L of each by a fit to the others.
      intervals: 95% of each constant. replicates: (E, A, B, a, b) of fits to models drawn anew.
    """

    name: str
    E: float
    A: float
    B: float
    a: float
    b: float
    reference: str
    text: bool = False
    games: bool = False
    exact: bool = False
    points: int | None = None
    measured: Sequence[float] | None = None
    rms_log_residual: float | None = None
    rms_left_out: float | None = None
    intervals: Mapping[str, Sequence[float]] | None = None
    replicates: Sequence[Sequence[float]] = dataclasses.field(default=(), repr=False)

    def replicated(self) -> list["Curve"]:
        """The curves of `replicates`."""
        return [
            dataclasses.replace(self, **dict(zip(CONSTANTS, r, strict=True)), replicates=()) for r in self.replicates
        ]

    def about(self) -> dict[str, Any]:
        """What a suite's JSON says of it."""
        apart = ("name", "text", "games", "replicates")
        return {name: value for name, value in vars(self).items() if name not in apart and value is not None}

    def loss(self, parameters: Any, tokens: Any) -> Any:
        """L(N, D)."""
        return self.E + self.A * np.asarray(parameters) ** -self.a + self.B * np.asarray(tokens) ** -self.b

    @property
    def exponent(self) -> float:
        """a b / (a + b), by which the reducible loss falls with compute on the optimal path."""
        return self.a * self.b / (self.a + self.b)

    def optimal(self, flops: float) -> tuple[float, float]:
        """Parameters and tokens of the least loss at 6 N D = `flops` (Hoffmann et al., equation 4)."""
        ratio = (self.a * self.A / (self.b * self.B)) ** (1 / (self.a + self.b))
        parameters = ratio * (flops / 6) ** (self.b / (self.a + self.b))
        return parameters, flops / 6 / parameters

    def optimal_loss(self, flops: float) -> float:
        """L*(C), the loss of the optimal model of this compute."""
        return float(self.loss(*self.optimal(flops)))

    def compute(self, loss: float) -> float:
        """The inverse of `optimal_loss`: FLOPs at which the optimal model has this loss.

        Raises:
          InputError: no compute reaches it, loss <= E.
        """
        unit = self.optimal_loss(1.0) - self.E
        return (self._reducible(loss) / unit) ** (-1 / self.exponent)

    def fraction(self, loss: float, delta: float) -> float:
        """Share of the training compute that is left where the loss rises by `delta`, on the optimal path.

        ((L0 - E) / (L0 + delta - E))^((a + b) / (a b)); 1 for a delta of 0, above 1 where the loss falls.

        Raises:
          InputError: L0 <= E, or L0 + delta <= E.
        """
        return (self._reducible(loss) / self._reducible(loss + delta)) ** (1 / self.exponent)

    def parameters_fraction(self, loss: float, delta: float, tokens: float | None = None) -> float:
        """Share of the parameters that, trained on the same tokens, gives L0 + delta.

        A / N'^a = A / N^a + delta at fixed D. A / N^a is what L0 leaves over E and B / D^b; where `tokens` is None the model
        is taken to be on the optimal path, where A / N^a = (L0 - E) b / (a + b).

        Raises:
          InputError: L0 <= E, or with `tokens` L0 <= E + B / D^b; a delta as low as -A / N^a.
        """
        part = self._reducible(loss) * self.b / (self.a + self.b)
        if tokens is not None:
            part = self._reducible(loss) - self.B * tokens**-self.b
            if part <= 0:
                raise InputError(
                    f"--model_tokens={tokens:g}: at so few tokens the curve {self.name} has a loss of at least "
                    f"{self.E + self.B * tokens**-self.b:.4f}, and the model's is {loss:.4f}. {FIX}"
                )
        if part + delta <= 0:
            raise InputError(
                f"delta CE = {delta:.4f}: no number of parameters would lower the loss so far on {self.name}."
            )
        return (part / (part + delta)) ** (1 / self.a)

    def _reducible(self, loss: float) -> float:
        if not loss > self.E:
            raise InputError(
                f"--scaling_curve={self.name}: a loss of {loss:.4f} nats a token is not above the curve's irreducible "
                f"E = {self.E:.4f}, so no compute would reach it: the curve belongs to other data or another tokenizer. {FIX}"
            )
        return loss - self.E


PUBLISHED = {
    curve.name: curve
    for curve in (
        Curve(
            "hoffmann", 1.69, 406.4, 410.7, 0.34, 0.28, "Hoffmann et al. 2022, arXiv 2203.15556, approach 3", text=True
        ),
        Curve("epoch", 1.8172, 482.01, 2085.43, 0.3478, 0.3658, "Besiroglu et al. 2024, arXiv 2404.10102", text=True),
    )
}
