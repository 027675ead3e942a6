"""A dictionary that made the data is found again."""

import jax
import numpy as np

import jaxsae
from jaxsae.dictionary import MethodConfig
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.parallel import make_mesh
from jaxsae.training import OptimizerConfig, TrainConfig, setup

FEATURES, D, ACTIVE = 128, 64, 3


def data(rows, rng):
    """Unit features, and rows that are sums of about three of them with positive coefficients."""
    features = rng.normal(size=(FEATURES, D))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    coefficients = rng.uniform(0.5, 1.5, (rows, FEATURES)) * (rng.random((rows, FEATURES)) < ACTIVE / FEATURES)
    return features, (coefficients @ features).astype(np.float32)


def test_topk_recovers_the_features_that_made_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "make_mesh", lambda shape: make_mesh(shape, jax.devices()[:1]))  # many times faster
    features, x = data(32_768, np.random.default_rng(0))
    np.save(tmp_path / "x.npy", x)
    harvest(HarvestConfig(store=str(tmp_path / "store"), source="arrays", input=(str(tmp_path / "x.npy"),)))
    config = TrainConfig(
        store=str(tmp_path / "store"),
        workdir=str(tmp_path / "run"),
        batch_size=256,
        tokens=256 * 600,
        dead_tokens=5_000,
        mesh=(1, 1),
        method=MethodConfig(width=256, k=4),
        optimization=OptimizerConfig(learning_rate=3e-3),
    )
    dictionary = jaxsae.train(config)
    rows = np.array(dictionary.params.W_dec)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    best = np.abs(features @ rows.T).max(1)
    chance = np.abs(features @ np.random.default_rng(1).normal(size=rows.shape).T / D**0.5).max(1).mean()
    assert best.mean() > 0.98 and best.min() > 0.9 and chance < 0.5
