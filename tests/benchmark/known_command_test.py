"""`jaxsae benchmark --what=known_dictionary` trains, judges, tells and refuses, and SAELens is trained on the same rows."""

import json

import jax
import numpy as np
import pytest

from jaxsae.benchmark import BenchmarkConfig, benchmark
from jaxsae.benchmark.config import StepMethodConfig
from jaxsae.benchmark.known import methods
from jaxsae.benchmark.known.board import Board
from jaxsae.benchmark.known.config import KnownConfig
from jaxsae.benchmark.known.features import Features
from jaxsae.benchmark.known.peers import own_flags
from jaxsae.benchmark.peers import is_installed
from jaxsae.benchmark.peers.saelens import CLASSES
from jaxsae.benchmark.peers.worker import hide_broken_torchvision
from jaxsae.dictionary import ARCHITECTURES
from jaxsae.errors import InputError
from jaxsae.parallel import make_mesh
from jaxsae.training import setup

D = 16


def config_of(known=(), method=(), **changes):
    own = KnownConfig(**{"features": 32, "active": 2.0, "group_size": 4, "held_out": 500, "seeds": (0,)} | dict(known))
    sizes = {"d_model": D, "batch_size": 64, "tokens": 6400, "mesh": (1, 1)}
    flags = sizes | {"known": own, "method": StepMethodConfig(**dict(method))} | changes
    return BenchmarkConfig(what="known_dictionary", **flags)


@pytest.fixture
def one_device(monkeypatch):
    monkeypatch.setattr(setup, "make_mesh", lambda shape: make_mesh(shape, jax.devices()[:1]))


def test_the_command_trains_judges_and_tells(one_device, tmp_path, capsys):
    out, place = tmp_path / "figures.json", tmp_path / "disk"
    place.mkdir()
    known = {"methods": ("topk",), "seeds": (0, 3)}
    figures = benchmark(config_of(known, loader_dir=str(place), json=str(out)))
    assert json.loads(out.read_text()) == figures and not list(place.iterdir())
    assert (figures["width"], figures["k"], figures["steps"], figures["rows"]) == (32, 2, 100, 6400)
    assert list(figures["methods"]) == ["topk"] and figures["peers"] == {}
    topk, made = figures["methods"]["topk"], figures["baselines"]
    assert [run["seed"] for run in topk["runs"]] == [0, 3]
    values = [run["mcc"] for run in topk["runs"]]
    assert topk["mean"]["mcc"] == pytest.approx(np.mean(values))
    assert topk["standard_error"]["mcc"] == pytest.approx(abs(values[0] - values[1]) / 2)
    assert topk["mean"]["mcc"] > made["random"]["mean"]["mcc"] + 0.15 and 0 < topk["mean"]["fvu"] < 0.5
    assert made["oracle"]["mean"]["mcc"] == pytest.approx(1, abs=1e-5)
    assert made["pca"]["mean"]["l0"] == made["random"]["mean"]["l0"] == 2
    shown = capsys.readouterr().err
    assert "2 of 2, topk, seed 3: MCC" in shown and "the true features" in shown and "memory of one device" not in shown


