"""One suite over every implementation of the fused top-k encoder, against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsae.errors import InputError
from jaxsae.kernels.encode_topk import cpu, encode_topk, screened, xla
from jaxsae.kernels.encode_topk.api import IMPLEMENTATIONS

TILINGS = {
    "xla-small": (xla, xla.Tiling(rows=16, latents=64, bucket=8)),
    "xla-wide": (xla, xla.Tiling(rows=5, latents=512, bucket=32)),
    "cpu-one-level": (cpu, cpu.Tiling(rows=16, latents=64, bucket=8)),
    "cpu-two-levels": (cpu, cpu.Tiling(rows=5, latents=512, bucket=32)),
}


def dense(x, w, b, k):
    """Values and indices by a stable sort in float64: ties by lowest index."""
    pre = x.astype(np.float64) @ w.astype(np.float64).T + b
    order = np.argsort(-pre, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(pre, order, 1), order


def run(name, x, w, b, k):
    if name in TILINGS:
        module, tiling = TILINGS[name]
        return jax.jit(lambda *a: module.encode_topk(*a, k, tiling))(x, w, b)
    return jax.jit(lambda *a: encode_topk(*a, k, name))(x, w, b)


def integers(seed, batch, d, n, spread):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.integers(-spread, spread + 1, shape).astype(np.float32)
    return draw(batch, d), draw(n, d), draw(n)


implementations = pytest.mark.parametrize("name", [*TILINGS, *IMPLEMENTATIONS])


@implementations
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    batch=st.sampled_from([1, 5, 16, 33]),
    n=st.sampled_from([1, 7, 64, 100, 513, 1024]),
    k=st.sampled_from([1, 2, 8, 33, 1024]),
    spread=st.sampled_from([0, 1, 3]),
)
def test_integer_inputs_are_exact_ties_included(name, seed, batch, n, k, spread):
    x, w, b = integers(seed, batch, 6, n, spread)
    k = min(k, n)
    values, indices = run(name, x, w, b, k)
    expected_values, expected_indices = dense(x, w, b, k)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(indices, expected_indices)


@implementations
@pytest.mark.parametrize("case", ["all equal", "all negative", "one dominant bucket", "descending", "masked"])
def test_adversarial_inputs(name, case):
    batch, d, n, k = 9, 4, 700, 40
    x, w, b = integers(1, batch, d, n, 2)
    if case == "all equal":
        w[:], b[:] = 1, 0
    elif case == "all negative":
        b -= 1000
    elif case == "one dominant bucket":
        b[64:128] += 500
    elif case == "descending":
        w[:], b[:] = 0, -np.arange(n)
    else:
        b[np.random.default_rng(0).random(n) < 0.9] = -np.inf
    values, indices = run(name, x, w, b, k)
    expected_values, expected_indices = dense(x, w, b, k)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(indices, expected_indices)


@implementations
def test_random_floats_agree_with_float64(name):
    rng = np.random.default_rng(3)
    x, w, b = (rng.normal(size=s).astype(np.float32) for s in ((64, 48), (1500, 48), (1500,)))
    values, indices = run(name, x, w, b, 24)
    pre = x.astype(np.float64) @ w.astype(np.float64).T + b
    np.testing.assert_allclose(values, dense(x, w, b, 24)[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(pre, np.asarray(indices), 1), values, rtol=1e-5, atol=1e-5)
    assert all(len(set(row)) == 24 for row in np.asarray(indices))


@implementations
@pytest.mark.parametrize("n", [40, 1000])
def test_nan_is_visible_and_stays_in_its_row(name, n):
    x, w, b = integers(4, 20, 6, n, 3)
    x[7, 2] = np.nan
    values = np.asarray(run(name, x, w, b, 4)[0])
    assert np.isnan(values[7]).all()
    assert np.isfinite(np.delete(values, 7, 0)).all()
    x[7, 2], b[n - 1] = 0, np.nan
    assert np.isnan(run(name, x, w, b, 4)[0]).all()


@implementations
def test_infinity_is_visible(name):
    x, w, b = integers(5, 8, 6, 300, 3)
    b[200] = np.inf
    values, indices = run(name, x, w, b, 4)
    assert np.isinf(np.asarray(values)[:, 0]).all() and (np.asarray(indices)[:, 0] == 200).all()


@implementations
@pytest.mark.parametrize("n", [40, 1000])
def test_an_infinity_that_meets_zeros_is_nan(name, n):
    x, w, b = integers(7, 20, 6, n, 3)
    x[5, 1], w[n - 2, 1] = np.inf, 0
    w[:5, 1] = 1
    x[6, 0], w[:, 0] = -np.inf, 2  # all its pre-activations are -inf, none is NaN
    values = np.asarray(run(name, x, w, b, 4)[0])
    assert np.isnan(values[5]).all() and np.isneginf(values[6]).all()
    assert np.isfinite(np.delete(values, [5, 6], 0)).all()


def test_a_screening_that_cannot_tell_latents_apart_is_repaired():
    rng = np.random.default_rng(8)
    n, d, k = 600, 8, 5
    x, b = np.ones((40, d), np.float32), np.zeros(n, np.float32)
    w = np.full((n, d), 1024, np.float32)  # bfloat16 has 8 bits: 1,024 and 1,025 are one number there
    w[:, 0] += rng.permutation(n) % 4
    x[:20] = rng.integers(-4, 5, (20, d))
    values, indices = run("screened", x, w, b, k)
    expected_values, expected_indices = dense(x, w, b, k)
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(indices, expected_indices)


@pytest.mark.parametrize("scale", [1e-18, 1e-3, 1.0, 1e3, 1e15])
def test_the_screening_bounds_every_pre_activation(scale):
    rng = np.random.default_rng(9)
    x, w = (rng.normal(size=s).astype(np.float32) for s in ((30, 300), (400, 300)))
    w[:100] *= 1e-4  # latents of very different lengths
    x, w = x * np.float32(scale), w
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
    _, certain = screened.screen(x, w, jnp.zeros(4096), 16, screened.candidates_of(16))
    assert (~certain).sum() < 16
    _, certain = screened.screen(x, w, jnp.where(jnp.arange(4096) < 10, 0, -jnp.inf), 16, screened.candidates_of(16))
    assert certain.all()  # fewer latents left than k: nothing to repair


def test_no_rows_are_refused():
    with pytest.raises(InputError, match="at least one row"):
        encode_topk(jnp.zeros((0, 4)), jnp.zeros((8, 4)), jnp.zeros(8), 2)


def test_bfloat16_inputs_accumulate_in_float32():
    rng = np.random.default_rng(6)
    x, w = (jnp.asarray(rng.normal(size=s), jnp.bfloat16) for s in ((32, 256), (512, 256)))
    values, _ = encode_topk(x, w, jnp.zeros(512), 8)
    exact = np.sort(np.asarray(x, np.float64) @ np.asarray(w, np.float64).T, 1)[:, ::-1][:, :8]
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, exact, rtol=1e-4)


def test_the_workspace_does_not_grow_with_batch_times_width():
    def temporaries(batch, n):
        shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((batch, 16), (n, 16), (n,))]
        return jax.jit(lambda *a: encode_topk(*a, 8)).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(4096, 2**17) < 4096 * 2**17 * 4 / 10  # a tenth of B x n in float32
    assert temporaries(8192, 2**19) < 2 * temporaries(4096, 2**17)


@pytest.mark.parametrize("k", [0, -1, 65])
def test_k_out_of_range_is_refused(k):
    with pytest.raises(InputError, match=f"--k={k}.*64"):
        encode_topk(jnp.zeros((2, 4)), jnp.zeros((64, 4)), jnp.zeros(64), k)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="encode_topk takes"):
        encode_topk(jnp.zeros((2, 5)), jnp.zeros((64, 4)), jnp.zeros(64), 2)
    with pytest.raises(InputError, match="implementation 'cuda'"):
        encode_topk(jnp.zeros((2, 4)), jnp.zeros((64, 4)), jnp.zeros(64), 2, implementation="cuda")
