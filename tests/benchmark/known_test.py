"""Known features are made as they are said to be, and dictionaries are judged rightly beside them."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from jaxsae.benchmark.known.config import KnownConfig
from jaxsae.benchmark.known.features import HELD_OUT, Features, frequencies
from jaxsae.benchmark.known.judge import Candidate, absolute_cosines, judge, match
from jaxsae.benchmark.known.rows import SITE, write_store
from jaxsae.benchmark.known.rows import HeldOut as Rows
from jaxsae.store import open_store

D = 16
SMALL = KnownConfig(features=64, active=4.0, group_size=8, held_out=2000)


@pytest.fixture(scope="module")
def features():
    return Features.of(SMALL, D, seed=0)


@pytest.fixture(scope="module")
def fires(features):
    """bool [40 * BLOCK, 64]"""
    return np.concatenate([features.codes(block).toarray() > 0 for block in range(40)])


@pytest.fixture(scope="module")
def rows(features):
    return Rows.of(features, 2000)


def test_directions_are_of_length_1_and_a_seed_gives_the_same_bits(features):
    assert features.directions.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features.directions, axis=1), 1, rtol=1e-6)
    again = Features.of(SMALL, D, seed=0)
    for made, other in ((again, True), (Features.of(SMALL, D, seed=1), False)):
        assert (made.directions == features.directions).all() == other
        assert ((made.codes(3) != features.codes(3)).nnz == 0) == other
    assert (features.codes(0) != features.codes(0, HELD_OUT)).nnz and (features.codes(0) != features.codes(1)).nnz


@pytest.mark.parametrize(("n", "active", "zipf"), [(64, 4.0, 0.7), (4096, 8.0, 0.7), (20, 3.5, 2.0), (100, 1.0, 0.0)])
def test_frequencies_fall_by_zipfs_law_and_sum_to_what_is_active(n, active, zipf):
    f = frequencies(n, active, zipf)
    assert f.sum() == pytest.approx(active) and f[0] <= 0.2 and (np.diff(f) <= 0).all()
    free = np.flatnonzero(f < 0.2 - 1e-9)
    law = (free + 1.0) ** -zipf
    np.testing.assert_allclose(f[free] / f[free[0]], law / law[0])


def test_features_fire_as_often_as_is_said(features, fires):
    error = 4.5 * np.sqrt(features.frequency / len(fires))
    assert (np.abs(fires.mean(0) - features.frequency) < error).all()
    assert fires.sum(1).mean() == pytest.approx(SMALL.active, rel=0.02)


def test_children_fire_only_where_their_parents_do(features, fires):
    children, parents = features.children, features.parent[features.children]
    assert len(children) == 16 and (features.parent[parents] == -1).all() and (parents < children).all()
    assert fires[:, children].any(0).all() and not (fires[:, children] & ~fires[:, parents]).any()


def test_features_of_a_group_fire_together_2_8_times_as_often(features, fires):
    expected = np.outer(features.frequency, features.frequency) * len(fires)
    together = fires.T.astype(float) @ fires
    same = (features.group[:, None] == features.group) & (features.group >= 0)
    np.fill_diagonal(same, False)
    roots = features.group >= 0
    apart = roots[:, None] & roots & (features.group[:, None] != features.group)
    ratio = lambda pairs: together[pairs].sum() / expected[pairs].sum()
    assert ratio(same) == pytest.approx(0.1 * 25 + 0.9 * (0.5 / 0.9) ** 2, rel=0.05)
    assert ratio(apart) == pytest.approx(1, rel=0.03)
    assert np.bincount(features.group[roots]).max() == SMALL.group_size


def test_amplitudes_are_positive_and_about_1(features):
    amplitudes = features.codes(0).data
    assert (amplitudes > 0).all() and amplitudes.mean() == pytest.approx(1, abs=0.02)
    assert amplitudes.std() == pytest.approx(0.25, abs=0.02)


def test_the_store_holds_the_rows(features, tmp_path):
    store = open_store(write_store(tmp_path / "store", features, 1500))
    found = store.read(SITE, 0, 1500)
    expected = np.concatenate([features.codes(block).toarray() @ features.directions for block in (0, 1)])[:1500]
    assert store.complete and store.rows == 1500
    np.testing.assert_allclose(found, expected, atol=1e-5)


def in_turn(latents, x_hat):
    """What a `Candidate` makes of rows that come one after the other: latents and reconstructions that are there already."""
    done = 0

    def apply(x):
        nonlocal done
        part, done = slice(done, done + len(x)), done + len(x)
        return x_hat[part], *np.nonzero(latents[part])

    return apply


@pytest.mark.parametrize("changed", [False, True])
def test_a_perfect_dictionary_is_told_in_any_order_and_sign(features, rows, changed):
    rng = np.random.default_rng(0)
    order = rng.permutation(64) if changed else np.arange(64)
    signs = rng.choice([-1.0, 1.0], 64) if changed else np.ones(64)
    latents, decoder = rows.codes.toarray()[:, order], 2.5 * signs[:, None] * features.directions[order]
    found = judge(Candidate(decoder, in_turn(latents, rows.x)), features.directions, rows)
    firing = (latents > 0).sum(0)
    for name in ("mcc", "mean_max_cosine", "f1", "recovered_fraction", "gamma"):
        assert found[name] == pytest.approx(1, abs=1e-5), name
    assert found["fvu"] == 0 and found["f1_features"] == (firing >= 10).sum()
    assert found["l0"] == pytest.approx(rows.codes.nnz / 2000) and found["dead_fraction"] == (firing == 0).mean()


def test_counts_of_firing_agree_with_the_definition(features, rows):
    """Latents that fire at random, more of them than features, judged against a dense computation."""
    rng = np.random.default_rng(1)
    decoder = rng.normal(size=(100, D)).astype(np.float32)
    dense = rng.random((2000, 100)) < np.linspace(0, 0.1, 100)
    found = judge(Candidate(decoder, in_turn(dense, rows.x)), features.directions, rows)
    matched = match(absolute_cosines(features.directions, decoder))
    truth, own = rows.codes.toarray() > 0, dense[:, matched]
    f1 = 2 * (truth & own).sum(0) / (truth.sum(0) + own.sum(0))
    assert found["f1"] == pytest.approx(f1[truth.sum(0) >= 10].mean())
    assert found["dead_fraction"] == (dense.sum(0) == 0).mean() > 0 and found["l0"] == pytest.approx(
        dense.sum(1).mean()
    )
    assert found["mcc"] < 0.8 and found["f1"] < 0.2


def test_features_without_a_latent_count_as_not_found():
    directions = np.eye(4, dtype=np.float32)
    rows = Rows(np.eye(4, dtype=np.float32), csr_array(np.eye(4)))
    nothing = np.zeros(0, int)
    few = np.stack([directions[2], np.zeros(4, np.float32)])  # one latent of length 0
    found = judge(Candidate(few, lambda x: (x, nothing, nothing)), directions, rows)
    assert found["mcc"] == found["mean_max_cosine"] == found["recovered_fraction"] == 0.25
    assert found["f1"] is None and found["f1_features"] == 0 and found["dead_fraction"] == 1
