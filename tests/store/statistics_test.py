"""Norms and outlier dimensions, merged from parts of any size."""

import json

import numpy as np
import pytest

from jaxsae.store.statistics import OUTLIER, Moments, Statistics


def rows():
    x = np.random.default_rng(0).normal(size=(5000, 12)).astype(np.float32)
    x[:, 3] += 40
    x[:, 7] *= 9
    return x


def test_norms_and_outliers_of_parts_are_those_of_the_whole():
    x = rows()
    parts = [
        Moments.from_json(json.loads(json.dumps(Moments.of(part).to_json()))) for part in np.split(x, [7, 2100, 4999])
    ]
    found = Statistics.of(Moments.merged(parts))
    exact = x.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1)
    assert found.mean_norm == pytest.approx(norms.mean()) and found.max_norm == pytest.approx(norms.max())
    rms = np.sqrt(np.square(exact).mean(0))
    ratios = rms / np.median(rms)
    assert list(found.outlier_dimensions) == [3, 7] and (ratios[[3, 7]] > OUTLIER).all()
    assert found.outlier_dimensions[3] == pytest.approx(ratios[3], rel=1e-4)
    attributes = json.loads(json.dumps(found.to_attributes(), allow_nan=False))
    again = Statistics.from_attributes(attributes)
    assert again.outlier_dimensions == found.outlier_dimensions and again.mean_norm == found.mean_norm


def test_a_store_written_without_norms_is_read():
    whole = Moments.of(rows())
    old = {name: value for name, value in whole.to_json().items() if not name.startswith("norm")}
    found = Statistics.of(Moments.merged([Moments.from_json(old), whole]))
    assert np.isnan(found.mean_norm) and "mean_norm" not in found.to_attributes()
    assert found.rows == 10_000 and Statistics.from_attributes(found.to_attributes()).rows == 10_000
