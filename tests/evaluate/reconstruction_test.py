"""Figures of reconstruction against dense float64 NumPy."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsae.training
from jaxsae.dictionary import SPECS, Dictionary, Latents, MethodConfig, Params
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.evaluate.reconstruction import Firing
from jaxsae.parallel import make_mesh, shardings
from jaxsae.store import open_store

D, WIDTH, SITE = 16, 48, "resid_post.0"
ROWS, HELD_OUT = 1000, 300


def dot(a, b):
    return np.einsum("nd,nd->n", a, b)


def cosine(a, b):
    return (dot(a, b) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean()


@pytest.fixture
def x():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((ROWS, D)) @ rng.standard_normal((D, D)) / 4 + 3 * rng.standard_normal(D)
    x[: ROWS - HELD_OUT] *= 50  # what training saw must not reach the figures
    return x.astype(np.float32)


def run(tmp_path, dictionary, **flags):
    return evaluate(EvaluateConfig(run=str(tmp_path / "run"), batch_size=128, **flags), dictionary)["reconstruction"]


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "relu"])
def test_every_figure(tmp_path, write_store, make_dictionary, dense, x, architecture):
    url = write_store(x)
    dictionary = make_dictionary(architecture, store=url, site=SITE, holdout_rows=HELD_OUT)
    found = run(tmp_path, dictionary)

    x = x[-HELD_OUT:].astype(np.float64)
    z, x_hat = dense(dictionary, x).z, dense(dictionary, x).x_hat
    y, y_hat = x - x.mean(0), x_hat - x.mean(0)
    frequency = (z > 0).mean(0)
    expected = {
        "fvu": np.square(x - x_hat).sum() / np.square(y).sum(),
        "explained_variance": 1 - np.square(x - x_hat).sum() / np.square(y).sum(),
        "mse": np.square(x - x_hat).mean(),
        "gamma": dot(y_hat, y_hat).mean() / dot(y_hat, y).mean(),
        "gamma_uncentred": dot(x_hat, x_hat).mean() / dot(x_hat, x).mean(),
        "cosine": cosine(x, x_hat),
        "cosine_centred": cosine(y, y_hat),
        "l0": (z > 0).sum(1).mean(),
        "dead_fraction": (frequency == 0).mean(),
        "rare_fraction": (frequency < 1e-4).mean(),
        "dense_fraction": (frequency > 0.1).mean(),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    assert found["rows"] == HELD_OUT and found["held_out"] and found["width"] == WIDTH
    assert found["k"] == 6
    assert found["threshold"] == (1.5 if architecture == "batchtopk" else None)
    if architecture != "topk":
        assert len(set((z > 0).sum(1))) > 3  # k varies, so the batches were encoded with several

    k = found["baselines"]["pca_k"]["components"]
    assert k == round(expected["l0"])
    u, s, vt = np.linalg.svd(y, full_matrices=False)
    rest = np.square(y - (u[:, :k] * s[:k]) @ vt[:k]).sum() / np.square(y).sum()
    assert found["baselines"]["pca_k"]["fvu"] == pytest.approx(rest, rel=1e-6)
    assert found["baselines"]["mean"]["fvu"] == 1

    histogram = found["frequency_histogram"]
    edges = np.array(histogram["log10_edges"])
    logs = np.log10(frequency[frequency > 0])
    by_hand = [((logs >= a) & (logs < b)).sum() for a, b in itertools.pairwise(edges)]
    by_hand[-1] += (logs == edges[-1]).sum()
    assert histogram["counts"] == by_hand and sum(by_hand) + histogram["never"] == WIDTH

    assert json.loads((tmp_path / "run/eval/reconstruction.json").read_text()) == found
    with np.load(tmp_path / "run/eval/frequencies.npz", allow_pickle=False) as saved:
        np.testing.assert_array_equal(saved["count"], (z > 0).sum(0))
        np.testing.assert_allclose(saved["frequency"], frequency)
        np.testing.assert_allclose(saved["mean_active"], z.sum(0) / np.maximum((z > 0).sum(0), 1), rtol=1e-5)
        assert saved["rows"] == HELD_OUT


def test_rows_are_the_last_held_out_ones_or_those_of_another_store(tmp_path, write_store, make_dictionary, dense, x):
    own, other = write_store(x), write_store(2 * x + 1, "other")
    dictionary = make_dictionary(store=own, site=SITE, holdout_rows=HELD_OUT)

    def fvu(x):
        return np.square(x - dense(dictionary, x).x_hat).sum() / np.square(x - x.mean(0)).sum()

    x = x.astype(np.float64)
    some = run(tmp_path, dictionary, rows=100)
    assert some["rows"] == 100 and some["fvu"] == pytest.approx(fvu(x[-100:]), rel=1e-5)
    by_url = run(tmp_path, dictionary, store=f"file://{own}/")
    assert by_url["rows"] == HELD_OUT and by_url["held_out"]
    elsewhere = run(tmp_path, dictionary, store=other)
    assert elsewhere["rows"] == ROWS and not elsewhere["held_out"]
    assert elsewhere["fvu"] == pytest.approx(fvu((2 * x + 1).astype(np.float32).astype(np.float64)), rel=1e-5)


def test_a_moved_store_is_known_by_its_fingerprint(tmp_path, write_store, make_dictionary, x):
    url = write_store(x)
    mark = open_store(url).metadata(SITE)["fingerprint"]
    dictionary = make_dictionary(store="elsewhere", fingerprint=mark, site=SITE, holdout_rows=HELD_OUT)
    assert run(tmp_path, dictionary, store=url)["rows"] == HELD_OUT


def test_an_exact_dictionary_has_no_error_and_a_dead_one_is_the_mean(tmp_path, write_store, x):
    url, identity = write_store(x), np.concatenate([np.eye(D), -np.eye(D)]).astype(np.float32)
    method = MethodConfig(width=2 * D, architecture="relu")
    metadata = dict(store=url, site=SITE, holdout_rows=HELD_OUT)
    exact = Params.of(*map(jnp.asarray, (identity, np.zeros(2 * D), identity, np.zeros(D))))
    found = run(tmp_path, Dictionary(exact, method, metadata))
    assert found["fvu"] == pytest.approx(0, abs=1e-9) and found["gamma"] == pytest.approx(1)
    assert found["cosine"] == pytest.approx(1) and found["l0"] == D
    assert found["baselines"]["pca_k"]["fvu"] == pytest.approx(0, abs=1e-9)

    dead = exact.put(
        b_enc=jnp.full(2 * D, -1e6), b_dec=jnp.asarray(x[-HELD_OUT:].mean(0, dtype=np.float64), jnp.float32)
    )
    found = run(tmp_path, Dictionary(dead, method, metadata))
    assert found["fvu"] == pytest.approx(1) and found["dead_fraction"] == 1 and found["l0"] == 0
    assert found["frequency_histogram"]["never"] == 2 * D and sum(found["frequency_histogram"]["counts"]) == 0


def test_shrinkage_is_seen_about_the_mean_alone(tmp_path, write_store, x):
    """Latents at half their size: gamma says one half, while the large mean hides it from the raw figure."""
    x = x + 100
    url, identity = write_store(x), np.concatenate([np.eye(D), -np.eye(D)]).astype(np.float32)
    mean = x[-HELD_OUT:].mean(0, dtype=np.float64).astype(np.float32)
    params = Params.of(*map(jnp.asarray, (identity, -identity @ mean, 0.5 * identity, mean)))
    dictionary = Dictionary(
        params, MethodConfig(width=2 * D, architecture="relu"), dict(store=url, site=SITE, holdout_rows=300)
    )
    found = run(tmp_path, dictionary)
    assert found["gamma"] == pytest.approx(0.5, rel=1e-4) and found["fvu"] == pytest.approx(0.25, rel=1e-4)
    assert found["gamma_uncentred"] > 0.99


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "relu"])
def test_a_sharded_dictionary_gives_the_same_figures(tmp_path, write_store, make_dictionary, x, architecture):
    dictionary = make_dictionary(architecture, store=write_store(x), site=SITE, holdout_rows=HELD_OUT)
    mesh = make_mesh((2, 4))
    params = jax.device_put(dictionary.params, shardings(mesh, SPECS))
    one, eight = (run(tmp_path, d) for d in (dictionary, dataclasses.replace(dictionary, params=params, mesh=mesh)))
    for name in ("fvu", "gamma", "l0", "dead_fraction", "dense_fraction", "cosine_centred"):
        assert one[name] == pytest.approx(eight[name], rel=1e-6), name


def test_a_run_is_loaded_onto_the_mesh_that_is_asked_for(tmp_path, monkeypatch, write_store, make_dictionary, x):
    dictionary, asked = make_dictionary(store=write_store(x), site=SITE, holdout_rows=HELD_OUT), []

    def load(path, mesh):
        asked.append((path, mesh and mesh.devices.shape))
        return dictionary

    monkeypatch.setattr(jaxsae.training, "load", load)
    path = tmp_path / "run"
    path.mkdir()
    run(tmp_path, None), run(tmp_path, None, mesh=(2, 4))
    assert asked == [(str(path), None), (str(path), (2, 4))]


def test_zeros_of_a_row_with_fewer_active_latents_do_not_fire():
    firing = Firing(4)
    firing.add(Latents(np.array([[2.0, 0.0], [1.0, 3.0]]), np.array([[1, 0], [1, 2]])))
    np.testing.assert_array_equal(firing.count, [0, 2, 1, 0])
    assert firing.figures()["l0"] == 1.5 and firing.figures()["dead_fraction"] == 0.5
    np.testing.assert_array_equal(firing.arrays()["mean_active"], [0, 1.5, 3, 0])
