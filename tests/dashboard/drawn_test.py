"""Windows are whole, and what fires in them is what a count row by row finds."""

import numpy as np
import pytest
import scipy.sparse as sp

from jaxsae.dashboard import drawn
from jaxsae.dashboard.drawn import choose

WIDTH, LENGTH = 12, 4


def rows_of_sequences(lengths, first_position=1):
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    return sequence, np.concatenate([np.arange(first_position, first_position + n) for n in lengths])


def test_windows_are_successive_positions_of_one_sequence():
    sequence, position = rows_of_sequences([9, 2, 17, 8])
    position[20:] += 3  # a gap within the third
    found = choose(sequence, position, LENGTH, 100, seed=0)
    assert len(found) and (np.diff(found) >= LENGTH).all()
    for row in found:
        assert len(set(sequence[row : row + LENGTH])) == 1
        assert position[row : row + LENGTH].tolist() == list(range(position[row], position[row] + LENGTH))
    # 0-3 and 4-7 of the first, 12-15 and 16-19 of the third before its gap, 20-23 and 24-27 after it, 28-35 of the fourth
    assert found.tolist() == [0, 4, 12, 16, 20, 24, 28, 32]


def test_positions_that_jump_there_and_back_make_no_window():
    assert choose(np.zeros(4, int), np.array([0, 2, 1, 3]), LENGTH, 10, seed=0).tolist() == []
    assert choose(np.zeros(3, int), np.arange(3), LENGTH, 10, seed=0).tolist() == []


def test_a_draw_is_of_its_seed():
    sequence, position = rows_of_sequences([400])
    draws = [choose(sequence, position, LENGTH, 10, seed).tolist() for seed in (0, 0, 1)]
    assert len(draws[0]) == 10 and draws[0] == draws[1] != draws[2] and draws[0] == sorted(draws[0])


@pytest.mark.parametrize("entries", [3, 1000])
def test_what_fires_is_what_a_count_row_by_row_finds(entries, monkeypatch):
    monkeypatch.setattr(drawn.stretches, "__defaults__", (entries,))
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((50, WIDTH)) * (rng.random((50, WIDTH)) < 0.15)
    first_rows = np.array([3, 7, 30])
    start, fires = drawn.fires(sp.csc_matrix(dense), first_rows, LENGTH)
    for s, row in enumerate(first_rows):
        expected = np.flatnonzero(dense[row : row + LENGTH].any(0))
        assert fires[start[s] : start[s + 1]].tolist() == expected.tolist() and len(expected)
    assert start.dtype == np.int64 and fires.dtype == np.int32
