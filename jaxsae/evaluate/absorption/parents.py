"""A parent's probe, and the latents that are its main ones: the first half of absorption.

As SAEBench: the probe is a class-balanced logistic regression on the activation; a k-sparse probe is one on the k latents
with the largest positive weights of an L1 probe on all latents (here of the `CANDIDATES` whose mean rises most with the
parent, in units of their standard deviation); the main latents are those of the largest k up to which each one more adds
`f1_jump` to F1, on the rows that judge, as there.
"""

import dataclasses

import numpy as np
import scipy.sparse as sp

from jaxsae.evaluate.absorption_config import AbsorptionConfig

CANDIDATES = 64  # latents that the L1 probe sees
L1 = 0.01  # times the sum of its weights, beside the mean loss, as SAEBench
STEPS = 150
_ITERATIONS = 300


@dataclasses.dataclass(frozen=True)
class Part:
    """N rows.

    Attributes:
      x: float32 [N, d], what the latents write to. latents: float32 [N, n], sparse. cluster: int [N], the game or word.
      parents: bool [N, P].
    """

    x: np.ndarray
    latents: sp.csr_matrix
    cluster: np.ndarray
    parents: np.ndarray


@dataclasses.dataclass(frozen=True)
class Probe:
    """x @ weights + bias > 0 says that the parent holds; `f1` on the rows that judge."""

    weights: np.ndarray
    bias: float
    f1: float

    def logits(self, x: np.ndarray) -> np.ndarray:
        """float64 [N]."""
        return np.asarray(x, np.float64) @ self.weights + self.bias

    @property
    def direction(self) -> np.ndarray:
        """float64 [d], of length 1."""
        return self.weights / max(np.linalg.norm(self.weights), 1e-30)


def balanced_probe(x: np.ndarray, y: np.ndarray, x_judge: np.ndarray, y_judge: np.ndarray) -> Probe:
    """Logistic regression whose two sides weigh the same, on numbers brought to variance 1."""
    from sklearn.linear_model import LogisticRegression

    x = np.asarray(x, np.float64)
    mean, deviation = x.mean(0), x.std(0)
    scale = np.where(deviation > 1e-6 * max(deviation.max(), 1e-30), deviation, np.inf)
    found = LogisticRegression(class_weight="balanced", max_iter=_ITERATIONS).fit((x - mean) / scale, y)
    weights = found.coef_[0] / scale
    probe = Probe(weights, float(found.intercept_[0] - mean @ weights), 0.0)
    return dataclasses.replace(probe, f1=f1(probe.logits(x_judge) > 0, y_judge))


def f1(said: np.ndarray, y: np.ndarray) -> float:
    """2 hits / (said + true); 0 where there is neither."""
    return float(2 * (said & y).sum() / max(said.sum() + y.sum(), 1))


def main_latents(fit: Part, judge: Part, parent: int, config: AbsorptionConfig) -> tuple[list[int], float]:
    """The main latents of a parent, and the F1 of the sparse probe on them."""
    y, y_judge = fit.parents[:, parent], judge.parents[:, parent]
    ranked = ranked_latents(fit.latents, y, config.absorption_k)
    best, main = -1.0, []
    for k in range(1, len(ranked) + 1):
        own = [part.latents[:, ranked[:k]].toarray() for part in (fit, judge)]
        found = balanced_probe(own[0], y, own[1], y_judge).f1
        if found <= best + config.absorption_f1_jump and main:
            break
        best, main = found, ranked[:k].tolist()
    return main, max(best, 0.0)


def ranked_latents(latents: sp.csr_matrix, y: np.ndarray, count: int) -> np.ndarray:
    """The `count` latents, at most, with the largest weights above 0 of the L1 probe, largest first; without any the one
    whose mean rises most."""
    columns = rising(latents, y)[:CANDIDATES]
    part = latents[:, columns].toarray().astype(np.float64)
    weights = l1_weights(part / np.maximum(part.std(0), 1e-30), y, L1)
    order = np.argsort(-weights, kind="stable")[:count]
    return columns[order[weights[order] > 0]] if (weights > 0).any() else columns[:1]


def rising(latents: sp.csr_matrix, y: np.ndarray) -> np.ndarray:
    """Latents by how far their mean is higher where y, in standard deviations, the highest first."""
    x = latents.astype(np.float64)
    total = lambda rows: np.asarray(rows.sum(0)).ravel()
    variance = total(x.multiply(x)) / len(y) - np.square(total(x) / len(y))
    difference = total(x[y]) / max(y.sum(), 1) - total(x[~y]) / max((~y).sum(), 1)
    live = variance > 0
    return np.argsort(-np.where(live, difference / np.sqrt(np.where(live, variance, 1)), -np.inf), kind="stable")


def l1_weights(x: np.ndarray, y: np.ndarray, strength: float) -> np.ndarray:
    """Weights [c] that minimize the mean loss of rows and `strength` sum |w|; the bias is free.

    Positive rows weigh N- / N+ in the mean, as of a loss with `pos_weight`. By FISTA (Beck & Teboulle,
    2009).
    """
    weight = np.where(y, (~y).sum() / max(y.sum(), 1), 1.0) / len(y)
    one = np.concatenate([x, np.ones((len(x), 1))], 1)
    gram = (one * weight[:, None]).T @ one
    step = 4 / max(np.linalg.eigvalsh(gram)[-1], 1e-30)
    w = ahead = np.zeros(one.shape[1])
    t = 1.0
    for _ in range(STEPS):
        gradient = ((1 / (1 + np.exp(-np.clip(one @ ahead, -50, 50))) - y) * weight) @ one
        moved = ahead - step * gradient
        new = np.sign(moved) * np.maximum(np.abs(moved) - step * strength, 0)
        new[-1] = moved[-1]
        t_new = (1 + np.sqrt(1 + 4 * t * t)) / 2
        ahead = new + (t - 1) / t_new * (new - w)
        w, t = new, t_new
    return w[:-1]
