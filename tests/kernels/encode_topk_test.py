"""One suite over every implementation of the fused top-k encoder, against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsae.check.interpreted import INTERPRETED
from jaxsae.errors import InputError
from jaxsae.kernels.encode_topk import chunked, cpu, encode_topk, xla
from jaxsae.kernels.encode_topk.api import IMPLEMENTATIONS

TILINGS = {
    "xla-small": (xla, xla.Tiling(rows=16, latents=64, bucket=8)),
    "xla-wide": (xla, xla.Tiling(rows=5, latents=512, bucket=32)),
    "cpu-one-level": (cpu, cpu.Tiling(rows=16, latents=64, bucket=8)),
    "cpu-two-levels": (cpu, cpu.Tiling(rows=5, latents=512, bucket=32)),
}
SLOW = ["mosaic_gpu", "pallas_tpu", "chunked-unstable"]  # interpreted; two programs in one: not with shapes at random


def dense(x, w, b, k):
    """Values and indices by a stable sort in float64: ties by lowest index."""
    pre = x.astype(np.float64) @ w.astype(np.float64).T + b
    order = np.argsort(-pre, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(pre, order, 1), order


def run(name, x, w, b, k):
    if name in TILINGS:
        module, tiling = TILINGS[name]
        return jax.jit(lambda *a: module.encode_topk(*a, k, tiling))(x, w, b)
    if name == "chunked-unstable":
        tiling = chunked.Tiling(rows=16, latents=64, bucket=1)
        return jax.jit(lambda *a: chunked.encode_topk(*a, k, tiling, last_of_equals))(x, w, b)
    if name == "mosaic_gpu":
        return run_hopper(x, w, b, k)
    if name == "pallas_tpu":
        return run_tpu(x, w, b, k)
    return jax.jit(lambda *a: encode_topk(*a, k, name))(x, w, b)


def last_of_equals(values, k):
    """A top-k whose ties are not to be relied on: they fall to the highest index."""
    found, at = jax.lax.top_k(values[:, ::-1], k)
    return found, values.shape[1] - 1 - at


def run_hopper(x, w, b, k):
    """The Hopper kernel by the interpreter; d is filled up with zeros, which change no sum."""
    if len(w) < 256:
        pytest.skip("fewer latents than a tile of the kernel")
    x, w = (jnp.pad(jnp.asarray(a, jnp.bfloat16), ((0, 0), (0, -a.shape[1] % 64))) for a in (x, w))
    return jax.jit(INTERPRETED["mosaic_gpu"](k))(x, w, b)


def run_tpu(x, w, b, k):
    """The TPU kernel by the interpreter; d is filled up with zeros."""
    if len(w) < 256:
        pytest.skip("fewer latents than a tile of the kernel")
    x, w = (jnp.pad(jnp.asarray(a), ((0, 0), (0, -a.shape[1] % 128))) for a in (x, w))
    return jax.jit(INTERPRETED["pallas_tpu"](k))(x, w, b)


def integers(seed, batch, d, n, spread):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.integers(-spread, spread + 1, shape).astype(np.float32)
    return draw(batch, d), draw(n, d), draw(n)


EXACT = [name for name in IMPLEMENTATIONS if name != "approximate"]
NAMES = [*TILINGS, "chunked-unstable", *EXACT]
implementations = pytest.mark.parametrize("name", NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SLOW])
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


@pytest.mark.parametrize("name", ["chunked-unstable", *(name for name in EXACT if name != "reference")])
@pytest.mark.parametrize(("k", "n"), [(1, 300), (16, 300), (64, 500), (160, 700), (512, 2100)])
def test_every_k_on_a_ragged_width(name, k, n):
    x, w, b = integers(k, 3, 8, n, 3)
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
    x, w, b = (rng.normal(size=s).astype(np.float32) for s in ((64, 48), (600, 48), (600,)))
    x, w = (np.asarray(jnp.asarray(a, jnp.bfloat16), np.float32) for a in (x, w))  # numbers that every kernel takes
    values, indices = run(name, x, w, b, 24)
    pre = x.astype(np.float64) @ w.astype(np.float64).T + b
    np.testing.assert_allclose(values, dense(x, w, b, 24)[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(pre, np.asarray(indices), 1), values, rtol=1e-5, atol=1e-5)
    assert all(len(set(row)) == 24 for row in np.asarray(indices))


@implementations
@pytest.mark.parametrize("n", [40, 600])
def test_nan_is_visible_and_stays_in_its_row(name, n):
    x, w, b = integers(4, 20, 6, n, 3)
    x[7, 2] = np.nan
    values = np.asarray(run(name, x, w, b, 4)[0])
    assert np.isnan(values[7]).all()
    assert np.isfinite(np.delete(values, 7, 0)).all()
    x[7, 2], b[n - 1] = 0, np.nan
    assert np.isnan(run(name, x, w, b, 4)[0]).all()


@implementations
def test_products_that_overflow_and_cancel_are_visible(name):
    x, w, b = np.ones((3, 2), np.float32), np.zeros((600, 2), np.float32), np.arange(600, dtype=np.float32)
    x[0], w[10], w[11] = 1e30, (1e30, -1e30), (-1e30, 1e30)  # finite, and so is the sum of both rows
    values = np.asarray(run(name, x, w, b, 4)[0])
    assert not np.isfinite(values[0, 0]) and np.isfinite(values[1:]).all()  # NaN, or Inf where pairs are added first


@implementations
def test_infinity_is_visible(name):
    x, w, b = integers(5, 8, 6, 300, 3)
    b[200] = np.inf
    values, indices = run(name, x, w, b, 4)
    assert np.isinf(np.asarray(values)[:, 0]).all() and (np.asarray(indices)[:, 0] == 200).all()


@implementations
@pytest.mark.parametrize("n", [40, 600])
def test_an_infinity_that_meets_zeros_is_nan(name, n):
    x, w, b = integers(7, 20, 6, n, 3)
    x[5, 1], w[n - 2, 1] = np.inf, 0
    w[:5, 1] = 1
    x[6, 0], w[:, 0] = -np.inf, 2  # all its pre-activations are -inf, none is NaN
    values = np.asarray(run(name, x, w, b, 4)[0])
    assert np.isnan(values[5]).all() and np.isneginf(values[6]).all()
    assert np.isfinite(np.delete(values, [5, 6], 0)).all()


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


def test_k_that_is_no_whole_number_is_refused():
    with pytest.raises(InputError, match="k=2.5.*whole number"):
        encode_topk(jnp.zeros((2, 4)), jnp.zeros((64, 4)), jnp.zeros(64), 2.5)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="encode_topk takes"):
        encode_topk(jnp.zeros((2, 5)), jnp.zeros((64, 4)), jnp.zeros(64), 2)
    with pytest.raises(InputError, match="implementation 'cuda'"):
        encode_topk(jnp.zeros((2, 4)), jnp.zeros((64, 4)), jnp.zeros(64), 2, implementation="cuda")
