"""Other packages' steps: those that are installed take every architecture that they are said to train; others say why not."""

import importlib.util

import pytest

from jaxsae.benchmark import BenchmarkConfig
from jaxsae.benchmark.config import PEERS, StepMethodConfig
from jaxsae.benchmark.peers import compare, is_installed
from jaxsae.benchmark.peers.dictionary_learning import group_fractions
from jaxsae.benchmark.peers.processes import sizes_of
from jaxsae.benchmark.peers.table import TABLE
from jaxsae.benchmark.peers.worker import hide_broken_torchvision, time_step
from jaxsae.dictionary import SWITCHES

OURS = {"step_seconds": 1.0, "step_cpu_seconds": 2.0}


def config_of(architecture, **changes):
    k = {"k": 4} if "k" in SWITCHES[architecture] else {}
    method = StepMethodConfig(width=64, architecture=architecture, **k)
    return BenchmarkConfig(**({"d_model": 8, "batch_size": 32, "repeats": 2, "method": method} | changes))


def test_a_package_without_the_architecture_says_so():
    found = compare(config_of("gated", compare=("sparsify",)), OURS)
    assert found == {"sparsify": {"skipped": "it does not train gated, but topk"}}


def test_a_package_that_is_not_installed_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = compare(config_of("gated", compare=("saelens",)), OURS)
    assert found == {"saelens": {"skipped": "not installed: pip install 'jaxsae[interop]'"}}


def test_the_table_has_every_name_and_architecture():
    assert tuple(TABLE) == PEERS
    assert set(TABLE["sparsify"].steps) == {"topk"}
    trained = {"topk", "batchtopk", "matryoshka", "jumprelu", "gated", "relu"}  # by their trainers, as ours
    assert set(TABLE["saelens"].steps) == set(TABLE["dictionary_learning"].steps) == trained


@pytest.mark.parametrize("package", PEERS)
def test_installed_packages_take_their_own_steps(package):
    if not is_installed(package):
        pytest.skip(f"needs {package} (jaxsae[interop])")
    hide_broken_torchvision()
    for architecture, steps in TABLE[package].steps.items():
        ranks = "aux_k" in SWITCHES[architecture]
        for dead in (0.0, 0.25) if ranks else (0.0,):
            sizes = sizes_of(config_of(architecture, dead_fraction=dead))
            for make in steps.values():
                found = time_step(make(sizes), sizes)
                assert found["seconds"] > 0 and found["repeats"] == 2 and found["dead_fraction"] == dead


def test_a_process_is_timed_against_ours():
    if not is_installed("dictionary_learning"):
        pytest.skip("needs dictionary_learning (jaxsae[interop])")
    (figures,) = compare(config_of("batchtopk", compare=("dictionary_learning",), dead_fraction=0.25), OURS).values()
    assert figures["dead_fraction"] == 0.25 and figures["cpu_seconds_over_ours"] == figures["cpu_seconds"] / 2


@pytest.mark.parametrize("prefixes", [(64,), (2, 6, 14, 30, 64), (1, 3, 7, 1000), (333, 334, 1001)])
def test_prefixes_come_back_from_their_shares(prefixes):
    shares, width = group_fractions(prefixes), prefixes[-1]
    first = [int(share * width) for share in shares[:-1]]
    assert sum(shares) == pytest.approx(1, abs=1e-9)
    assert [sum(first[: i + 1]) for i in range(len(first))] == list(prefixes[:-1])
