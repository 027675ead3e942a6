"""All laws of made-up members whose laws are known; too few, odd and held-out ones."""

import json

import numpy as np
import pytest
from published_law import CONSTANTS, FLOPS, KS, WIDTHS, losses, member, members

from jaxsae.sweep import laws
from jaxsae.sweep.fits import fit_all

RESAMPLES = 150


@pytest.fixture(scope="module")
def grid():
    chosen = members(ks=KS[:3], noise=0.002)
    for one in chosen:
        one["held_out"] = one["name"] == "n8192-k16"
    true = float(laws.JOINT(CONSTANTS, n=8 * WIDTHS[4], k=32))
    return [*chosen, member(int(8 * WIDTHS[4]), 32, true, name="far", held_out=True)]


@pytest.fixture(scope="module")
def fits(grid):
    return fit_all(grid, compute=(1e16,), target_delta_ce=(0.05,), resamples=RESAMPLES)


def value(law, name):
    return law["constants"][name]["value"]


def test_it_is_json_and_the_same_again(grid, fits):
    again = fit_all(json.loads(json.dumps(grid)), compute=(1e16,), target_delta_ce=(0.05,), resamples=RESAMPLES)
    assert json.dumps(again, allow_nan=False) == json.dumps(fits, allow_nan=False)


def test_held_out_members_are_predicted_and_not_fitted(fits):
    found = fits["architectures"]["topk"]
    near, far = found["held_out"]
    assert "n8192-k16" not in found["joint"]["members"] and found["joint"]["points"] == 14
    assert abs(near["error"]) < 0.01 and near["extrapolation"] == "" and near["inside"]
    assert near["error"] == pytest.approx(near["predicted"] / near["fvu"] - 1)
    assert abs(far["error"]) < 0.03 and "8 times the largest fitted" in far["extrapolation"]
    assert any("far is an extrapolation" in warning for warning in fits["warnings"])


def test_convergence_tokens_and_allocation_follow_the_curves(fits):
    found = fits["architectures"]["topk"]
    assert [law["k"] for law in found["convergence"]] == [8, 32]  # at 16 the held-out member leaves too few
    for law in found["tokens"]:
        assert value(law, "p") == pytest.approx(0.6, abs=0.03)
    for law in found["allocation"]:
        assert value(law, "b") == pytest.approx(1.2, abs=0.1)
        (best,) = law["optima"]
        values = {name: value(law, name) for name in law["constants"]}
        n = np.geomspace(1e2, 1e7, 20_000)
        reference = n[laws.ALLOCATION(values, n=n, D=1e16 / (FLOPS * n)).argmin()]
        assert best["width"] == pytest.approx(reference, rel=0.05)
        assert best["width"] * best["tokens"] * FLOPS == pytest.approx(1e16, rel=1e-3)
        share = law["exponents"]["width"]["value"]
        assert share == pytest.approx(values["b"] / (values["a"] + values["b"] + values["c"]))
    for law in found["compute"]:
        assert law["envelope"]["fvu"] == sorted(law["envelope"]["fvu"], reverse=True)


def test_no_optimum_is_named_where_the_members_do_not_determine_it():
    flat = members(WIDTHS[:3], [8.0], noise=0.0)
    for one in flat:  # the same curve at every width: nothing says what width is worth
        one["figures"]["curve"] = flat[0]["figures"]["curve"]
    (found,) = fit_all(flat, compute=(1e16,), resamples=RESAMPLES)["architectures"]["topk"]["allocation"]
    assert not found["identified"] and found["optima"][0]["width"] is None
    assert "do not determine" in found["optima"][0]["extrapolation"]


def test_k_for_a_delta_ce_solves_the_law(fits):
    rows = fits["architectures"]["topk"]["best_k"]
    assert len(rows) == 5
    for row in rows:
        wanted = (0.05 / 2 / row["width"] ** -0.15) ** (-1 / 0.7)
        assert row["k"] == pytest.approx(wanted, rel=1e-6)
        assert bool(row["extrapolation"]) == (not 8 <= wanted <= 32)


