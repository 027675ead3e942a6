"""Counts and places against numpy's, at every length where the way of counting changes."""

import jax
import numpy as np
import pytest

from jaxsae.kernels.counting import places, running_count


@pytest.mark.parametrize("shape", [(1,), (5,), (128,), (129,), (1024,), (1025,), (5000,), (7, 1), (7, 64), (7, 300)])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_counts(shape, share):
    mask = np.random.default_rng(len(shape)).random(shape) < share
    np.testing.assert_array_equal(jax.jit(running_count)(mask), np.cumsum(mask, -1))


@pytest.mark.parametrize("length", [1, 128, 3000])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("size", [1, 40])
def test_places(length, share, size):
    mask = np.random.default_rng(length).random(length) < share
    at, there = jax.jit(places, static_argnums=1)(mask, size)
    expected = np.flatnonzero(mask)[:size]
    np.testing.assert_array_equal(there, np.arange(size) < len(expected))
    np.testing.assert_array_equal(at, np.pad(expected, (0, size - len(expected)), constant_values=length))
