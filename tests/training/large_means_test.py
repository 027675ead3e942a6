"""Dimensions with means far from 0, as transformers have some: rows are centred, so nothing needs tuning."""

import numpy as np
import pytest

from jaxsae.dictionary import MethodConfig
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.inspect import InspectConfig, inspect
from jaxsae.training import TrainConfig, train

D = 16


def test_training_on_dimensions_with_large_means_needs_no_tuning(tmp_path):
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(64, D))
    z = rng.random((20_000, 64)) * (rng.random((20_000, 64)) < 0.05)
    fvu = []
    for name, mean in (("plain", 0), ("outliers", 300)):
        x = (z @ directions).astype(np.float32)
        x[:, :2] += mean
        np.save(tmp_path / f"{name}.npy", x)
        store = str(tmp_path / name)
        harvest(HarvestConfig(store=store, source="arrays", input=(f"{store}.npy",), shard_rows=4096, chunk_rows=256))
        method = MethodConfig(width=256, k=8)
        train(
            TrainConfig(store=store, workdir=f"{store}-run", batch_size=512, tokens=102_400, method=method, mesh=(1, 1))
        )
        run = EvaluateConfig(run=f"{store}-run", suite=("reconstruction",))
        fvu.append(evaluate(run)["reconstruction"])
    assert "outlier dimensions 0" in inspect(InspectConfig(str(tmp_path / "outliers")))
    assert fvu[1]["fvu"] == pytest.approx(fvu[0]["fvu"], rel=0.05) and fvu[0]["fvu"] < 0.5
    assert fvu[1]["dead_fraction"] == pytest.approx(fvu[0]["dead_fraction"], abs=0.05)