def test_without_delta_ce_it_says_so():
    chosen = members(WIDTHS[:3], KS[:3], figures={"delta_ce": None, "curve": []})
    found = fit_all(chosen, resamples=RESAMPLES)
    assert found["architectures"]["topk"]["delta_ce"] is None
    assert any("no member has a delta CE" in row["why"] for row in found["left_out"])


def test_members_still_falling_are_named_and_left_out_of_convergence():
    chosen = members(ks=[8.0])
    short = member(32768, 8, 0.5, length=3, name="short")
    chosen = [m for m in chosen if m["name"] != "n32768-k8"] + [short]
    found = fit_all(chosen, resamples=RESAMPLES)
    assert any("under-trained" in w and "short" in w and "n2048-k8" not in w for w in found["warnings"])
    (why,) = [row["why"] for row in found["left_out"] if row["fit"] == laws.CONVERGENCE.name and row["k"] == 8]
    assert "there are 4" in why


def test_only_the_best_setting_counts_and_architectures_stand_apart():
    chosen = members(WIDTHS[:3], KS[:3], figures={"curve": []})
    worse = [
        member(m["figures"]["width"], m["figures"]["k"], 1.5 * m["figures"]["fvu"], name=m["name"] + "-lr")
        for m in chosen
    ]
    for m in worse:
        m["flags"]["learning_rate"] = m["figures"]["learning_rate"] = 1e-1
    seeds = [dict(m, name=m["name"] + "-s1", flags=m["flags"] | {"seed": 1}) for m in chosen]
    relu = [dict(m, figures=m["figures"] | {"architecture": "relu"}) for m in members(WIDTHS[:2], ks=[8.0, 16.0])]
    found = fit_all([*worse, *chosen, *seeds, *relu], resamples=RESAMPLES)
    joint = found["architectures"]["topk"]["joint"]
    assert set(joint["members"]) == {m["name"] for m in (*chosen, *seeds)}
    assert found["architectures"]["relu"]["joint"] is None


def test_few_members_give_the_law_without_its_floor_and_fewer_none():
    found = fit_all(members(WIDTHS[:2]), resamples=RESAMPLES)
    assert found["architectures"]["topk"]["joint"]["law"] == laws.JOINT_WITHOUT_FLOOR.name
    assert any("falls without end" in warning for warning in found["warnings"])
    for count in range(1, 5):
        found = fit_all(members(WIDTHS[:2])[:count], resamples=RESAMPLES)
        assert found["architectures"]["topk"]["joint"] is None and found["left_out"]


def test_members_without_k_are_fitted_by_their_l0():
    chosen = members(WIDTHS[:3], KS[:3], figures={"architecture": "relu", "k": None, "curve": []})
    for i, one in enumerate(chosen):
        one["flags"] = {"width": one["figures"]["width"], "l1": i, "architecture": "relu"}
    found = fit_all(chosen, resamples=RESAMPLES)
    assert found["architectures"]["relu"]["joint"]["points"] == 9
    assert any("has no k" in row["why"] for row in found["left_out"])


def test_nothing_finished_and_odd_figures_raise_nothing():
    waiting = [dict(name="w", status="waiting", figures=None), dict(name="r", status="running"), {}]
    found = fit_all(waiting)
    assert found["architectures"] == {} and "no member has finished" in found["left_out"][0]["why"]
    odd = [member(2048, 8, 0.5, figures={"fvu": v}, name=f"odd{i}") for i, v in enumerate((None, float("nan"), 0, -1))]
    found = fit_all([*odd, *waiting, member(2048, 8, 0.5, figures={"flops": None, "tokens": None, "curve": None})])
    assert sum("without fvu" in warning for warning in found["warnings"]) == 4
    json.dumps(found, allow_nan=False)


def test_losses_of_the_helper_are_noisy():
    assert np.std(np.log(losses()[2] / losses(noise=0.0)[2])) == pytest.approx(0.01, rel=0.3)
