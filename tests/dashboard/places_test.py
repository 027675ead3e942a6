"""Windows stay within what is known of a sequence, and every token of them has the latent's activation."""

import numpy as np
import pytest
import scipy.sparse as sp
from sparse_latents import sparse

from jaxsae.dashboard.places import Places
from jaxsae.dashboard.shade import shaded


@pytest.fixture
def places():
    """Sequences of 30, 4 and 16 tokens, the second with a gap behind its second, the last without its first three rows."""
    sequence = np.repeat([5, 6, 9], [30, 4, 16]).astype(np.int32)
    position = np.concatenate([np.arange(30), [0, 1, 7, 8], np.arange(16)]).astype(np.int32)
    harvested = np.ones(50, bool)
    harvested[34:37] = False
    return Places.of(np.arange(50, dtype=np.int32) + 100, sequence, position, harvested)


def test_windows_by_hand(places):
    at = np.array([0, 10, 29, 30, 32, 49])
    rows = np.searchsorted(places.at, at)
    begin, end = places.windows(rows, 3, 2)
    # Six tokens each, moved inwards at both ends of a run, fewer where the run is shorter.
    assert list(zip(begin.tolist(), end.tolist(), strict=True)) == [
        (0, 6),
        (7, 13),
        (24, 30),
        (30, 32),
        (32, 34),
        (44, 50),
    ]


def test_groups_are_sequences_or_where_these_are_few_stretches(places):
    many = Places.of(places.tokens, np.arange(50, dtype=np.int32) // 2, places.position % 2, np.ones(50, bool))
    assert many.groups(3, 10).tolist() == (np.arange(50) // 2).tolist()
    few = places.groups(3, 10)
    told = [(int(places.sequence[i]), int(places.position[i]) // 10) for i in places.at]
    assert np.diff(few).min() >= 0
    assert len(set(few.tolist())) == len(set(told)) == len({(g, t) for g, t in zip(few.tolist(), told, strict=True)})


@pytest.mark.parametrize("signed", [False, True])
def test_shading_is_what_the_matrix_has(places, signed):
    z = sparse(rows=places.rows, density=0.6, signed=signed)
    rng = np.random.default_rng(0)
    column, rows = rng.integers(0, z.shape[1], 40), rng.integers(0, places.rows, 40)
    begin, end = places.windows(rows, 4, 3)
    tokens, values = shaded(sp.csc_matrix(z), places, column, begin, end, 8)
    of_token = np.full((50, z.shape[1]), np.nan, np.float32)
    of_token[places.at] = z
    for i in range(40):
        length = end[i] - begin[i]
        assert tokens[i].tolist() == (places.tokens[begin[i] : end[i]].tolist() + [-1] * (8 - length))
        np.testing.assert_array_equal(values[i, :length], of_token[begin[i] : end[i], column[i]])
        assert np.isnan(values[i, length:]).all()
    assert np.isnan(values).any() and (np.abs(values) > 0).any()


def test_no_context_at_all(places):
    none = np.zeros(0, np.int64)
    tokens, values = shaded(sp.csc_matrix(sparse(rows=places.rows)), places, none, none, none, 8)
    assert tokens.shape == values.shape == (0, 8)
