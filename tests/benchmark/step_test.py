"""The step's benchmark: what its JSON holds, and what is refused before anything is timed."""

import json

import pytest

from jaxsae.benchmark import BenchmarkConfig, benchmark
from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError

READ_BY_OTHERS = ("step_seconds", "floor_seconds", "step_over_floor", "step_cpu_seconds", "floor_cpu_seconds")
READ_BY_OTHERS += ("step_cpu_over_floor", "peak_memory_bytes", "temp_bytes")


def config_of(**changes):
    method = MethodConfig(width=changes.pop("width", 256), k=4)
    return BenchmarkConfig(**({"d_model": 16, "batch_size": 64, "repeats": 2, "method": method} | changes))


def test_its_json_has_what_others_read(tmp_path, capsys):
    out = tmp_path / "figures.json"
    figures = benchmark(config_of(json=str(out)))
    assert json.loads(out.read_text()) == figures and all(figures[name] > 0 for name in READ_BY_OTHERS)
    assert figures["step_over_floor"] == figures["step_seconds"] / figures["floor_seconds"]
    assert set(figures["parts"]) == {"encode", "decode", "gradients", "update"}
    assert "whole step" in capsys.readouterr().err


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


def test_an_unknown_package_is_refused():
    with pytest.raises(InputError, match=r"--compare=nosuch: choose from sparsify, saelens, dictionary_learning"):
        config_of(compare=("nosuch",))
