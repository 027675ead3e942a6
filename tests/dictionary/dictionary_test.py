"""A dictionary on any mesh computes what dense NumPy computes in float64; its units change without loss."""

import jax
import numpy as np
import pytest

from jaxsae.dictionary import (
    SPECS,
    Dictionary,
    Latents,
    MethodConfig,
    Normalization,
    Params,
    Widths,
    fold,
    make_method,
    unfold,
)
from jaxsae.dictionary.selection import ReLU
from jaxsae.errors import InputError
from jaxsae.parallel import make_mesh, shardings

D, WIDTH, K = 12, 64, 6
MESHES = [(1, 1), (1, 8), (2, 4)]
on_meshes = pytest.mark.parametrize("shape", MESHES)
both = pytest.mark.parametrize("architecture", ["topk", "relu"])


def random_params(seed=0, b_enc=0.0):
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    rng = np.random.default_rng(seed)
    return Params.of(draw(WIDTH, D), 0.3 * draw(WIDTH) + np.float32(b_enc), 0.3 * draw(WIDTH, D), draw(D))


def make(architecture, shape=(1, 1), params=None):
    mesh = make_mesh(shape, jax.devices()[: shape[0] * shape[1]])
    params = jax.device_put(params or random_params(), shardings(mesh, SPECS))
    return Dictionary(params, MethodConfig(width=WIDTH, architecture=architecture, k=K), {}, mesh)


def dense(architecture, params, x):
    """Latents [B, width] and reconstructions [B, d] in float64."""
    p, x = jax.tree.map(lambda a: np.asarray(a, np.float64), (params, x))
    pre = (x - p.b_dec if architecture == "topk" else x) @ p.W_enc.T + p.b_enc
    if architecture == "topk":
        left_out = np.argsort(-pre, axis=1, kind="stable")[:, K:]
        np.put_along_axis(pre, left_out, 0, axis=1)
    z = np.maximum(pre, 0)
    return z, z @ p.W_dec + p.b_dec


def activations(rows=20, seed=1):
    return np.random.default_rng(seed).normal(1, 2, (rows, D)).astype(np.float32)


@on_meshes
@both
def test_encode_decode_and_reconstruct_equal_dense_ones(architecture, shape):
    sae, x = make(architecture, shape), activations()
    z, x_hat = dense(architecture, sae.params, x)
    latents = sae.encode(x)
    np.testing.assert_allclose(latents.dense(WIDTH), z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sae.decode(latents), x_hat, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(sae.reconstruct(x), x_hat, rtol=1e-4, atol=1e-4)


@on_meshes
@both
def test_latents_are_descending_and_distinct(architecture, shape):
    latents = make(architecture, shape).encode(activations())
    values, indices = np.asarray(latents.values), np.asarray(latents.indices)
    assert (np.diff(values, axis=1) <= 0).all() and (values >= 0).all()
    assert all(len(set(row)) == values.shape[1] for row in indices)


@on_meshes
def test_ties_across_shards_fall_to_the_lowest_index(shape):
    params = random_params()
    params = params.put(W_enc=np.ones_like(params.W_enc), b_enc=np.full(WIDTH, 100, np.float32))
    indices = make("topk", shape, params).encode(activations()).indices
    np.testing.assert_array_equal(np.asarray(indices), np.broadcast_to(np.arange(K), (20, K)))


@on_meshes
def test_a_row_with_fewer_than_k_active_latents_has_zeros(shape):
    params = random_params().put(b_enc=np.where(np.arange(WIDTH) % 32 == 3, np.float32(100), np.float32(-100)))
    values = np.asarray(make("topk", shape, params).encode(activations()).values)
    assert ((values > 0).sum(1) == 2).all() and (values[:, 2:] == 0).all()


@on_meshes
@pytest.mark.parametrize(
    ("b_enc", "least", "most"), [(-100, 0, 0), (-9, 1, 20), (0, 20, WIDTH - 1), (100, WIDTH, WIDTH)]
)
def test_relu_keeps_every_active_latent(shape, b_enc, least, most):
    sae, x = make("relu", shape, random_params(b_enc=b_enc)), activations()
    active = int((dense("relu", sae.params, x)[0] > 0).sum(1).max())
    assert least <= active <= most
    kept = sae.encode(x).values.shape[1]
    assert kept & (kept - 1) == 0 and active <= kept < max(2 * active, 2)
    np.testing.assert_allclose(sae.reconstruct(x), dense("relu", sae.params, x)[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, D + 1), (D,), (2, 3, D + 1), (0, D), (2, 0, D)])
def test_activations_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=rf"takes activations \[B, {D}\]"):
        make("topk").encode(np.zeros(shape, np.float32))


def test_a_nan_shows_in_its_row_alone():
    x = activations()
    x[3, 5] = np.nan
    values = np.asarray(make("topk", (1, 8)).encode(x).values)
    assert np.isnan(values[3]).all() and np.isfinite(np.delete(values, 3, 0)).all()


