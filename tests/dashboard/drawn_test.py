"""Windows are whole, and what fires in them is what a count row by row finds."""

import numpy as np

from jaxsae.dashboard.drawn import Drawn, choose

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


def test_what_fires_is_counted_over_batches_of_any_size():
    rng = np.random.default_rng(0)
    indices = np.stack([rng.permutation(WIDTH)[:3] for _ in range(50)])
    values = rng.random((50, 3)) * (rng.random((50, 3)) < 0.5) * rng.choice([-1, 1], (50, 3))
    first_rows = np.array([3, 7, 30])
    drawn = Drawn(first_rows, LENGTH, WIDTH)
    for start, stop in [(0, 5), (5, 9), (9, 50)]:
        drawn.add(start, values[start:stop], indices[start:stop])
    start, fires = drawn.fires()
    for s, row in enumerate(first_rows):
        inside = slice(row, row + LENGTH)
        expected = set(indices[inside][values[inside] != 0].tolist())
        assert fires[start[s] : start[s + 1]].tolist() == sorted(expected) and expected
    assert start.dtype == np.int64 and fires.dtype == np.int32


def test_no_windows():
    drawn = Drawn(np.zeros(0, np.int64), LENGTH, WIDTH)
    drawn.add(0, np.ones((2, 3)), np.ones((2, 3), int))
    start, fires = drawn.fires()
    assert start.tolist() == [0] and len(fires) == 0
