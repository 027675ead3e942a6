"""Losses and all gradients of the methods on meshes equal a dense reference, differentiated by JAX in float64."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import SPECS, Batch, MethodConfig, Params, make_method
from jaxsae.kernels import pairs
from jaxsae.parallel import DATA, MODEL, make_mesh
from jaxsae.training.routes import choose, loss_and_gradient
from jaxsae.training.update import UpdateRule

BATCH, D, WIDTH, K, AUX_K = 16, 8, 64, 12, 16
MESHES = [(1, 1), (1, 8), (2, 4), (8, 1)]
NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")
BY = ("pairs", "tiles", "products")  # dead latents by pairs, by tiles, and all latents by products
on_meshes = pytest.mark.parametrize("shape", MESHES)


def method_of(architecture):
    return make_method(
        MethodConfig(width=WIDTH, architecture=architecture, k=K, aux_k=AUX_K, l1_warmup=0.5, target_l0=0.0)
    )


def build(architecture, shape, use_aux, by="pairs"):
    """A jitted (params, x, dead) -> (loss, gradient, report) over a mesh, as the training step runs it."""
    method = method_of(architecture)
    rule = UpdateRule(method, None, blocked=False)

    def device(params, x, dead):
        batch = Batch(x=x, dead=dead, rows=BATCH, step_fraction=0.25)
        way = ("pairs" if by == "pairs" else "tiles") if use_aux else None
        with mock.patch.object(choose, "widest_by_products", lambda *_: WIDTH if by == "products" else 0):
            value, report, gradient = loss_and_gradient(method, rule, params, batch, way)
        firings = jax.lax.all_gather(report.firings, MODEL, tiled=True)
        return jax.lax.psum(value, DATA), gradient, report.replace(firings=firings)

    mesh = make_mesh(shape, jax.devices()[: shape[0] * shape[1]])
    inputs = (SPECS, P(DATA, None), P(MODEL))
    return jax.jit(jax.shard_map(device, mesh=mesh, in_specs=inputs, out_specs=(P(), SPECS, P()), check_vma=False))


compiled = functools.lru_cache(None)(build)


def scattered(pre, k):
    """ReLU of the k largest of each row, in place; ties by lowest index."""
    best = np.argsort(-np.asarray(pre), axis=1, kind="stable")[:, :k]
    chosen = np.zeros(pre.shape)
    np.put_along_axis(chosen, best, 1, axis=1)
    return jnp.where((chosen > 0) & (pre > 0), pre, 0)


def topk_loss(p, x, dead, use_aux, detach=True):
    pre = (x - p.b_dec) @ p.W_enc.T + p.b_enc
    error = x - (scattered(jax.lax.stop_gradient(pre), K) > 0) * pre @ p.W_dec - p.b_dec
    loss = (error**2).sum() / x.size
    if use_aux:
        chosen = scattered(jnp.where(dead, jax.lax.stop_gradient(pre), -jnp.inf), AUX_K) > 0
        error = jax.lax.stop_gradient(error) if detach else error
        left = error - jnp.where(chosen, pre, 0) @ p.W_dec
        loss += (left**2).sum() / (error**2).sum() / 32
    return loss


def relu_loss(p, x, dead, use_aux):
    f = jnp.maximum(x @ p.W_enc.T + p.b_enc, 0)
    error = x - f @ p.W_dec - p.b_dec
    norms = jnp.sqrt((p.W_dec**2).sum(1))
    return ((error**2).sum() + 5.0 * 0.5 * (f * norms).sum()) / len(x)  # step 0.25 of a warm-up of 0.5


def reference(architecture, params, x, dead, use_aux, **kwargs):
    """Loss and gradients in float64."""
    loss = {"topk": topk_loss, "relu": relu_loss}[architecture]
    with jax.enable_x64(True):
        p, x64 = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, x))
        value, gradient = jax.value_and_grad(lambda p: loss(p, x64, dead, use_aux, **kwargs))(p)
        return float(value), jax.tree.map(np.asarray, gradient)


def floats(seed=0):
    draw = lambda rng, *shape: rng.normal(size=shape).astype(np.float32)
    rng = np.random.default_rng(seed)
    params = Params.of(draw(rng, WIDTH, D), 0.3 * draw(rng, WIDTH), 0.3 * draw(rng, WIDTH, D), 0.3 * draw(rng, D))
    return params, draw(rng, BATCH, D)


def integers(seed=0, spread=1):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.integers(-spread, spread + 1, shape).astype(np.float32)
    return Params.of(draw(WIDTH, D), draw(WIDTH), draw(WIDTH, D), draw(D)), draw(BATCH, D)


def check(found, expected, rtol=1e-5):
    value, gradient = found[:2]
    np.testing.assert_allclose(value, expected[0], rtol=rtol)
    for name in NAMES:
        wanted = getattr(expected[1], name)
        atol = rtol * np.abs(wanted).max() / 4  # sums of many terms may cancel
        np.testing.assert_allclose(getattr(gradient, name), wanted, rtol=rtol, atol=atol, err_msg=name)


def dead_latents(count):
    dead = np.zeros(WIDTH, bool)
    dead[np.random.default_rng(5).permutation(WIDTH)[:count]] = True
    return dead


@on_meshes
@pytest.mark.parametrize("architecture", ["topk", "relu"])
def test_loss_and_gradients_equal_the_dense_ones(architecture, shape):
    params, x = floats()
    dead = dead_latents(0)
    check(compiled(architecture, shape, False)(params, x, dead), reference(architecture, params, x, dead, False))


@on_meshes
@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("count", [0, 5, 20, WIDTH])
def test_gradients_with_the_auxiliary_loss_equal_the_dense_ones(shape, count, by):
    params, x = floats(count)
    dead = dead_latents(count)
    found, expected = compiled("topk", shape, True, by)(params, x, dead), reference("topk", params, x, dead, True)
    check(found, expected)
    aux = expected[0] - reference("topk", params, x, dead, False)[0]
    np.testing.assert_allclose(found[2].aux, aux, rtol=1e-5)
    if count == 0:
        np.testing.assert_allclose(found[2].aux, 1 / 32, rtol=1e-5)  # nothing of the residual is explained


@on_meshes
@pytest.mark.parametrize("by", ["pairs", "products"])
def test_topk_of_integers_is_exact_with_ties_across_shards(shape, by):
    for seed in range(4):
        params, x = integers(seed)
        dead = dead_latents(0)
        value, gradient, _ = compiled("topk", shape, False, by)(params, x, dead)
        expected_value, expected = reference("topk", params, x, dead, False)
        assert value == expected_value
        jax.tree.map(np.testing.assert_array_equal, gradient, expected)


@on_meshes
@pytest.mark.parametrize("by", ["pairs", "products"])
def test_where_all_latents_are_equal_the_lowest_indices_win(shape, by):
    params, x = integers(3)
    params = params.put(W_enc=np.ones_like(params.W_enc), b_enc=np.full(WIDTH, 40, np.float32))
    dead = dead_latents(0)
    _, gradient, report = compiled("topk", shape, False, by)(params, x, dead)
    jax.tree.map(np.testing.assert_array_equal, gradient, reference("topk", params, x, dead, False)[1])
    np.testing.assert_array_equal(report.firings > 0, np.arange(WIDTH) < K)
    assert report.active == BATCH * K


@on_meshes
@pytest.mark.parametrize("by", BY)
def test_the_auxiliary_gradient_reaches_the_encoder_of_dead_latents_and_of_no_others(shape, by):
    params, x = floats(2)
    dead = dead_latents(9)
    params = params.put(b_enc=np.where(dead, np.float32(-2), params.b_enc + 20))  # dead ones are never chosen
    with_aux, without = (compiled("topk", shape, aux, by)(params, x, dead)[1] for aux in (True, False))
    aux = np.abs(np.asarray(with_aux.W_enc) - np.asarray(without.W_enc)).max(1)
    assert np.abs(np.asarray(without.W_enc))[dead].max() == 0
    assert (aux[dead] > 1e-5).sum() >= 5
    assert aux[~dead].max() < 2e-6  # the order of the sums may change with what travels
    np.testing.assert_allclose(with_aux.W_enc, reference("topk", params, x, dead, True)[1].W_enc, rtol=1e-5, atol=1e-6)


def test_the_residual_of_the_auxiliary_loss_is_detached():
    params, x = floats(2)
    dead = dead_latents(20)
    detached, attached = (reference("topk", params, x, dead, True, detach=d)[1] for d in (True, False))
    apart = np.abs(attached.W_dec - detached.W_dec).max()
    for by in BY:
        found = np.asarray(compiled("topk", (2, 4), True, by)(params, x, dead)[1].W_dec)
        assert apart > 1e-3 and np.abs(found - detached.W_dec).max() < apart / 1000


@pytest.mark.parametrize(("shape", "capacity"), [((1, 8), 30), ((2, 4), 1), ((2, 4), 30), ((2, 4), 90)])
def test_results_do_not_depend_on_the_room_for_pairs(shape, capacity, monkeypatch):
    """1 overflows on every shard, 90 on none, 30 on some; small sizes have room for all by default."""
    monkeypatch.setattr(pairs, "capacity_of", lambda batch, k: capacity)
    params, x = integers(7)
    params = params.put(b_enc=params.b_enc + np.arange(WIDTH) // 16)  # shards with many pairs and with few
    dead = dead_latents(40)
    check(build("topk", shape, True)(params, x, dead), reference("topk", params, x, dead, True))


@settings(max_examples=20, deadline=None)
@given(
    shape=st.sampled_from(MESHES),
    by=st.sampled_from(BY),
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([0, 1, 2]),
    count=st.integers(0, WIDTH),
    shift=st.sampled_from([-9, 0, 9]),
)
def test_any_integers_on_any_mesh(shape, by, seed, spread, count, shift):
    params, x = integers(seed, spread)
    params = params.put(b_enc=params.b_enc + np.float32(shift))
    dead = np.random.default_rng(seed).permutation(WIDTH) < count
    x[:, 0] += 1  # never a batch of zeros
    check(compiled("topk", shape, True, by)(params, x, dead), reference("topk", params, x, dead, True))
    value, gradient, report = compiled("topk", shape, False, by)(params, x, dead)
    expected_value, expected = reference("topk", params, x, dead, False)
    assert value == expected_value
    jax.tree.map(np.testing.assert_array_equal, gradient, expected)
    z = np.asarray(scattered((x - params.b_dec) @ params.W_enc.T + params.b_enc, K))
    assert report.active == (z > 0).sum()
    np.testing.assert_array_equal(report.firings, (z > 1e-3).sum(0))


@on_meshes
@pytest.mark.parametrize("architecture", ["topk", "relu"])
def test_the_report_holds_sums_over_the_whole_batch(architecture, shape):
    params, x = floats(4)
    report = compiled(architecture, shape, False)(params, x, dead_latents(0))[2]
    pre = (x - params.b_dec * (architecture == "topk")) @ params.W_enc.T + params.b_enc
    z = np.asarray(scattered(pre, K)) if architecture == "topk" else np.maximum(pre, 0)
    error = x - z @ params.W_dec - params.b_dec
    np.testing.assert_allclose(report.squared_error, (error**2).sum(), rtol=1e-5)
    np.testing.assert_allclose(report.squared_norm, (x**2).sum(), rtol=1e-5)
    assert report.active == (z > 0).sum()
    np.testing.assert_array_equal(report.firings, (z > 1e-3).sum(0))


def test_a_decoder_row_of_zeros_has_a_finite_gradient():
    params, x = floats(1)
    params.W_dec[7] = 0
    gradient = compiled("relu", (1, 1), False)(params, x, dead_latents(0))[1]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
