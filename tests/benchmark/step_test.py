"""The step's benchmark: what its JSON holds, the states it times, and what is refused before anything is timed."""

import json

import jax
import pytest

from jaxsae.benchmark import BenchmarkConfig, benchmark, run
from jaxsae.benchmark.config import StepMethodConfig
from jaxsae.errors import InputError

READ_BY_OTHERS = ("step_seconds", "floor_seconds", "step_over_floor", "step_cpu_seconds", "floor_cpu_seconds")
READ_BY_OTHERS += ("step_cpu_over_floor", "peak_memory_bytes", "temp_bytes")
RANKING, ELEMENTWISE = ("topk", "batchtopk", "matryoshka"), ("jumprelu", "gated", "relu")


def config_of(**changes):
    own = {name: changes.pop(name) for name in ("architecture", "k", "aux_coefficient") if name in changes}
    takes_k = own.get("architecture") not in ("gated", "relu")
    method = StepMethodConfig(width=changes.pop("width", 256), **({"k": 4} if takes_k else {}) | own)
    return BenchmarkConfig(**({"d_model": 16, "batch_size": 64, "repeats": 2, "method": method} | changes))


def test_its_json_has_both_states_and_what_others_read(tmp_path, capsys):
    out = tmp_path / "figures.json"
    figures = benchmark(config_of(json=str(out)))
    assert json.loads(out.read_text()) == figures
    first, second = figures["states"]
    assert figures == first | {"states": figures["states"]} and first.keys() == second.keys()
    for state, dead in ((first, 0), (second, 0.1)):
        assert all(state[name] > 0 for name in READ_BY_OTHERS)
        assert state["dead_fraction"] == pytest.approx(dead, abs=0.01) and state["flags"]["dead_fraction"] == dead
        assert state["step_over_floor"] == state["step_seconds"] / state["floor_seconds"]
        assert set(state["parts"]) == {"gradients", "update"}
    shown = capsys.readouterr().err
    assert shown.count("whole step") == 2
    assert "topk, none dead (route: ranked)" in shown and "topk, 10% dead (route: ranked; dead: tiles)" in shown


def test_latents_that_go_by_pairs_have_two_parts_more():
    figures = benchmark(config_of(width=4096, mesh=(8, 1), dead_fraction=0.0))
    assert figures["route"] == "pairs" and set(figures["parts"]) == {"encode", "decode", "gradients", "update"}


@pytest.mark.parametrize("architecture", RANKING[1:] + ELEMENTWISE)  # topk: in the tests above
def test_every_architecture_gives_figures(architecture, capsys):
    figures = benchmark(config_of(architecture=architecture))
    assert all(state[name] > 0 for state in figures["states"] for name in READ_BY_OTHERS)
    shares = [state["flags"]["dead_fraction"] for state in figures["states"]]
    assert shares == ([0, 0.1] if architecture in RANKING else [0])
    route = "ranked" if architecture in RANKING else "elementwise"
    assert f"{architecture}, none dead (route: {route})" in capsys.readouterr().err


@pytest.mark.parametrize("dead", [0.0, 0.3])
def test_a_state_that_is_named_is_the_only_one(dead):
    (state,) = benchmark(config_of(dead_fraction=dead))["states"]
    assert state["dead_fraction"] == pytest.approx(dead, abs=0.01)


def test_without_auxk_there_is_one_state():
    assert config_of(aux_coefficient=0.0).dead_fractions == config_of(architecture="relu").dead_fractions == (0,)


def test_peers_are_timed_in_both_states_after_our_arrays_are_gone(monkeypatch, capsys):
    asked = []

    def compare(config, ours):
        assert not any(array.shape == (256, 16) for array in jax.live_arrays())
        asked.append((config.dead_fractions, ours["flags"]["dead_fraction"]))
        return {"peer": {"seconds": 1.0, "cpu_seconds": 2.0, "dead_fraction": config.dead_fractions[0]}}

    monkeypatch.setattr(run, "compare", compare)
    figures = benchmark(config_of(compare=("saelens",)))
    assert asked == [((0.0,), 0.0), ((0.1,), 0.1)]
    assert [state["peers"]["peer"]["dead_fraction"] for state in figures["states"]] == [0.0, 0.1]
    assert capsys.readouterr().err.count("1000.0    2000.0") == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 10**11}, r"needs .* GiB on each device and .* are free. Take a smaller --width"),
        ({"json": "/nowhere/figures.json"}, r"--json=/nowhere/figures.json: cannot be written there"),
        ({"width": 250}, "--width=250"),
    ],
)
def test_what_cannot_be_timed_is_refused_first(changes, message):
    with pytest.raises(InputError, match=message):
        benchmark(config_of(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compare": ("nosuch",)}, r"--compare=nosuch: choose from sparsify, saelens, dictionary_learning"),
        ({"dead_fraction": 1.0}, r"--dead_fraction=1.0: must be 0 or above, and below 1"),
        (
            {"dead_fraction": 0.1, "architecture": "relu"},
            r"--dead_fraction=0.1: the loss of --architecture=relu has no term of dead latents: leave the flag out",
        ),
        (
            {"architecture": "gated", "aux_coefficient": 0.5},
            r"--aux_coefficient=0.5: --architecture=gated does not take it",
        ),
    ],
)
def test_flags_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        config_of(**changes)
