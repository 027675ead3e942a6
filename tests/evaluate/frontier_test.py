"""The best of a family: which models are kept, lines between them, and silence outside."""

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.evaluate.frontier import SLACK, Frontier
from jaxsae.evaluate.scaling_curve import Curve

LAW = Curve("law", 2.0, 60.0, 3e5, 0.42, 0.95, "made up")
POINTS = [(1e12, 2.5), (1e11, 3.0), (2e12, 2.6), (3e12, 2.5), (1e13, 2.25), (1e11, 3.4)]


@pytest.fixture
def frontier():
    return Frontier.of("best", POINTS, 2.0, "made up")


def test_models_that_another_beats_are_left_out(frontier):
    assert frontier.compute_measured == (1e11, 1e12, 1e13) and frontier.losses == (3.0, 2.5, 2.25)


def test_between_neighbours_it_is_a_line_in_logarithms(frontier):
    for compute, loss in POINTS[:2]:
        assert frontier.compute(loss) == pytest.approx(compute)
    assert frontier.compute(2.0 + np.sqrt(0.5 * 0.25)) == pytest.approx(np.sqrt(1e12 * 1e13))
    assert frontier.fraction(2.25, 0.25) == pytest.approx(0.1) and frontier.fraction(2.25, 0.75) == pytest.approx(0.01)
    assert frontier.fraction(2.3, 0.0) == 1 and frontier.parameters_fraction(2.3, 0.1) is None


def test_of_the_best_models_of_a_law_it_is_that_law():
    computes = np.geomspace(1e11, 1e15, 5)
    frontier = Frontier.of("best", [(c, LAW.optimal_loss(c)) for c in computes], 2.0, "")
    loss = LAW.optimal_loss(3e13)
    assert frontier.fraction(loss, 0.03) == pytest.approx(LAW.fraction(loss, 0.03), rel=1e-9)


def test_outside_of_what_was_measured_nothing_is_said(frontier):
    assert frontier.compute(2.0 + 0.25 / (1 + 0.9 * SLACK)) > 1e13  # what a loss differs by from games to games
    for loss in (2.0 + 0.25 / (1 + 1.1 * SLACK), 2.0 + 1.0 * (1 + 1.1 * SLACK), 2.0, 1.5):
        with pytest.raises(InputError, match=rf"--scaling_curve=best: a loss of {loss:.4f} .*2\.2500 to 3\.0000"):
            frontier.compute(loss)
    with pytest.raises(InputError, match=r"a loss of 3\.2500"):
        frontier.fraction(2.25, 1.0)
