"""The loader's benchmark reads what it says, and leaves nothing behind."""

import json

import pytest

from jaxsae.benchmark import BenchmarkConfig, benchmark
from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError


def test_it_times_both_readings_of_one_store_and_removes_it(tmp_path):
    place, out = tmp_path / "disk", tmp_path / "figures.json"
    place.mkdir()
    sizes = {"loader_bytes": 2**20, "loader_dir": str(place), "loader_repeats": 1, "batch_size": 256}
    config = BenchmarkConfig(d_model=32, what="loader", json=str(out), method=MethodConfig(width=64, k=4), **sizes)
    figures = benchmark(config)
    assert json.loads(out.read_text()) == figures
    assert figures["rows"] == 2**20 // 64 and figures["bytes"] > 2**20
    assert figures["loader_over_raw"] > 0 and not list(place.iterdir())
    for place in ("disk", "page_cache"):
        assert len(figures[place]["ratios"]) == 1 and figures[place]["loader_bytes_per_second"] > 0


def test_a_store_of_less_than_a_batch_is_refused(tmp_path):
    sizes = {"loader_bytes": 2**16, "loader_dir": str(tmp_path)}
    with pytest.raises(InputError, match=r"--loader_bytes=65536: give at least \d+"):
        benchmark(BenchmarkConfig(d_model=32, what="loader", **sizes))
    assert not list(tmp_path.iterdir())
