"""High activations alone: sparse cuts against dense ones, and splices against logits of rows that NumPy makes."""

import numpy as np
import pytest
import scipy.sparse as sp

from jaxsae.evaluate import EvaluateConfig
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.latents import cuts
from jaxsae.evaluate.latents.counts import Counts
from jaxsae.evaluate.latents_config import LatentsConfig
from jaxsae.evaluate.subject import open_subject

SITE = "resid_post.0"


@pytest.fixture
def dense_latents():
    rng = np.random.default_rng(1)
    return np.where(rng.random((60, 12)) < 0.4, rng.exponential(size=(60, 12)), 0).astype(np.float32)


def test_cuts_are_those_of_dense_latents(dense_latents):
    latents, largest = sp.csr_matrix(dense_latents), dense_latents.max(0)
    sequence = np.repeat(np.arange(6), 10)
    for told in cuts.coverage(latents, largest, sequence):
        on = (dense_latents > 0) & (dense_latents >= told["cut"] * largest)
        some = cuts.kept(latents, cuts.high(latents, largest, told["cut"])).toarray()
        np.testing.assert_array_equal(some, np.where(on, dense_latents, 0))
        assert told["activations"] == pytest.approx(on.sum() / (dense_latents > 0).sum())
        assert told["covered"] == pytest.approx(on.any(1).mean()) and told["l0"] == pytest.approx(on.sum() / 60)


def test_as_many_are_drawn_in_all_and_in_each_row(dense_latents):
    latents = sp.csr_matrix(dense_latents)
    on = cuts.high(latents, dense_latents.max(0), 0.5)
    per_row = np.diff(cuts.kept(latents, on).indptr)
    draws = [cuts.drawn(latents, on, np.random.default_rng(seed), True) for seed in range(200)]
    for draw in draws[:5]:
        np.testing.assert_array_equal(np.diff(cuts.kept(latents, draw).indptr), per_row)
    anywhere = cuts.drawn(latents, on, np.random.default_rng(0), False)
    assert anywhere.sum() == on.sum() and (np.diff(cuts.kept(latents, anywhere).indptr) != per_row).any()
    row = np.repeat(np.arange(60), np.diff(latents.indptr))
    expected = (per_row / np.maximum(np.diff(latents.indptr), 1))[row]  # all of a row are as likely
    np.testing.assert_allclose(np.mean(draws, 0), expected, atol=0.17)


def test_what_is_spliced_in_is_what_numpy_makes_of_the_cut_latents(make_dictionary, model, model_path, dense):
    dictionary = make_dictionary("batchtopk", model=model_path, site=SITE, source="othello")
    config = EvaluateConfig(run="run", games=6, games_per_batch=4, latents=LatentsConfig(latents_sequences=5))
    context = Context(config, dictionary)
    subject = open_subject(context, "latents")
    games, kept = subject.played[:5], slice(4, 51)
    moves = games.moves[:, :59].astype(np.int32)
    logits, seen = model(moves, read=(SITE,))
    x = np.asarray(seen[SITE])
    z = dense(dictionary, x[:, kept].reshape(-1, 16)).z
    largest = z.max(0)
    found = cuts.spliced(context, subject, largest.astype(np.float32) * (1 - 1e-6), x[:, kept].mean((0, 1)))
    legal = games.legal_tokens()[:, 4:] / games.legal_tokens()[:, 4:].sum(-1, keepdims=True)
    log = lambda logits: logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    p = log(np.asarray(logits, np.float64)[:, 4:])
    assert found["ce"] == pytest.approx(-(legal * p).sum(-1).mean(), rel=1e-5)
    W, b = (np.asarray(a, np.float64) for a in (dictionary.params.W_dec, dictionary.params.b_dec))
    for cut in (0, 5):
        on = z >= found_cut(cut) * largest * (1 - 1e-6)
        for name, some in (("high", np.where(on, z, 0)), ("low", np.where(on, 0, z))):
            mixed = x.copy()
            mixed[:, kept] = (some @ W + b).reshape(5, -1, 16)
            q = log(np.asarray(model(moves, replace={SITE: lambda _, mixed=mixed: mixed})[0], np.float64)[:, 4:])
            told = found["cuts"][cut][name]
            assert told["kl"] == pytest.approx((np.exp(p) * (p - q)).sum(-1).mean(), rel=1e-3)
            assert told["delta_ce"] == pytest.approx((legal * (p - q)).sum(-1).mean(), rel=1e-3, abs=1e-5)
            rows = x[:, kept].reshape(-1, 16)
            fvu = np.square(rows - some @ W - b).sum() / np.square(rows - rows.mean(0)).sum()
            assert told["fvu"] == pytest.approx(fvu, rel=1e-4)
    assert found["cuts"][0]["random"] is None and found["cuts"][9]["random"]["kl"] > 0
    assert found["predictions"] == 5 * 55 and found["sequences"] == 5
    assert found["baselines"]["mean"]["fvu"] == pytest.approx(1, rel=1e-4)


def found_cut(number):
    return cuts.CUTS[number]


def test_largest_values_count_by_size():
    latents = sp.csr_matrix(np.array([[-4.0, 0], [1, 2]], np.float32))
    counts = Counts.of(latents, np.zeros(2, int))
    np.testing.assert_array_equal(counts.largest, [4, 2])
    np.testing.assert_array_equal(cuts.high(latents, counts.largest, 0.5), [True, False, True])
