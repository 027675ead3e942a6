"""Dictionaries whose decoder rows are not of length 1, taken as the initial weights of methods that make them so."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.training import save_dictionary, train

D, ROWS, K = 16, 512, 4


@pytest.fixture(scope="module")
def basis():
    """float32 [16, 16], orthonormal."""
    return np.linalg.qr(np.random.default_rng(3).normal(size=(D, D)))[0].astype(np.float32)


@pytest.fixture
def activations(basis):
    """float32 [512, 16]: four of the basis' rows each, with positive weights."""
    rng = np.random.default_rng(4)
    chosen = np.argsort(rng.random((ROWS, D)), axis=1)[:, :K]
    z = np.zeros((ROWS, D), np.float32)
    np.put_along_axis(z, chosen, rng.uniform(1, 2, (ROWS, K)).astype(np.float32), 1)
    return z @ basis


def fvu(dictionary, x):
    error = x - np.asarray(dictionary.reconstruct(x), np.float64)
    return (error**2).sum() / ((x - x.mean(0)) ** 2).sum()


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
@pytest.mark.parametrize("lengths", ["equal", "different"])
def test_a_step_of_rate_0_keeps_what_latents_add(
    architecture, lengths, basis, activations, own_store, configure, tmp_path, capsys
):
    length = np.full((D, 1), 3, np.float32)
    if lengths == "different":
        length = np.linspace(1, 3, D, dtype=np.float32)[:, None]
    method = MethodConfig(width=D, k=K, architecture=architecture)
    params = Params.of(
        *map(jnp.asarray, (basis / length, np.zeros(D, np.float32), basis * length, np.zeros(D, np.float32)))
    )
    imported = Dictionary(params, method, threshold=0.1)
    save_dictionary(tmp_path / "imported", imported)
    assert fvu(imported, activations) < 1e-10
    config = configure(
        "on", steps=1, store=own_store(activations), mesh=(1, 1), learning_rate=1e-9, ema_decay=0.0,
        initialize_from=str(tmp_path / "imported"), holdout_rows=0, normalize="scale",
    )  # fmt: skip
    trained = train(dataclasses.replace(config, method=dataclasses.replace(method, aux_k=2)))
    assert (
        fvu(dataclasses.replace(trained, threshold=0.5), activations) < 1e-10
    )  # the batch's own is above some latents
    np.testing.assert_allclose(np.linalg.norm(trained.params.W_dec, axis=1), 1, atol=1e-6)
    told = capsys.readouterr().err
    assert ("1 to 3 long" in told) == (lengths == "different")


def test_a_latent_whose_row_is_zeros_still_adds_nothing(basis, own_store, activations, configure, tmp_path, capsys):
    W_dec = np.concatenate([2 * basis, np.zeros((1, D), np.float32)])
    W_enc = np.concatenate([basis / 2, 0.01 * basis[:1]])  # it is active, and adds nothing
    method = MethodConfig(width=D + 1, k=K + 1, aux_k=2)
    params = Params.of(*map(jnp.asarray, (W_enc, np.zeros(D + 1, np.float32), W_dec, np.zeros(D, np.float32))))
    save_dictionary(tmp_path / "imported", Dictionary(params, method))
    config = configure(
        "on", steps=1, store=own_store(activations), mesh=(1, 1), learning_rate=1e-9, ema_decay=0.0,
        initialize_from=str(tmp_path / "imported"), holdout_rows=0, normalize="none",
    )  # fmt: skip
    assert fvu(train(dataclasses.replace(config, method=method)), activations) < 1e-10
    assert "0 to 2 long" in capsys.readouterr().err
