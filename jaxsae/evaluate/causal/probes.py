"""Directions that tell two states apart: logistic probes, each refitted once those before it were projected out.

Iterative nullspace projection (Ravfogel et al., 2004.07667): the probes' directions are orthogonal, and the first is that of
one logistic regression on all of the activation.
"""

import numpy as np

ITERATIONS, PENALTY = 12, 1.0


def logistic(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights [d] and bias of the logistic regression of y, bool [N], on x [N, d], by Newton's method.

    The objective is scikit-learn's at C = 1: the sum of the losses of rows, and half the squared weights.
    """
    x = np.concatenate([np.asarray(x, np.float64), np.ones((len(x), 1))], 1)
    penalty = np.append(np.full(x.shape[1] - 1, PENALTY), 1e-9)
    w = np.zeros(x.shape[1])
    loss = lambda w: (np.logaddexp(0, x @ w) - y * (x @ w)).sum() + (penalty * w**2).sum() / 2
    now = loss(w)
    for _ in range(ITERATIONS):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -500, 500)))
        gradient = x.T @ (p - y) + penalty * w
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while (new := loss(w - size * step)) > now and size > 1e-4:
            size /= 2
        if new > now:
            break
        w, done, now = w - size * step, now - new < 1e-9 * abs(now), new
        if done:
            break
    return w[:-1], float(w[-1])


def directions(x: np.ndarray, y: np.ndarray, count: int) -> tuple[np.ndarray, list[float]]:
    """Orthonormal directions of `count` successive probes, fewer where the d dimensions are used up, [m, d], and the share of
    rows that each probe is right about, of the rows it was fitted to: where that falls to the larger class's, nothing that a
    line can tell is left.

    Args:
      x: [N, d]. y: bool [N].
    """
    x = np.asarray(x, np.float64)
    x = (x - x.mean(0)) / max(x.std(), 1e-30)  # one scale of all: directions stay as they are
    found, right = np.zeros((0, x.shape[1])), []
    for _ in range(min(count, x.shape[1])):
        w, bias = logistic(x, y)
        right.append(float((((x @ w) + bias > 0) == y).mean()))
        w = w - found.T @ (found @ w)
        length = np.linalg.norm(w)
        if length < 1e-12:
            right.pop()
            break
        w /= length
        found = np.concatenate([found, w[None]])
        x = x - np.outer(x @ w, w)
    return found, right
