"""Which activations are shown, against a search latent by latent."""

import numpy as np
import pytest
import scipy.sparse as sp
from sparse_latents import sparse

from jaxsae.dashboard.choose import choose

ROWS, GROUPS = 200, np.sort(np.random.default_rng(4).integers(0, 40, 200))


def chosen(z, numbers=None, alike=None, top=5, bands=4, per_band=2, seed=3):
    matrix = sp.csc_matrix(z)
    numbers = np.arange(z.shape[1]) if numbers is None else numbers
    found = choose(matrix, numbers, np.abs(z).max(0), GROUPS, alike, top, bands, per_band, seed)
    latent = np.repeat(np.arange(z.shape[1]), np.diff(matrix.indptr))
    assert found.latent.tolist() == latent[found.entry].tolist()
    return [
        [(int(b), int(matrix.indices[e])) for e, b in zip(found.entry[own], found.band[own], strict=True)]
        for own in (found.latent == i for i in range(z.shape[1]))
    ]


def strongest(column, top, alike=None):
    """Row by row: the best of each group, of rows that look alike the best, the first of equal ones."""
    out, groups, looks = [], set(), set()
    best = {}
    for row in np.flatnonzero(column):
        group = GROUPS[row]
        if group not in best or abs(column[row]) > abs(column[best[group]]):
            best[group] = row
    for row in sorted(best.values(), key=lambda row: (-abs(column[row]), row)):
        look = row if alike is None else alike[row]
        if look not in looks:
            out.append(int(row))
            looks.add(look)
            groups.add(GROUPS[row])
    return out[:top]


@pytest.mark.parametrize("signed", [False, True])
def test_the_strongest_one_of_a_group(signed):
    z = sparse(signed=signed)
    for column, found in zip(z.T, chosen(z), strict=True):
        assert [row for band, row in found if band == 0] == strongest(column, 5)


def test_of_rows_that_look_alike_one_is_shown():
    z, alike = sparse(density=0.5), np.random.default_rng(5).integers(0, 12, ROWS).astype(np.int32)
    for column, found in zip(z.T, chosen(z, alike=alike, top=8), strict=True):
        tops = [row for band, row in found if band == 0]
        assert tops == strongest(column, 8, alike)
        assert not {alike[row] for band, row in found if band} & {alike[row] for row in tops}


def test_bands_are_equal_parts_and_draw_from_groups_not_shown():
    z = sparse(density=0.6)
    seen = 0
    for column, found in zip(z.T, chosen(z), strict=True):
        tops = {GROUPS[row] for band, row in found if band == 0}
        bands = [band for band, _ in found]
        assert bands == sorted(bands) and set(bands) <= set(range(5))
        for band in range(1, 5):
            rows = [row for b, row in found if b == band]
            values = [column[row] for row in rows]
            assert len(rows) <= 2 and values == sorted(values, reverse=True)
            assert all((band - 1) / 4 < np.float64(v) / column.max() <= band / 4 for v in values)
            seen += len(rows)
        drawn = [GROUPS[row] for band, row in found if band]
        assert len(drawn) == len(set(drawn)) and not tops & set(drawn)
    assert seen > 30


def test_each_group_left_is_drawn_from_where_there_is_room():
    z = sparse(density=0.3)
    for column, found in zip(z.T, chosen(z, top=3, per_band=1000), strict=True):
        assert {GROUPS[row] for _, row in found} == {GROUPS[row] for row in np.flatnonzero(column)}


def test_draws_are_of_the_seed_and_of_the_latent_alone():
    z = sparse(density=0.6)
    whole = chosen(z)
    assert whole == chosen(z)
    assert whole != chosen(z, seed=4)
    assert chosen(z[:, 3:6], numbers=np.arange(3, 6)) == whole[3:6]
    assert chosen(z[:, [5]], numbers=np.array([11]))[0] != whole[5]


def test_a_draw_favours_no_row():
    """One of a latent's rows in one group, over seeds."""
    z = np.zeros((ROWS, 1), np.float32)
    rows = np.flatnonzero(np.bincount(GROUPS).argmax() == GROUPS)
    z[rows], z[0 if rows[0] else -1] = 1.0, 2.0
    counts = dict.fromkeys(rows.tolist(), 0)
    for seed in range(400):
        counts[chosen(z, top=1, bands=1, per_band=1, seed=seed)[0][-1][1]] += 1
    assert min(counts.values()) > 400 / len(rows) / 2


def test_nothing_fires_nothing_is_shown():
    assert chosen(np.zeros((ROWS, 3), np.float32) + 0) == [[], [], []]