def test_dense_latents_have_zeros_elsewhere():
    latents = Latents(np.float32([[2.0, 0.5], [1.0, 0.0]]), np.array([[3, 0], [1, 2]]))
    np.testing.assert_array_equal(latents.dense(4), [[0.5, 0, 0, 2], [0, 1, 0, 0]])


NORMALIZATION = Normalization(np.linspace(-3, 5, D).astype(np.float32), 0.37)


@both
def test_a_folded_dictionary_does_on_activations_what_the_trainer_does_on_its_own_units(architecture):
    params, x = random_params(3), activations()
    y = (x.astype(np.float64) - NORMALIZATION.mean) * NORMALIZATION.scale
    z, y_hat = dense(architecture, params, y)
    folded = fold(params, NORMALIZATION, architecture == "topk", ReLU())
    sae = make(architecture, params=folded)
    np.testing.assert_allclose(sae.encode(x).dense(WIDTH), z / NORMALIZATION.scale, rtol=1e-4, atol=1e-4)
    x_hat = y_hat / NORMALIZATION.scale + NORMALIZATION.mean
    np.testing.assert_allclose(sae.reconstruct(x), x_hat, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pre_bias", [True, False])
def test_unfold_is_the_inverse_of_fold(pre_bias):
    params = random_params(4)
    there = fold(params, NORMALIZATION, pre_bias, ReLU())
    assert np.abs(np.asarray(there.b_enc) - params.b_enc).max() > 0.1
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        back = getattr(unfold(there, NORMALIZATION, pre_bias, ReLU()), name)
        np.testing.assert_allclose(back, getattr(params, name), rtol=1e-5, atol=1e-5)


def test_the_projected_gradient_has_no_component_along_decoder_rows():
    method = make_method(MethodConfig(width=WIDTH, k=K))
    params, gradient = method.after_step(random_params(5)), random_params(6)
    projected = method.project_gradient(params, gradient)
    assert np.abs((gradient.W_dec * params.W_dec).sum(1)).max() > 0.1
    np.testing.assert_allclose((projected.W_dec * params.W_dec).sum(1), 0, atol=1e-6)
    along = ((gradient.W_dec - projected.W_dec) * params.W_dec).sum(1, keepdims=True) * params.W_dec
    np.testing.assert_allclose(gradient.W_dec - projected.W_dec, along, atol=1e-6)  # nothing else was taken
    assert projected.W_enc is gradient.W_enc and projected.b_dec is gradient.b_dec


def test_after_a_step_decoder_rows_have_unit_length_and_their_direction():
    method, params = make_method(MethodConfig(width=WIDTH, k=K)), random_params(7)
    params.W_dec[5] = 0
    rows = np.asarray(method.after_step(params).W_dec)
    lengths = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(np.delete(lengths, 5), 1, rtol=1e-6)
    np.testing.assert_array_equal(rows[5], 0)  # an imported row of zeros must not become NaN
    cosine = (rows * params.W_dec).sum(1) / np.linalg.norm(params.W_dec, axis=1).clip(1e-9)
    np.testing.assert_allclose(np.delete(cosine, 5), 1, rtol=1e-6)


def test_relu_leaves_decoder_rows_free():
    method, params = make_method(MethodConfig(width=WIDTH, architecture="relu")), random_params(7)
    assert method.after_step(params) is params and method.project_gradient(params, params) is params


@both
def test_initial_encoder_and_decoder_are_tied_and_the_same_for_a_seed(architecture):
    method = make_method(MethodConfig(width=WIDTH, k=K, architecture=architecture))
    params, again, other = (method.init(jax.random.key(seed), Widths.of(D)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(params.W_enc, params.W_dec)
    np.testing.assert_allclose(np.linalg.norm(params.W_dec, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(params.W_enc, again.W_enc)
    assert not np.array_equal(params.W_enc, other.W_enc) and not np.any(params.b_enc) and not np.any(params.b_dec)


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"k": WIDTH + 1}, f"--k={WIDTH + 1}: must be at most --width={WIDTH}"),
        ({"k": 0}, "--k=0"),
        ({"width": 0}, "--width=0"),
        ({"architecture": "batchtopk", "row_k_max": 31}, "--row_k_max=31: must be at least --k=32"),
        ({"aux_k": WIDTH + 1}, f"--aux_k={WIDTH + 1}: must be at most --width={WIDTH}"),
        ({"aux_coefficient": float("nan")}, "--aux_coefficient=nan"),
        ({"l1_coefficient": -1.0}, "--l1_coefficient=-1.0"),
        ({"l1_warmup": 1.5}, "--l1_warmup=1.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, flag):
    with pytest.raises(InputError, match=flag):
        MethodConfig(**{"width": WIDTH, **changes})
