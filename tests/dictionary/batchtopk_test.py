"""BatchTopK: its loss on meshes, its dictionary and its threshold against dense references."""

import importlib.util
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsae.dictionary import SPECS, Dictionary, MethodConfig, make_method
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.parallel import make_mesh, shardings
from jaxsae.store import open_store
from jaxsae.training import OptimizerConfig, TrainConfig, load, save_dictionary, setup, train
from jaxsae.training.checkpoint import Checkpoints

# A copy of the gradient tests' module, so that what is changed in it is changed for these tests alone.
_spec = importlib.util.spec_from_file_location("gradients", Path(__file__).with_name("gradients_test.py"))
gradients = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(gradients)
BATCH, WIDTH, K, AUX_K = gradients.BATCH, gradients.WIDTH, gradients.K, gradients.AUX_K

MESHES = [(1, 1), (2, 4), (8, 1)]
on_meshes = pytest.mark.parametrize("shape", MESHES)
compiled = {}


def run(shape, use_aux, params, x, dead, row_k_max=WIDTH):
    """(loss, gradient, report) over a mesh, as the training step runs it."""
    key = (shape, use_aux, row_k_max)
    if key not in compiled:
        config = MethodConfig(width=WIDTH, architecture="batchtopk", k=K, aux_k=AUX_K, row_k_max=row_k_max)
        gradients.method_of = lambda _: make_method(config)
        compiled[key] = gradients.build("batchtopk", shape, use_aux)
    return compiled[key](params, x, dead)


def selection(params, x, limit=WIDTH):
    """bool [B, n]: the first B K pairs by (value, row, latent) of each row's `limit` best."""
    p, x = jax.tree.map(lambda a: np.asarray(a, np.float64), (params, x))
    pre = (x - p.b_dec) @ p.W_enc.T + p.b_enc
    place = np.argsort(np.argsort(-pre, axis=1, kind="stable"), axis=1, kind="stable")
    candidates = np.where(place < limit, pre, -np.inf)
    chosen = np.zeros(pre.size, bool)
    chosen[np.argsort(-candidates.ravel(), kind="stable")[: len(x) * K]] = True
    return chosen.reshape(pre.shape) & (pre > 0), pre


def dense_loss(p, x, dead, chosen, use_aux):
    pre = (x - p.b_dec) @ p.W_enc.T + p.b_enc
    error = x - jnp.where(chosen, pre, 0) @ p.W_dec - p.b_dec
    loss = (error**2).sum() / x.size
    if use_aux:
        of_dead = gradients.scattered(jnp.where(dead, jax.lax.stop_gradient(pre), -jnp.inf), AUX_K) > 0
        error = jax.lax.stop_gradient(error)
        loss += ((error - jnp.where(of_dead, pre, 0) @ p.W_dec) ** 2).sum() / (error**2).sum() / 32
    return loss


def reference(params, x, dead, use_aux, chosen=None):
    """Loss and gradients in float64."""
    chosen = selection(params, x)[0] if chosen is None else chosen
    with jax.enable_x64(True):
        p, x64 = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (params, x))
        value, gradient = jax.value_and_grad(dense_loss)(p, x64, dead, chosen, use_aux)
        return float(value), jax.tree.map(np.asarray, gradient)


@on_meshes
def test_loss_and_gradients_equal_the_dense_ones(shape):
    for seed in range(3):
        params, x = gradients.floats(seed)
        dead = gradients.dead_latents(0)
        gradients.check(run(shape, False, params, x, dead), reference(params, x, dead, False))


@on_meshes
@pytest.mark.parametrize("count", [0, 20, WIDTH])
def test_gradients_with_the_auxiliary_loss_equal_the_dense_ones(shape, count):
    params, x = gradients.floats(count)
    dead = gradients.dead_latents(count)
    gradients.check(run(shape, True, params, x, dead), reference(params, x, dead, True))


@on_meshes
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), shift=st.sampled_from([-30, -9, 0, 9]))
def test_of_integers_everything_is_exact_with_ties_over_rows_and_shards(shape, seed, shift):
    params, x = gradients.integers(seed)
    params, dead = params.put(b_enc=params.b_enc + np.float32(shift)), gradients.dead_latents(0)
    value, gradient, report = run(shape, False, params, x, dead)
    chosen, pre = selection(params, x)
    expected_value, expected = reference(params, x, dead, False, chosen)
    assert value == expected_value
    jax.tree.map(np.testing.assert_array_equal, gradient, expected)
    assert report.active == chosen.sum() <= BATCH * K
    assert report.smallest == (pre[chosen].min() if chosen.any() else 0)
    np.testing.assert_array_equal(report.firings, chosen.sum(0))


@pytest.mark.parametrize(
    ("shape", "row_k_max"), [((1, 1), 16), ((8, 1), 16), ((1, 8), 16), ((2, 4), 14), ((1, 1), None), ((2, 4), None)]
)
def test_a_row_keeps_at_most_row_k_max_latents(shape, row_k_max):
    params, x = gradients.floats(1)
    params.W_enc[:, 0], x[3, 0] = np.abs(params.W_enc[:, 0]) + 1, 100  # this row would take all latents
    dead, limit = gradients.dead_latents(0), row_k_max or 4 * K
    chosen = selection(params, x, limit)[0]
    assert chosen[3].sum() == limit < selection(params, x)[0][3].sum()
    found = run(shape, False, params, x, dead, row_k_max)
    gradients.check(found, reference(params, x, dead, False, chosen))
    assert found[2].active == chosen.sum() == BATCH * K  # what the row may not have goes to others


