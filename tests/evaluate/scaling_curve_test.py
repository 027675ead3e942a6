"""Curves of loss over compute against published losses, brute force and curves whose constants are known."""

import json

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.evaluate.curves import read_curve
from jaxsae.evaluate.scaling_curve import PUBLISHED, Curve
from jaxsae.evaluate.scaling_fit import fit_curve

HOFFMANN, EPOCH = PUBLISHED["hoffmann"], PUBLISHED["epoch"]
OWN = Curve("own", 0.4, 30.0, 900.0, 0.3, 0.4, "made up")


@pytest.mark.parametrize(
    "curve, losses, delta",
    [(HOFFMANN, (3.5353, 2.5998, 2.1386, 1.9112), 0.1903), (EPOCH, (3.4905, 2.5534, 2.1411, 1.9597), 0.1644)],
    ids=["hoffmann", "epoch"],
)
def test_published_losses_and_the_delta_that_costs_nine_tenths(curve, losses, delta):
    for flops, loss in zip((1e18, 1e20, 1e22, 1e24), losses, strict=True):
        assert curve.optimal_loss(flops) == pytest.approx(loss, abs=5e-5)
    assert curve.fraction(curve.optimal_loss(1e22), delta) == pytest.approx(0.1, abs=1e-4)
    assert 1 / HOFFMANN.exponent == pytest.approx(6.51, abs=0.005) and 1 / EPOCH.exponent == pytest.approx(
        5.61, abs=0.005
    )


@pytest.mark.parametrize("curve", [HOFFMANN, EPOCH, OWN], ids=lambda c: c.name)
def test_the_optimum_is_that_of_a_search_and_compute_is_its_inverse(curve):
    for flops in (1e19, 1e23):
        n = np.geomspace(1e5, 1e14, 200_001)
        losses = curve.loss(n, flops / 6 / n)
        parameters, tokens = curve.optimal(flops)
        assert parameters == pytest.approx(n[losses.argmin()], rel=1e-3)
        assert 6 * parameters * tokens == pytest.approx(flops)
        assert curve.optimal_loss(flops) == pytest.approx(losses.min(), rel=1e-9)
        assert curve.compute(curve.optimal_loss(flops)) == pytest.approx(flops)
        # what the formula says is the ratio of two computes on the optimal path
        loss, delta = curve.optimal_loss(flops), 0.07
        assert curve.fraction(loss, delta) == pytest.approx(curve.compute(loss + delta) / flops)
    assert curve.fraction(3.0, 0.0) == 1 and curve.fraction(3.0, -0.1) > 1 > curve.fraction(3.0, 0.1)


@pytest.mark.parametrize("known", [True, False])
def test_the_parameter_equivalent_has_the_spliced_loss_at_the_same_tokens(known):
    parameters, tokens = EPOCH.optimal(1e22)
    loss, delta = float(EPOCH.loss(parameters, tokens)), 0.05
    share = EPOCH.parameters_fraction(loss, delta, tokens if known else None)
    assert EPOCH.loss(share * parameters, tokens) == pytest.approx(loss + delta)
    # trained for longer than is best: only with the tokens is the answer right
    share = EPOCH.parameters_fraction(float(EPOCH.loss(parameters, 20 * tokens)), delta, 20 * tokens)
    assert EPOCH.loss(share * parameters, 20 * tokens) == pytest.approx(EPOCH.loss(parameters, 20 * tokens) + delta)


def test_a_loss_that_no_compute_reaches_is_refused():
    for loss in (1.8172, 1.5):
        for ask in (lambda x: EPOCH.fraction(x, 0.1), EPOCH.compute, lambda x: EPOCH.parameters_fraction(x, 0.1)):
            with pytest.raises(InputError, match=r"--scaling_curve=epoch: .*not above .*E = 1\.8172.*own family"):
                ask(loss)
    with pytest.raises(InputError, match="E = 1.8172"):
        EPOCH.fraction(2.0, -0.2)
    with pytest.raises(InputError, match=r"--model_tokens=1e\+06"):
        EPOCH.parameters_fraction(2.2, 0.1, 1e6)


def test_a_curve_is_fitted_to_points_of_the_models_family(tmp_path):
    n, d = (a.ravel() for a in np.meshgrid([1e6, 1e7, 1e8, 1e9], [1e8, 1e9, 1e10]))
    exact = [list(map(float, row)) for row in zip(n, d, OWN.loss(n, d), strict=True)]
    found = fit_curve("x", exact, "here")
    for constant in ("E", "A", "B", "a", "b"):
        assert getattr(found, constant) == pytest.approx(getattr(OWN, constant), rel=1e-4), constant
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(len(n)))
    noise[5] = 1.2  # one run that went wrong
    path = tmp_path / "family.json"
    path.write_text(json.dumps({"points": [[a, b, c * e] for (a, b, c), e in zip(exact, noise, strict=True)]}))
    found = read_curve(str(path))
    assert found.name == "family" and found.points == 12 and not found.text
    loss = OWN.optimal_loss(1e18)
    assert found.fraction(loss, 0.05) == pytest.approx(OWN.fraction(loss, 0.05), rel=0.1)


def test_a_file_with_constants_is_that_curve(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps(dict(E=0.0, A=30, B=900, a=0.3, b=0.4)))
    assert read_curve(str(path)).loss(1e6, 1e7) == pytest.approx(OWN.loss(1e6, 1e7) - 0.4)


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "no such curve and no such file. Give hoffmann, epoch"),
        ("{", "cannot be read as JSON"),
        ("[1, 2]", "lacks E, A, B, a, b"),
        ('{"E": 1, "A": 2, "a": 0.3}', "lacks B, b"),
        ('{"E": 1, "A": 2, "B": -3, "a": 0.3, "b": 0.3}', "B = -3 must be a positive number"),
        ('{"E": 1, "A": "2", "B": 3, "a": 0.3, "b": 0.3}', "A = '2' must be"),
        ('{"points": [[1, 2, 3]]}', "at least 6 lists"),
        ('{"members": [{"parameters": 1}]}', "parameters, tokens and loss"),
        (
            '{"floor": 2, "points": [[1, 2, 3], [1, 3, 3], [2, 4, 3], [2, 2, 3], [3, 3, 2], [3, 4, 3]]}',
            "floor, 2, must be",
        ),
        ('{"points": [[1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 3], [1, 2, 0]]}', "positive numbers"),
        ('{"points": [[1, 2, 3], [1, 3, 3], [1, 4, 3], [2, 2, 3], [2, 3, 3], [2, 4, 3]]}', "at least 3 different N"),
    ],
)
def test_files_that_hold_no_curve_are_refused(tmp_path, text, message):
    path = tmp_path / "curve.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=f"--scaling_curve=.*{message}"):
        read_curve(str(path))
