"""The loader's benchmark reads what it says, and leaves nothing behind."""

import json

from jaxsae.benchmark import BenchmarkConfig, benchmark
from jaxsae.dictionary import MethodConfig


def test_it_times_both_readings_of_one_store_and_removes_it(tmp_path):
    place, out = tmp_path / "disk", tmp_path / "figures.json"
    place.mkdir()
    sizes = {"loader_bytes": 2**20, "loader_dir": str(place), "loader_repeats": 1, "batch_size": 256}
    config = BenchmarkConfig(d_model=32, what="loader", json=str(out), method=MethodConfig(width=64, k=4), **sizes)
    figures = benchmark(config)
    assert json.loads(out.read_text()) == figures
    assert figures["rows"] == 2**20 // 64 and figures["bytes"] > 2**20
    assert figures["loader_over_raw"] > 0 and not list(place.iterdir())
