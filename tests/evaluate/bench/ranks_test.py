"""Ranks of a hand-made table."""

import numpy as np
import pytest

from jaxsae.evaluate.bench import board
from jaxsae.evaluate.bench.ranks import beats_alone, front, places, ranges


def test_ranks_are_ranges_where_intervals_overlap():
    values, intervals = [0.1, 0.2, 0.25, 0.9, None], [[0.05, 0.15], [0.16, 0.24], [0.2, 0.3], [0.8, 1.0], None]
    beats = beats_alone(values, intervals, "less")
    assert ranges(values, beats) == [(1, 1), (2, 3), (2, 3), (4, 4), None]
    assert ranges(values, beats_alone(values, intervals, "more")) == [(4, 4), (2, 3), (2, 3), (1, 1), None]
    assert places(values, "less") == [1, 2, 3, 4, None] and places(values, "more") == [4, 3, 2, 1, None]


def test_without_intervals_values_rank_and_equal_ones_tie():
    values = [3.0, 1.0, 3.0]
    assert ranges(values, beats_alone(values, [None] * 3, "more")) == [(1, 2), (3, 3), (1, 2)]
    assert places(values, "more") == [1.5, 3, 1.5]


def test_the_front_is_what_nothing_beats_in_both():
    assert front([1, 2, 3, 2, None], [5, 3, 1, 4, 1]) == [True, True, True, False, False]
    assert front([1, 1], [2, 2]) == [True, True]
    assert front([100, 100.5, 102], [2, 1, 0.5]) == [True, True, True]
    assert front([100, 100.5, 102], [2, 1, 0.5], slack=0.01) == [False, True, True]


def test_columns_of_suites_by_name_with_baselines_and_unpaired_differences():
    figure = lambda value, half=None, **more: (
        {
            "name": "AUROC",
            "value": value,
            "interval": None if half is None else [value - half, value + half],
            "better": "more",
        }
        | more
    )
    suites = {
        "probing": {
            "a": {"figures": [figure(0.6, 0.03, baselines={"dense": 0.9}), {"name": "alone", "value": 1.0}]},
            "b": {"figures": [figure(0.8, 0.04)]},
            "c": {"figures": [figure(None)]},
        }
    }
    (column,) = board.suite_columns(suites, ["a", "b", "c"])
    assert column["ranks"] == [(2, 2), (1, 1), None] and column["baselines"] == {"dense": 0.9}
    assert column["less"][1] == pytest.approx(0.2)
    np.testing.assert_allclose(column["less_interval"][1], [0.15, 0.25])
    assert board.mean_ranks([column], 3) == [None] * 3  # not all have it
    whole = [{"ranked": True, "places": p, "ranks": [(1, 2), (1, 3), (3, 3)]} for p in ([1, 2, 3], [2, 1, 3])]
    assert board.mean_ranks(whole, 3) == [1.5, 1.5, 3] and board.mean_range(whole, 1) == [1, 3]
    assert board.unequal(["a", "b", "c"], [10.0, 10.4, 11.0]) == {"c": pytest.approx(0.1)}
