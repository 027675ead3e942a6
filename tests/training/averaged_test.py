"""The dictionary of averaged weights: its decoder rows, and BatchTopK's threshold, by a reference of this file."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxsae.dictionary import MethodConfig
from jaxsae.training import load, train
from jaxsae.training.setup import Setup

K, STEPS, DECAY = 6, 200, 0.999


@pytest.fixture
def config(configure):
    method = MethodConfig(width=64, k=K, architecture="batchtopk", aux_k=8)
    made = configure(steps=STEPS, ema_decay=DECAY, learning_rate=1e-2, checkpoint_every=150, mesh=(2, 4), log_every=50)
    return dataclasses.replace(made, method=method)


def test_the_threshold_is_that_of_the_averaged_weights(config, rows):
    dictionary = train(config)
    norms = np.linalg.norm(np.asarray(dictionary.params.W_dec), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-6)
    p = {name: np.asarray(getattr(dictionary.params, name), np.float64) for name in ("W_enc", "b_enc", "b_dec")}
    smallest = []
    for index in range(STEPS - 8, STEPS):
        x = np.asarray(Setup.of(config).batches[index], np.float64)
        pre = np.maximum((x - p["b_dec"]) @ p["W_enc"].T + p["b_enc"], 0)
        smallest.append(np.sort(pre.ravel())[-K * len(x)])
    assert dictionary.threshold == pytest.approx(np.mean(smallest), rel=1e-4)
    l0 = (np.asarray(dictionary.encode(rows).values) > 0).sum(1).mean()
    assert l0 == pytest.approx(K, rel=0.03)  # the last weights' threshold gives another


def test_a_resumed_run_has_the_same_threshold(config):
    whole, early = train(config), load(Path(config.workdir) / "checkpoints/150")
    for later in (160, 200):  # the first from before the fall of the rate
        shutil.rmtree(Path(config.workdir) / f"checkpoints/{later}")
    assert early.threshold == load(config.workdir).threshold != whole.threshold > 0
    assert train(config).threshold == whole.threshold