@pytest.mark.parametrize(
    ("known", "method", "changes", "message"),
    [
        ({"methods": ("topk", "nosuch")}, {}, {}, "--methods=topk,nosuch: choose from topk, "),
        ({"methods": ("topk", "topk")}, {}, {}, "--methods=topk,topk: name each method once"),
        ({"seeds": (1, 1)}, {}, {}, "--seeds=1,1: name each seed once"),
        ({"seeds": ()}, {}, {}, "--seeds=: give one or more numbers"),
        ({"active": 8.0}, {}, {}, "--active=8.0: must be below a fifth of --features=32"),
        ({}, {"k": 40, "width": 64}, {}, "--k=40: must be at most --features=32"),
        ({}, {"k": 20, "width": 16}, {}, "--k=20: must be at most --width=16"),
        (
            {"methods": ("topk", "relu")},
            {"bandwidth": 1.0},
            {},
            "--bandwidth=1.0: none of --methods=topk,relu takes it",
        ),
        ({}, {"architecture": "relu"}, {}, "--architecture=relu: give --methods instead"),
        ({}, {}, {"tokens": 63}, "--tokens=63: is less than one batch of 64 rows"),
        ({}, {}, {"seed": 1}, "--seed=1: --what=known_dictionary takes --seeds"),
        ({}, {}, {"repeats": 3}, "--repeats=3: says nothing to --what=known_dictionary"),
        ({}, {"adversary_k": 3}, {}, "--adversary_k=3: does nothing without --adversary"),
        ({}, {}, {"compare": ("sparsify",)}, "--compare=sparsify: --what=known_dictionary takes saelens alone"),
        ({"peer_rates": (0.0,)}, {}, {}, "--peer_rates=0.0: give rates between 0 and 1"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(known, method, changes, message, monkeypatch):
    monkeypatch.setattr(Features, "of", None)
    with pytest.raises(InputError) as error:
        benchmark(config_of(known, method, **changes))
    assert message in str(error.value)


def test_a_peer_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(methods, "is_installed", lambda name: False)
    with pytest.raises(InputError, match=r"--compare=saelens: it is not installed: pip install 'jaxsae\[interop\]'"):
        benchmark(config_of(compare=("saelens",)))


def test_switches_go_to_the_methods_that_take_them():
    made = methods.Methods.of(config_of({}, {"k": 5, "aux_k": 3, "l1_coefficient": 2.0}))
    assert set(made.ours) == set(ARCHITECTURES) and made.width == 32 and made.k == 5
    assert made.ours["topk"].k == made.ours["jumprelu"].k == 5 and made.ours["topk"].aux_k == 3
    assert made.ours["relu"].l1_coefficient == 2 and made.ours["relu"].aux_k is None


def test_defaults_go_by_what_is_benchmarked():
    step, known = BenchmarkConfig(), BenchmarkConfig(what="known_dictionary")
    assert (step.d_model, step.method.width, step.method.k, step.rows_of_a_batch) == (768, 16_384, 32, 2048)
    made = methods.Methods.of(known)
    assert (known.d_model, made.width, made.k, known.rows_of_a_batch) == (256, 4096, 8, 1024)


def test_peers_rate_is_the_best_of_those_at_the_l0_that_is_asked_for():
    board = Board(total=4, k=8)
    run = lambda rate, l0, fvu: {"seed": 0, "learning_rate": rate, "l0": l0, "fvu": fvu}
    board.peers["a"] = [run(0.1, 21.0, 0.1), run(0.2, 8.3, 0.4), run(0.3, 7.7, 0.3), run(0.4, 8.0, None)]
    assert board.best_rate("a") == 0.3
    board.peers["b"] = [run(0.1, 21.0, 0.1), run(0.2, 8.7, 0.4)]
    assert board.best_rate("b") == 0.2


@pytest.mark.skipif(not is_installed("saelens"), reason="needs sae_lens (jaxsae[interop])")
def test_saelens_is_trained_on_the_same_rows(one_device, capsys):
    known = {"methods": ("topk",), "peer_rates": (1e-5, 5e-3), "seeds": (0, 1)}
    figures = benchmark(config_of(known, compare=("saelens",)))
    peer = figures["peers"]["saelens"]["topk"]
    assert [run["learning_rate"] for run in peer["rates"]] == [1e-5, 5e-3]
    assert [run["seed"] for run in peer["runs"]] == [0, 1] and peer["runs"][0] in peer["rates"]
    assert peer["runs"][0]["fvu"] == min(run["fvu"] for run in peer["rates"])
    assert peer["learning_rate"] == 5e-3 and peer["at_end"] == "highest"
    shown = capsys.readouterr().err
    assert "5 of 5, saelens topk, seed 1, learning rate 0.005" in shown
    assert "saelens topk was best at the highest of the rates" in shown
    assert 0.5 < peer["mean"]["l0"] < 8 and peer["mean"]["mcc"] > figures["baselines"]["random"]["mean"]["mcc"]


@pytest.mark.skipif(not is_installed("saelens"), reason="needs sae_lens (jaxsae[interop])")
def test_saelens_batchtopk_is_judged_by_its_threshold(one_device):
    known = {"methods": ("batchtopk",), "peer_rates": (5e-3,), "seeds": (0,)}
    figures = benchmark(config_of(known, compare=("saelens",)))
    peer = figures["peers"]["saelens"]["batchtopk"]
    assert peer["learning_rate"] == 5e-3 and peer["at_end"] is None
    assert 0.5 < peer["mean"]["l0"] < 8 and peer["mean"]["mcc"] > figures["baselines"]["random"]["mean"]["mcc"]


@pytest.mark.skipif(not is_installed("saelens"), reason="needs sae_lens (jaxsae[interop])")
@pytest.mark.parametrize("name", methods.COMPARED)
def test_saelens_takes_what_it_is_given(name):
    hide_broken_torchvision()
    from sae_lens import saes

    method = methods.Methods.of(config_of()).ours[name]
    made, settings = (getattr(saes, CLASSES[name] + end) for end in ("", "Config"))
    config = settings(d_in=D, d_sae=32, **own_flags(method, 100))
    made(config)
    assert (config.target_l0 if name == "jumprelu" else config.k) == 2
    assert name != "matryoshka" or config.matryoshka_widths == [1, 3, 7, 15, 32]
