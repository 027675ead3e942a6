"""Axes and outlier dimensions: moments against NumPy, directions that were planted along axes, and random ones."""

import numpy as np
import pytest
from scipy.stats import kurtosis

from jaxsae.evaluate.latents import basis


@pytest.fixture
def rows():
    """float [900, 24], in which dimension 3 has a large mean and 7 heavy tails."""
    rng = np.random.default_rng(0)
    y = rng.standard_normal((900, 24))
    y[:, 3] += 40
    y[:, 7] = rng.standard_t(2.2, 900)
    return y


def moments_of(rows):
    moments = basis.Moments(seed=0)
    for part in np.array_split(rows, 4):
        moments.add(part)
    return moments


def test_moments_are_those_of_all_rows(rows):
    found = moments_of(rows).figures()
    np.testing.assert_allclose(found["mean"], rows.mean(0), rtol=1e-10)
    np.testing.assert_allclose(found["std"], rows.std(0), rtol=1e-8)
    np.testing.assert_allclose(found["kurtosis"], kurtosis(rows), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found["variance_share"], rows.var(0) / rows.var(0).sum(), rtol=1e-8)
    np.testing.assert_array_equal(np.flatnonzero(basis.outliers(found)), [3, 7])


def test_latents_along_axes_are_told_from_turned_ones(rows):
    rng = np.random.default_rng(1)
    directions = rng.standard_normal((200, 24))
    directions[:60] = 0.05 * directions[:60]
    directions[np.arange(60), np.arange(60) % 24] += 3
    found, arrays = basis.figures(directions, moments_of(rows), seed=0)
    assert found["latents"]["along"] == pytest.approx(0.3, abs=0.03)
    assert found["latents"]["along_interval"][0] < found["latents"]["along"] < found["latents"]["along_interval"][1]
    assert all(found["baselines"][name]["along"] < 0.05 for name in ("random", "rotated"))
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_allclose(arrays["basis_largest"], np.abs(unit).max(1))
    np.testing.assert_allclose(arrays["basis_participation"], 1 / (unit**4).sum(1))
    np.testing.assert_allclose(arrays["basis_kurtosis"], kurtosis(unit, axis=1))
    np.testing.assert_array_equal(arrays["basis_axis"][:60], np.arange(60) % 24)
    outliers = found["outliers"]
    assert outliers["dimensions"] == 2 and outliers["share_of_dimensions"] == pytest.approx(2 / 24)
    assert outliers["share_of_decoder"] == pytest.approx((unit[:, [3, 7]] ** 2).sum(1).mean())
    assert outliers["foremost"][0]["dimension"] == 3
    assert {each["latent"] for each in found["most_aligned"]} <= set(range(60))


def test_directions_of_the_activations_lie_where_these_vary(rows):
    rows[:, 7] *= 30
    told = basis.figures(np.random.default_rng(0).standard_normal((100, 24)), moments_of(rows), seed=0)[0]
    assert told["baselines"]["gaussian"]["along"] > 0.9 > 0.1 > told["baselines"]["random"]["along"]
