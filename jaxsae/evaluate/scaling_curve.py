"""How a language model's loss falls with its parameters and tokens: published curves, and curves of the model's own family.

L(N, D) = E + A / N^a + B / D^b, nats a token (Hoffmann et al. 2022, arXiv 2203.15556, equation 2). A model that spends its
compute C = 6 N D best has a A / N^a = b B / D^b (equation 4), so that its reducible loss L - E falls as C^-(a b / (a + b)).
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from jaxsae.errors import InputError
from jaxsae.numbers import is_positive

CONSTANTS = ("E", "A", "B", "a", "b")
FIX = "Give a curve of the model's own family: --scaling_curve=FILE, a JSON file with E, A, B, a, b, or points [N, D, loss]."


@dataclasses.dataclass(frozen=True)
class Curve:
    """L(N, D) = E + A / N^a + B / D^b.

    `reference`: where it comes from. `text`: whether it was fitted to English text, and so holds for nothing else.
    """

    name: str
    E: float
    A: float
    B: float
    a: float
    b: float
    reference: str
    text: bool = False
    points: int | None = None
    rms_log_residual: float | None = None

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


def read_curve(name: str) -> Curve:
    """A published curve by name, or one from a JSON file: {"E", "A", "B", "a", "b"} or {"points": [[N, D, loss], ...]}.

    Raises:
      InputError: neither, or a file that does not hold such a thing.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    where = f"--scaling_curve={name}"
    path = Path(name)
    if not path.is_file():
        raise InputError(f"{where}: no such curve and no such file. Give {', '.join(PUBLISHED)}, or a JSON file.")
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: cannot be read as JSON ({error}).") from None
    if isinstance(held, dict) and "points" in held:
        return fit_curve(path.stem, held["points"], where)
    missing = [c for c in CONSTANTS if c not in held] if isinstance(held, dict) else list(CONSTANTS)
    if missing:
        raise InputError(f"{where}: lacks {', '.join(missing)}. It needs E, A, B, a, b, or points [N, D, loss].")
    bad = [c for c in CONSTANTS if not is_positive(held[c]) and not (c == "E" and held[c] == 0)]
    if bad:
        raise InputError(f"{where}: {bad[0]} = {held[bad[0]]!r} must be a positive number.")
    return Curve(path.stem, **{c: float(held[c]) for c in CONSTANTS}, reference=str(held.get("reference", path.name)))


def fit_curve(name: str, points: Any, where: str) -> Curve:
    """Fits a curve to [[N, D, loss], ...]: Huber's loss of 1e-3 on ln L from 36 starts, as Hoffmann et al.'s approach 3.

    Raises:
      InputError: fewer than 6 points, fewer than 3 different N or D, or values that are not positive; named by `where`.
    """
    rows = points if isinstance(points, list) else []
    if len(rows) < 6 or not all(isinstance(r, list) and len(r) == 3 and all(map(is_positive, r)) for r in rows):
        raise InputError(f"{where}: points must be at least 6 lists [N, D, loss] of positive numbers.")
    n, d, loss = np.asarray(rows, np.float64).T
    for what, values in (("N", n), ("D", d)):
        if len(np.unique(values)) < 3:
            raise InputError(f"{where}: points need at least 3 different {what}, and have {len(np.unique(values))}.")
    x, y, log_loss = np.log(n), np.log(d), np.log(loss)
    centre_x, centre_y = x.mean(), y.mean()  # without them A and a, B and b would go together

    def terms(p: np.ndarray) -> np.ndarray:
        return np.stack([p[0] + 0 * x, p[1] - p[3] * (x - centre_x), p[2] - p[4] * (y - centre_y)])

    def residual(p: np.ndarray) -> np.ndarray:
        return np.logaddexp.reduce(terms(p)) - log_loss

    def jacobian(p: np.ndarray) -> np.ndarray:
        shares = np.exp(terms(p) - np.logaddexp.reduce(terms(p)))
        return np.stack([*shares, -shares[1] * (x - centre_x), -shares[2] * (y - centre_y)], 1)

    bounds = ([np.log(loss.min()) - 12, -np.inf, -np.inf, 1e-3, 1e-3], [np.inf] * 3 + [3.0, 3.0])
    found = []
    for floor in (0.1, 0.5, 0.8, 0.95):
        rest = np.log(loss.min() * (1 - floor) / 2)
        for a in (0.2, 0.5, 1.0):
            for b in (0.2, 0.5, 1.0):
                start = [np.log(floor * loss.min()), rest, rest, a, b]
                options = dict(jac=jacobian, bounds=bounds, loss="huber", f_scale=1e-3, x_scale="jac", max_nfev=300)
                found.append(least_squares(residual, start, **options))
    e, p, q, a, b = min(found, key=lambda result: result.cost).x
    constants = dict(E=math.exp(e), A=math.exp(p + a * centre_x), B=math.exp(q + b * centre_y), a=float(a), b=float(b))
    rms = float(np.sqrt(np.mean(residual(np.array([e, p, q, a, b])) ** 2)))
    return Curve(name, **constants, reference=f"fitted to {len(rows)} points", points=len(rows), rms_log_residual=rms)
