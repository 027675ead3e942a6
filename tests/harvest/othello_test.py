"""Rows come from the games and the model that the store says, and any shard can be made alone."""

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.harvest import HarvestConfig
from jaxsae.harvest.othello import OthelloSource, games_of, model_of
from jaxsae.lm import weights
from jaxsae.lm.gpt import GPTConfig, init

SMALL = GPTConfig(layers=2, d_model=16, heads=2)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "small.safetensors"
    weights.save(init(SMALL, 3), path)
    return str(path)


@pytest.fixture
def config(model, tmp_path):
    return HarvestConfig(
        store=str(tmp_path / "s"), tokens=500, model=model, sites=("embed", "resid_post.0"), batch_size=4,
        shard_rows=192, chunk_rows=32,
    )  # fmt: skip


def test_rows_are_the_models_activations(config):
    source = OthelloSource(config)
    gpt = weights.load(config.model)
    for shard in (2, 0):
        activations, columns = source.shard(shard)
        rows = 500 - 2 * 192 if shard == 2 else 192
        moves, first_game = games_of(config, shard, rows)
        _, read = gpt(moves[:, :59].astype(np.int32), read=config.sites)
        game, ply = columns["sequence"] - first_game, columns["position"]
        assert len(ply) == rows and ply.min() == 4 and ply.max() == 50
        np.testing.assert_array_equal(columns["tokens"], moves[game, ply])
        for site in config.sites:
            assert activations[site].shape == (rows, 16) and activations[site].dtype == np.float32
            np.testing.assert_allclose(activations[site], np.asarray(read[site])[game, ply], atol=1e-5)


def test_shards_are_reproducible_and_differ(config):
    one, two = OthelloSource(config), OthelloSource(config)
    one.shard(0)
    for (a, c), (b, d) in [(one.shard(1), two.shard(1))]:
        for name in c:
            np.testing.assert_array_equal(c[name], d[name])
        for site in a:
            np.testing.assert_array_equal(a[site], b[site])
    assert not np.array_equal(two.shard(0)[1]["tokens"], two.shard(1)[1]["tokens"])
    last, first = two.shard(0)[1]["sequence"][-1], two.shard(1)[1]["sequence"][0]
    assert first == last + 1


def test_plan_tells_models_apart(config, tmp_path):
    plan = OthelloSource(config).plan
    assert plan.rows == 500 and plan.sites == {"embed": 16, "resid_post.0": 16} and plan.context == 59
    weights.save(init(SMALL, 4), config.model)
    assert OthelloSource(config).plan.settings != plan.settings


def test_model_of_a_store(config):
    metadata = OthelloSource(config).plan.attributes()
    assert model_of(metadata).config == SMALL
    weights.save(init(SMALL, 4), config.model)
    with pytest.raises(InputError, match="changed since"):
        model_of(metadata)
    with pytest.raises(InputError, match="no model to run"):
        model_of({"settings": {"source": "arrays"}})


def test_random_weights_need_no_file():
    one, two = weights.load("random:1"), weights.load("random:2")
    assert one.config == two.config
    assert not np.array_equal(one.embedding[...], two.embedding[...])


def test_refuses_unknown_site_and_model(config, tmp_path):
    with pytest.raises(InputError, match=r"resid_post\.9.*This model has"):
        OthelloSource(HarvestConfig(store="s", tokens=10, model=config.model, sites=("resid_post.9",)))
    with pytest.raises(InputError, match="--model="):
        OthelloSource(HarvestConfig(store="s", tokens=10, model=str(tmp_path / "absent.safetensors")))
