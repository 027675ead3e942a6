"""The joint probe against scikit-learn's logistic regression, target by target."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from jaxsae.evaluate.probe import fit, principal_components, whitening


def case(rows=600, d=8):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((rows, d)) @ rng.standard_normal((d, d)) + 5).astype(np.float32)
    noise = rng.standard_normal((rows, 3)) * [0.5, 2, 5]
    return x, (x - 5) @ rng.standard_normal((d, 3)) + noise > [0, 1, -2]


def test_equals_scikit_learn_at_c_1_on_whitened_inputs():
    x, y = case()
    found = fit(x, y).logits(x)
    mean, matrix = whitening(x)
    w = (x - mean) @ matrix
    np.testing.assert_allclose(np.cov(w.T, bias=True), np.eye(8), atol=1e-9)
    for t in range(3):
        expected = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(w, y[:, t]).decision_function(w)
        np.testing.assert_allclose(found[:, t], expected, atol=0.02 * np.abs(expected).max())


def test_constant_targets_and_flat_directions_stay_finite():
    x, y = case()
    x[:, 3] = x[:, 2]
    y = np.concatenate([y, np.zeros((600, 1), bool), np.ones((600, 1), bool)], 1)
    logits = fit(x, y).logits(x)
    assert np.isfinite(logits).all() and (logits[:, 3] < 0).all() and (logits[:, 4] > 0).all()
    assert ((logits[:, 0] > 0) == y[:, 0]).mean() > 0.9


def test_principal_components_are_those_of_an_svd():
    x, _ = case()
    variance, directions, mean = principal_components(x)
    _, s, vt = np.linalg.svd(x.astype(np.float64) - x.mean(0, dtype=np.float64), full_matrices=False)
    np.testing.assert_allclose(variance, s**2 / 600, rtol=1e-9)
    np.testing.assert_allclose(np.abs(np.diag(vt @ directions)), 1, rtol=1e-6)
    np.testing.assert_allclose(mean, x.mean(0, dtype=np.float64))
