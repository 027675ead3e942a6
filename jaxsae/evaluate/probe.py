"""Linear probes: what the whole activation says, the ceiling of what single latents can."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

ITERATIONS = 100


@dataclasses.dataclass(frozen=True)
class Probe:
    """T logistic regressions: logits = x @ weights + bias.

    Attributes:
      weights: [d, T]. bias: [T].
    """

    weights: np.ndarray
    bias: np.ndarray

    def logits(self, x_NxD: np.ndarray) -> np.ndarray:
        """[N, T]: log-odds of each target."""
        return np.asarray(x_NxD, np.float64) @ self.weights + self.bias


def fit(x_NxD: np.ndarray, labels_NxT: np.ndarray) -> Probe:
    """Fits all T regressions at once, with L-BFGS on whitened activations.

    The objective is scikit-learn's at C = 1 on whitened inputs: the sum of the losses of the N rows, and half
    the squared weights of each target.
    """
    mean, whiten = whitening(x_NxD)
    x = jnp.asarray((x_NxD - mean) @ whiten, jnp.float32)
    labels = jnp.asarray(labels_NxT, jnp.float32)
    shape = (x.shape[1] + 1, labels.shape[1])

    @jax.jit
    def objective(w: jax.Array) -> tuple[jax.Array, jax.Array]:
        def loss(w):
            z = x @ w[:-1] + w[-1]
            # Softplus of -z where the target holds, of z where it does not.
            return (jax.nn.softplus(z) - labels * z).sum() / len(x) + jnp.square(w[:-1]).sum() / (2 * len(x))

        return jax.value_and_grad(loss)(w.reshape(shape))

    def as_double(w: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(jnp.asarray(w, jnp.float32))
        return float(value), np.asarray(gradient, np.float64).ravel()

    with threadpool_limits(1, user_api="blas"):  # its products of vectors keep more threads waiting than at work
        start, options = np.zeros(shape).ravel(), {"maxiter": ITERATIONS}
        found = minimize(as_double, start, jac=True, method="L-BFGS-B", options=options)
    w = found.x.reshape(shape)
    weights = whiten @ w[:-1]
    return Probe(weights, w[-1] - mean @ weights)


def whitening(x_NxD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [d] and matrix [d, d] such that (x - mean) @ matrix has unit covariance; flat directions are left out."""
    variance, directions, mean = principal_components(x_NxD)
    kept = variance > 1e-10 * variance.max()
    return mean, directions * np.where(kept, 1 / np.sqrt(np.where(kept, variance, 1)), 0)


def principal_components(x_NxD: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variances [d], largest first, directions as columns [d, d], and the mean [d], in float64."""
    x = np.asarray(x_NxD, np.float64)
    mean = x.mean(0)
    variance, directions = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    return np.maximum(variance[::-1], 0), directions[:, ::-1], mean
