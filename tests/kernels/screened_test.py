"""The screening in bfloat16: its bounds hold, what it cannot tell apart is repaired, and that is rare."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.kernels.encode_topk import reference, screened
from jaxsae.kernels.encode_topk.certificate import certify


def test_a_screening_that_cannot_tell_latents_apart_is_repaired():
    rng = np.random.default_rng(8)
    n, d, k = 600, 8, 5
    x, b = np.ones((40, d), np.float32), np.zeros(n, np.float32)
    w = np.full((n, d), 1024, np.float32)  # bfloat16 has 8 bits: 1,024 and 1,025 are one number there
    w[:, 0] += rng.permutation(n) % 4
    x[:20] = rng.integers(-4, 5, (20, d))
    values, indices = jax.jit(lambda *a: screened.encode_topk(*a, k))(x, w, b)
    expected_values, expected_indices = reference.encode_topk(x, w, b, k)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(indices, expected_indices)


@pytest.mark.parametrize("exact_in_bfloat16", [False, True])
@pytest.mark.parametrize("scale", [1e-18, 1e-3, 1.0, 1e3, 1e15])
def test_the_screening_bounds_every_pre_activation(scale, exact_in_bfloat16):
    rng = np.random.default_rng(9)
    x, w = (rng.normal(size=s).astype(np.float32) for s in ((30, 300), (400, 300)))
    w[:100] *= 1e-4  # latents of very different lengths
    x, w = x * np.float32(scale), w
    if exact_in_bfloat16:  # rounding costs nothing then: what is left is the sums' own error
        x, w = (np.asarray(jnp.asarray(a, jnp.bfloat16), np.float32) for a in (x, w))
    left, right = (jax.jit(screened.rounded)(jnp.asarray(a)) for a in (x, w))
    values, at = jax.jit(lambda *a: screened.bounds_of_tile(*a, 400, 8))(left, (right, jnp.zeros(400)))
    bounds = np.empty((30, 400))
    np.put_along_axis(bounds, np.asarray(at), np.asarray(values, np.float64), 1)
    exact = x.astype(np.float64) @ w.astype(np.float64).T
    lengths = np.linalg.norm(x.astype(np.float64), axis=1)[:, None] * np.linalg.norm(w.astype(np.float64), axis=1)
    assert (bounds > exact).all()
    assert ((bounds - exact) < 0.01 * lengths + 1e-15 * (1 + scale)).all()  # and not by much


def test_few_rows_of_a_screening_need_repair():
    rng = np.random.default_rng(10)
    x, w = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((256, 256), (4096, 256)))
    flagged = lambda b: certify(*screened.screen(x, w, b, 16, screened.candidates_of(16)), b)[1]
    assert flagged(jnp.zeros(4096)).sum() < 16
    # fewer latents left than k: nothing to repair
    assert not flagged(jnp.where(jnp.arange(4096) < 10, 0, -jnp.inf)).any()