def on_mesh(params, threshold, shape):
    mesh = make_mesh(shape, jax.devices()[: shape[0] * shape[1]])
    config = MethodConfig(width=WIDTH, architecture="batchtopk", k=K)
    return Dictionary(jax.device_put(params, shardings(mesh, SPECS)), config, {}, mesh, threshold)


@pytest.mark.parametrize(("shape", "threshold"), [((1, 1), 0.0), ((1, 8), 1.5), ((1, 8), 4.0), ((1, 1), 1e6)])
def test_encode_keeps_what_is_above_the_threshold(shape, threshold):
    params, x = gradients.floats(2)
    _, pre = selection(params, x)
    z = np.where(pre > threshold, pre, 0)
    sae = on_mesh(params, threshold, shape)
    latents = sae.encode(x)
    np.testing.assert_allclose(latents.dense(WIDTH), z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sae.decode(latents), z @ params.W_dec + params.b_dec, rtol=1e-4, atol=1e-4)
    active = (z > 0).sum(1)
    assert active.max() <= latents.values.shape[1] < max(2 * active.max(), 2)
    assert threshold == 1e6 or len(set(active)) > 3
    for rows in (slice(0, 1), slice(5, 9)):  # the rows around it change nothing
        np.testing.assert_allclose(sae.encode(x[rows]).dense(WIDTH), z[rows], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 8)])
def test_a_pre_activation_at_the_threshold_is_not_active(shape):
    params, x = gradients.integers(4)
    _, pre = selection(params, x)
    assert (pre == 3).sum() > 20
    np.testing.assert_array_equal(on_mesh(params, 3.0, shape).encode(x).dense(WIDTH), np.where(pre > 3, pre, 0))
    x[3, 5] = np.nan
    values = np.asarray(on_mesh(params, 3.0, shape).encode(x).values)
    assert np.isnan(values[3]).all() and np.isfinite(np.delete(values, 3, 0)).all()


D, TRAIN_K, STEPS, HELD_OUT = 16, 6, 300, 2048


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """TrainConfig of a finished run on rows far from 0, of a scale far from 1, with the checkpoint before the last."""
    path, rng = tmp_path_factory.mktemp("batchtopk"), np.random.default_rng(0)
    active = rng.random((16_384, 48)) * (rng.random((16_384, 48)) < 0.1)
    x = 40 * (active @ rng.normal(size=(48, D)) + rng.normal(size=D) + 0.05 * rng.normal(size=(16_384, D)))
    np.save(path / "x.npy", x.astype(np.float32))
    harvest(HarvestConfig(store=str(path / "store"), source="arrays", input=(str(path / "x.npy"),)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "make_mesh", lambda shape: make_mesh(shape, jax.devices()[:1]))
        config = TrainConfig(
            store=str(path / "store"),
            workdir=str(path / "run"),
            batch_size=256,
            tokens=256 * STEPS,
            holdout_rows=HELD_OUT,
            checkpoint_every=200,
            mesh=(1, 1),
            method=MethodConfig(width=64, architecture="batchtopk", k=TRAIN_K),
            optimization=OptimizerConfig(learning_rate=3e-3),
        )
        train(config)
        yield config


def state_of(config):
    with Checkpoints(Path(config.workdir) / "checkpoints") as checkpoints:
        return checkpoints.restore(checkpoints.latest, setup.Setup.of(config).abstract)


def held_out(config):
    store = open_store(config.store)
    return store.read(store.sites[0], store.rows - HELD_OUT, store.rows)


def test_held_out_rows_have_k_active_latents_on_average(trained):
    latents = load(trained.workdir).encode(held_out(trained))
    active = (np.asarray(latents.values) > 0).sum(1)
    assert abs(active.mean() / TRAIN_K - 1) < 0.04 and active.std() > 1


def test_the_threshold_is_folded_with_the_weights(trained):
    state, x = state_of(trained), held_out(trained).astype(np.float64)
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), state.params)
    scale = float(state.scale)
    pre = ((x - state.mean) * scale - p.b_dec) @ p.W_enc.T + p.b_enc
    sure = np.abs(pre - float(state.threshold)) > 1e-4
    expected = np.where(pre > float(state.threshold), pre, 0) / scale
    dictionary = load(trained.workdir)
    assert scale < 0.2 and dictionary.threshold == pytest.approx(float(state.threshold) / scale, rel=1e-6)
    found = np.asarray(dictionary.encode(x.astype(np.float32)).dense(64))
    np.testing.assert_allclose(np.where(sure, found, 0), np.where(sure, expected, 0), rtol=1e-4, atol=1e-2)


def test_a_resumed_run_ends_with_the_same_threshold(trained, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained.workdir, copy)
    shutil.rmtree(copy / "checkpoints" / str(STEPS))
    before = load(copy).threshold
    resumed = train(type(trained)(**{**vars(trained), "workdir": str(copy)}))
    assert resumed.threshold == load(trained.workdir).threshold != before > 0


def test_a_saved_dictionary_has_its_threshold(trained, tmp_path):
    dictionary, x = load(trained.workdir), held_out(trained)[:50]
    save_dictionary(tmp_path / "copy", dictionary)
    back = load(tmp_path / "copy")
    assert back.threshold == dictionary.threshold > 0 and back.config == dictionary.config
    np.testing.assert_array_equal(back.encode(x).values, dictionary.encode(x).values)
