"""What collecting takes is said where it is much, by hand-computed figures."""

import dataclasses
import re

import pytest
from dashboard_scene import dictionary_of

from jaxsae.dashboard import cost
from jaxsae.dashboard.settings import Settings
from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context

SETTINGS = Settings(top=3, bands=2, per_band=1, before=4, after=2)


@pytest.fixture
def context(monkeypatch):
    monkeypatch.setattr(cost, "_cores", lambda: 2)
    return Context(EvaluateConfig(run="nowhere"), dictionary_of())  # 24 latents of 6, k 4


def test_seconds_and_bytes(context):
    seconds, memory = cost.cost(context, 1000, SETTINGS, None)
    assert seconds == pytest.approx((1000 * 24 * 6 + 24 * 24 * 6) / 5e10 + 1000 * 4 * 4 / 1.5e7)
    assert memory == 1000 * 4 * 16 + 24 * 5 * 7 * 8 * 2  # fewer contexts than activations
    bare = dataclasses.replace(SETTINGS, parts=False)
    assert cost.cost(context, 1000, bare, 2)[0] == pytest.approx(1000 * 24 * 6 / 5e10)
    assert cost.cost(context, 10**9, SETTINGS, None)[0] < 10**9 * 24 * 6 / 5e10 + 100  # what fires together is thinned


def test_little_is_not_said_and_much_is(context, monkeypatch, capsys):
    cost.say_cost(context, 1000, SETTINGS, None)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(cost, "CPU_RATE", 100.0)
    cost.say_cost(context, 1000, SETTINGS, None)
    assert re.fullmatch(
        r"1,000 rows through 24 latents of 6: about 12 min on 2 cores, 0\.0 GB of memory at most beside the parameters\n",
        capsys.readouterr().err,
    )
    cost.say_cost(context, 10_000, SETTINGS, None, 3)
    assert "each of 3 dictionaries: about 6.0 h on 2 cores" in capsys.readouterr().err
