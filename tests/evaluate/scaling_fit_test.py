"""Fits with a known floor: constants that are known, what is left out, models drawn anew."""

import json

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.evaluate import scaling_fit
from jaxsae.evaluate.curves import read_curve
from jaxsae.evaluate.scaling_curve import CONSTANTS, Curve

TRUE = Curve("true", 2.0, 60.0, 3e5, 0.42, 0.95, "made up")
N, D = (a.ravel() for a in np.meshgrid([3e4, 1e5, 2e5, 5e5], [9e5, 2.8e6, 8.5e6]))


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(scaling_fit, "REPLICATES", 40)


def points(noise: float = 0.0) -> list[list[float]]:
    spread = np.exp(noise * np.random.default_rng(1).standard_normal(len(N)))
    return [list(map(float, row)) for row in zip(N, D, TRUE.loss(N, D) * spread, strict=True)]


def test_with_the_floor_known_the_other_constants_are_found():
    found = scaling_fit.fit_curve("x", points(), "here", floor=2.0)
    for name in CONSTANTS:
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=1e-4), name
    assert found.exact and found.points == 12 and found.rms_log_residual < 1e-6 and found.rms_left_out < 1e-5
    assert found.measured == pytest.approx((TRUE.loss(5e5, 8.5e6), TRUE.loss(3e4, 9e5)))
    for ends in found.intervals.values():
        assert ends[1] - ends[0] < 1e-3 * ends[1]


def test_the_floor_is_that_of_the_data_and_not_of_the_fit():
    """The same losses with E free: what is fitted to few points with noise misses the floor, which fixed is exact."""
    noisy = points(0.004)
    fixed, free = scaling_fit.fit_curve("x", noisy, "here", floor=2.0), scaling_fit.fit_curve("x", noisy, "here")
    assert abs(fixed.E - 2.0) < 1e-9 and abs(free.E - 2.0) > 1e-3
    assert free.intervals is None and not free.exact and free.replicated() == []


def test_residuals_and_replicates_tell_how_far_the_constants_hold():
    fit = lambda noise, seed=0: scaling_fit.fit_curve("x", points(noise), "here", floor=2.0, seed=seed)
    small, large = fit(0.002), fit(0.02)
    for found in (small, large):
        assert found.rms_log_residual < found.rms_left_out
        assert len(found.replicated()) == 40 and {c.E for c in found.replicated()} == {found.E}
    width = lambda found: found.intervals["a"][1] - found.intervals["a"][0]
    assert width(large) > 3 * width(small) > 0
    low, high = small.intervals["a"]
    assert low < TRUE.a < high
    assert fit(0.002).replicates == small.replicates != fit(0.002, seed=1).replicates
    drawn = np.array(small.replicates)[:, 3]
    assert np.quantile(drawn, [0.025, 0.975]).tolist() == [low, high]


def test_each_left_out_is_judged_by_a_fit_to_the_others():
    noisy = np.array(points(0.01))
    rows = scaling_fit.left_out(noisy, 2.0)
    others = scaling_fit.fit_curve("x", np.delete(noisy, 4, 0).tolist(), "here", floor=2.0)
    assert rows[4] == pytest.approx(np.log(others.loss(*noisy[4, :2]) / noisy[4, 2]), abs=1e-6)
    assert np.sqrt(np.mean(rows**2)) == pytest.approx(
        scaling_fit.fit_curve("x", noisy.tolist(), "here", floor=2.0).rms_left_out
    )


@pytest.mark.parametrize("floor", [3.5, 2.33, -1.0, "low"])
def test_a_floor_that_is_none_is_refused(floor):
    with pytest.raises(InputError, match=f"here: the floor, '?{floor}'?, must be a positive number below every loss"):
        scaling_fit.fit_curve("x", points(), "here", floor=floor)


def test_a_table_of_a_family_is_a_curve(tmp_path):
    members = [dict(parameters=n, tokens=d, loss=loss) for n, d, loss in points(0.003)]
    for name, held in (
        ("table", {"floor": 2.0, "members": members}),
        ("list", {"floor": 2.0, "points": points(0.003)}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(held))
    table, listed = (read_curve(str(tmp_path / f"{name}.json")) for name in ("table", "list"))
    assert table.exact and not table.games and table.replicates == listed.replicates
