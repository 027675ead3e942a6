"""Crosscoders of two models: their stores hold the same tokens, row by row."""

from pathlib import Path

import numpy as np
import pytest

from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.store import Batches, JoinedStore
from jaxsae.training import load, train
from jaxsae.training.setup import Setup

ROWS, WIDTH = 2048, 64


@pytest.fixture(scope="module")
def pair_rows():
    """Of two models: features that both have, and some of either one."""
    rng = np.random.default_rng(0)
    active = rng.random((ROWS, 32)) * (rng.random((ROWS, 32)) < 0.1)
    first, second = rng.normal(size=(32, 12)), rng.normal(size=(32, 8))
    first[:8], second[8:16] = 0, 0
    own = active @ first + 0.02 * rng.normal(size=(ROWS, 12)), 9 * (active @ second + 0.02 * rng.normal(size=(ROWS, 8)))
    return [x.astype(np.float32) for x in own]


@pytest.fixture(scope="module")
def stores(pair_rows, store_of):
    return [store_of({"resid.0": x}) for x in pair_rows]


@pytest.fixture
def pair(configure, stores):
    """pair(run, **flags) -> TrainConfig."""

    def make(run: str = "run", **flags):
        method = MethodConfig(width=WIDTH, k=4, aux_k=8)
        sites = {"store": stores[0], "beside": stores[1], "reads": ("resid.0", "beside:resid.0")}
        return configure(run, **{"method": method, "mesh": (1, 1), "ema_decay": 0.0} | sites | flags)

    return make


def test_a_batch_has_the_same_rows_of_both(stores, pair_rows):
    store = JoinedStore(*stores)
    assert store.sites == ("resid.0", "beside:resid.0") and store.d_model("beside:resid.0") == 8
    batches = Batches(store, store.sites, 64, 3)
    for step in (0, 5, 40):
        expected = np.concatenate(pair_rows, 1)[batches.rows_of(step)]
        np.testing.assert_array_equal(batches[step], expected)
    np.testing.assert_allclose(store.statistics("beside:resid.0").mean, pair_rows[1].mean(0), rtol=1e-4, atol=1e-5)


def test_latents_of_one_model_alone_are_told_from_shared_ones(pair, pair_rows):
    config = pair(steps=400, learning_rate=1e-2, checkpoint_every=400)
    train(config)
    found = evaluate(EvaluateConfig(run=config.workdir), quiet=True)["reconstruction"]
    x = np.concatenate(pair_rows, 1)[-ROWS // 32 :]
    y = np.split(np.float64(load(config.workdir).reconstruct(x)), [12], 1)
    for site, a, b in zip(("resid.0", "beside:resid.0"), np.split(np.float64(x), [12], 1), y, strict=True):
        fvu = np.square(a - b).sum() / np.square(a - a.mean(0)).sum()
        assert found["sites"][site]["fvu"] == pytest.approx(fvu, rel=1e-4) and fvu < 0.5
    assert found["shared"] > 0 and sum(found["exclusive"].values()) > 0
    about = load(config.workdir).metadata
    assert about["beside"] == config.beside and about["reads"] == ["resid.0", "beside:resid.0"]
    with pytest.raises(InputError, match="--suite=splice: .* is of two models, and one alone would run"):
        evaluate(EvaluateConfig(run=config.workdir, suite=("splice",), text=("a.txt",)), quiet=True)


def test_a_run_goes_on_with_the_stores_that_it_was_begun_with(pair, newest_state, assert_same):
    import shutil

    whole, cut = pair("whole"), pair("cut")
    train(whole)
    shutil.copytree(whole.workdir, cut.workdir)
    shutil.rmtree(Path(cut.workdir, "checkpoints", "12"))
    train(cut)
    assert_same(newest_state(cut)[1], newest_state(whole)[1])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"reads": ("resid.0", "resid.1")}, "--beside=.*: goes with --reads=SITE,beside:SITE"),
        ({"beside": ""}, "--beside=: goes with --reads=SITE,beside:SITE"),
        ({"reads": ("resid.0", "beside:resid.9")}, "--reads=beside:resid.9: .* has resid.0, beside:resid.0"),
        ({"follow": True}, "--follow=true: two stores are read"),
    ],
)
def test_sites_that_do_not_do_are_refused(flags, message, pair):
    with pytest.raises(InputError, match=message):
        Setup.of(pair(**flags))


def test_rows_that_are_not_the_same_tokens_are_refused(pair, store_of, pair_rows):
    with pytest.raises(InputError, match="not the tokens of .* one by one: 1,024 and 2,048. Harvest both"):
        Setup.of(pair(beside=store_of({"resid.0": pair_rows[1][:1024]})))
    moved = np.arange(ROWS)
    moved[2000:2010] += 1
    with pytest.raises(InputError, match="tokens of row 2000 is 2001 and 2000. Harvest both"):
        Setup.of(pair(beside=store_of({"resid.0": pair_rows[1]}, tokens=moved)))
