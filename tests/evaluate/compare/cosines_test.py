"""Nearest rows, sums and matchings against loops over all pairs."""

import itertools

import numpy as np
import pytest

from jaxsae.evaluate.compare import kinds
from jaxsae.evaluate.compare.cosines import mcc, nearest, summed, unit
from jaxsae.evaluate.compare.kinds import NEW, NONE, ONE, PART, SPLIT, SUM


def directions(seed: int, rows: int, d: int = 12) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((rows, d)).astype(np.float32))


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("block", [4, 8, 64])
def test_the_nearest_and_the_second_are_those_of_all_pairs(absolute, block):
    a, b = directions(0, 21), directions(1, 13)
    a[3] = b[5] = 0  # of no direction
    cosines = np.float64(a) @ np.float64(b).T
    cosines = np.abs(cosines) if absolute else cosines
    cosines[3], cosines[:, 5] = -np.inf, -np.inf
    for found, c in zip(nearest(a, b, absolute, block), (cosines, cosines.T), strict=True):
        there = np.isfinite(c).any(1)
        np.testing.assert_array_equal(found.index, np.where(there, c.argmax(1), -1))
        np.testing.assert_allclose(found.cosine, np.where(there, c.max(1), 0), atol=1e-6)
        np.testing.assert_allclose(found.second[there], np.sort(c[there], 1)[:, -2], atol=1e-6)
        assert not found.cosine[~there].any() and (~there).sum() == 1


def test_of_equal_ones_the_first_is_taken_whatever_the_blocks():
    a = directions(0, 5)
    twice = np.concatenate([a, a])
    for block in (2, 4, 16):
        found = nearest(a, twice, block=block)[0]
        np.testing.assert_array_equal(found.index, range(5))
        np.testing.assert_allclose(found.second, 1, atol=1e-6)


def test_the_matching_is_the_best_of_all():
    a, b = directions(2, 5), directions(3, 6)
    best = max(sum(a[i] @ b[j] for i, j in enumerate(p)) for p in itertools.permutations(range(6), 5)) / 5
    assert mcc(a, b) == pytest.approx(best, abs=1e-6) and mcc(a, a[::-1]) == pytest.approx(1, abs=1e-6)
    assert mcc(a, b[:0]) is None


def test_sums_are_found_with_the_weights_that_fit_best():
    b = directions(4, 9, 30)
    a = unit(np.stack([b[0] + b[4], b[2] + 2 * b[3] + b[7], b[1] - b[6], directions(5, 1, 30)[0]]))
    cosines, chosen = summed(a, b, 3)
    np.testing.assert_allclose(cosines[0, 1:], 1, atol=1e-5)
    assert set(chosen[0, :2]) == {0, 4} and cosines[0, 0] < 0.9
    assert set(chosen[1]) == {2, 3, 7} and cosines[1, 2] == pytest.approx(1, abs=1e-5)
    assert cosines[2, 2] < 0.99 and summed(a, b, 2, absolute=True)[0][2, 1] == pytest.approx(1, abs=1e-5)
    x, weights = b[chosen[3][chosen[3] >= 0]], None
    weights = np.linalg.lstsq(x.T.astype(np.float64), a[3].astype(np.float64), rcond=None)[0]
    assert cosines[3].max() == pytest.approx(np.linalg.norm(x.T @ weights), abs=1e-5) and (weights > 0).all()


def test_kinds_of_a_hand_made_pair():
    e = np.eye(8, dtype=np.float32)
    near = lambda x, y: unit((x + 0.2 * y)[None])[0]
    own = np.stack(
        [e[0], e[1], near(e[2], e[3]), near(e[2], -e[3]), unit((e[4] + e[5] + e[6])[None])[0], e[7], 0 * e[0]]
    )
    other = np.stack([near(e[0], e[3]), near(e[1], e[3]), near(e[1], -e[3]), e[2], e[4], e[5], e[6]])
    here, there = nearest(own, other)
    far = here.there & (here.cosine < 0.7)
    together = np.zeros(len(own))
    together[far] = summed(own[far], other, 3)[0][:, -1]
    found = kinds.kinds(here, there, together, 0.7)
    assert found.tolist() == [ONE, SPLIT, PART, PART, SUM, NEW, NONE]
    figures = kinds.figures(here, found, kinds.mutual(here, there), np.ones(7, bool))
    assert figures["latents"] == 6 and figures["shared"] == 4 / 6 and figures["kinds"]["part"] == 2
    assert figures["shared_interval"][0] < 4 / 6 < figures["shared_interval"][1]
