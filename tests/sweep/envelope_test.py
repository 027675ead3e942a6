"""Whether and when curves converge, and the frontier over compute, against curves whose answers are known."""

import numpy as np
import pytest
from published_law import TIME, member

from jaxsae.sweep.envelope import after_warm_up, envelope, gain_of_doubling, is_undertrained, smooth, tokens_to_converge
from jaxsae.sweep.members import read_members


def read(*given):
    return read_members(given)[0]


def test_a_power_law_gains_what_it_says():
    tokens = np.geomspace(1e3, 1e6, 200)
    assert gain_of_doubling({"tokens": tokens, "fvu": 3 * tokens**-0.25}) == pytest.approx(1 - 2**-0.25)
    assert gain_of_doubling({"tokens": tokens, "fvu": np.full(200, 0.3)}) == pytest.approx(0, abs=1e-12)
    assert gain_of_doubling({"tokens": tokens[:3], "fvu": tokens[:3]}) is None
    long, short, blind = read(
        member(2048, 8, 0.3), member(2048, 8, 0.3, length=3), member(1, 8, 0.3, figures={"curve": []})
    )
    assert [is_undertrained(m) for m in (long, short, blind)] == [False, True, None]


def test_the_tokens_of_convergence_are_where_the_curve_comes_within_5_percent():
    (one,) = read(member(2048, 8, 0.3))
    end = one.curve["fvu"][-1] / 0.3 - 1
    wanted = TIME * 2048**0.6 * (0.6 / (1.05 * (1 + end) - 1)) ** (1 / 1.2)
    assert tokens_to_converge(one.curve) == pytest.approx(wanted, rel=0.05)
    assert tokens_to_converge({"tokens": np.array([]), "fvu": np.array([])}) is None
    flat = {"tokens": np.arange(1.0, 9), "fvu": np.ones(8)}
    assert tokens_to_converge(flat) == 1


def test_smoothing_keeps_lines_and_averages_noise():
    line = np.arange(100.0)
    np.testing.assert_allclose(smooth(line), line)
    noise = np.random.default_rng(0).standard_normal(1000)
    assert smooth(noise)[100:-100].std() < 0.25 and len(smooth(noise)) == 1000
    np.testing.assert_array_equal(smooth(line[:5] ** 2), line[:5] ** 2)


def test_the_envelope_is_the_least_of_the_curves():
    chosen = read(member(1024, 8, 0.4), member(4096, 8, 0.3), member(16384, 8, 0.2))
    found = envelope(chosen)
    assert (np.diff(found.flops) > 0).all() and (np.diff(found.fvu) < 0).all()
    for flops, fvu in zip(found.flops, found.fvu, strict=True):
        reached = [np.interp(flops, m.curve["flops"], m.curve["fvu"], right=np.inf, left=np.inf) for m in chosen]
        assert fvu == pytest.approx(min(reached), rel=0.01)
    leaders = found.widths[found.owner]
    assert (np.diff(leaders) >= 0).all() and set(leaders) == {1024, 4096, 16384}
    assert (leaders[found.contested] > 1024).sum() == found.contested.sum() - 1
    assert envelope(chosen[:1]) is None


def test_curves_are_thinned_to_their_later_part():
    (one,) = read(member(1024, 8, 0.4))
    thin = after_warm_up(one, 10)
    assert len(thin["tokens"]) <= 10 and thin["tokens"][0] >= 0.05 * thin["tokens"][-1] * 0.99
    assert thin["tokens"][-1] == one.curve["tokens"][-1]
