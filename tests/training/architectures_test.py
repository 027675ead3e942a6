"""Every architecture trains, resumes bit by bit, and holds no batch of pre-activations; older checkpoints still load."""

import functools
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import MethodConfig, Widths, make_method
from jaxsae.errors import InputError
from jaxsae.parallel import batch_sharding, make_mesh
from jaxsae.training import checkpoint, load, train
from jaxsae.training.config import OptimizerConfig
from jaxsae.training.layouts import as_written
from jaxsae.training.optimizer import make_optimizer, schedule
from jaxsae.training.state import abstract_state, make_init
from jaxsae.training.step import Pace, StepConfig, make_step

D = 16  # as in conftest.py
SWITCHES = {
    "topk": {"k": 4, "aux_k": 8},
    "batchtopk": {"k": 4, "aux_k": 8},
    "matryoshka": {"k": 4, "aux_k": 8},
    "jumprelu": {"k": 4},
    "gated": {"l1_coefficient": 1.0},
    "relu": {"target_l0": 0.0},
}
# What else a step may do, each with state of its own or numbers that hang on the step.
MORE = {
    "steered": {"architecture": "relu", "k": 6},
    "steered_gate": {"architecture": "gated", "k": 6},
    "multi_topk": {"architecture": "multi_topk", "k": 4, "aux_k": 8},
    "hierarchical_topk": {"architecture": "hierarchical_topk", "k": 4, "aux_k": 8},
    "abstopk": {"architecture": "abstopk", "k": 4, "aux_k": 8},
    "jumprelu_tanh": {"architecture": "jumprelu_tanh", "k": 4},
    "annealed": {"architecture": "batchtopk", "k": 4, "aux_k": 8, "k_start": 9, "k_anneal": 0.6},
    "annealed_rows": {"architecture": "topk", "k": 4, "aux_k": 8, "k_start": 9, "k_anneal": 0.6},
    "random_prefixes": {"architecture": "matryoshka", "k": 4, "aux_k": 8, "random_prefixes": True},
    "tied": {"architecture": "topk", "k": 4, "aux_k": 8, "tied": True},
    "aligned": {"architecture": "topk", "k": 4, "aux_k": 8, "aligned": True},
    "penalties": {
        "architecture": "batchtopk",
        "k": 4,
        "aux_k": 8,
        "frequency_penalty": 0.1,
        "orthogonality": 0.3,
        "orthogonality_chunk": 16,
        "adversary": 0.2,
        "adversary_rows": 16,
    },
    "frequent": {"architecture": "jumprelu", "k": 4, "frequency_penalty": 0.1, "pre_bias": True},
}
WIDTH = 64


def method(name):
    return MethodConfig(width=WIDTH, **MORE.get(name, {"architecture": name} | SWITCHES.get(name, {})))


@pytest.mark.parametrize("architecture", [*SWITCHES, *MORE])
def test_a_resumed_run_ends_bit_identical_on_another_mesh_too(architecture, configure, resumed):
    cut, state = resumed(functools.partial(configure, method=method(architecture)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    x = np.random.default_rng(0).normal(size=(9, D)).astype(np.float32)
    one, spread = (load(cut.workdir, mesh).encode(x).dense(WIDTH) for mesh in (None, make_mesh((1, 8))))
    np.testing.assert_allclose(one, spread, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("architecture", ["jumprelu", "gated"])
def test_the_trained_dictionary_encodes_by_its_equation(architecture, configure):
    config = configure(method=method(architecture), mesh=(1, 1), ema_decay=0.0)
    sae = train(config)
    p = {name: np.asarray(a, np.float64) for name, a in (sae.params.latent | sae.params.shared).items()}
    x = np.random.default_rng(0).normal(size=(50, sae.d_model)).astype(np.float32)
    if architecture == "jumprelu":
        z = x @ p["W_enc"].T + p["b_enc"]
        expected = z * (z > p["threshold"])
    else:
        inner = (x - p["b_dec"]) @ p["W_enc"].T
        expected = (inner + p["b_enc"] > 0) * np.maximum(np.exp(p["r_mag"]) * inner + p["b_mag"], 0)
    latents = sae.encode(x)
    assert (np.diff(latents.values, axis=1) <= 0).all()
    found = np.asarray(latents.dense(WIDTH))
    assert (found > 0).any() and np.mean((found > 0) != (expected > 0)) < 1e-3
    both = (found > 0) & (expected > 0)
    np.testing.assert_allclose(found[both], expected[both], rtol=1e-4, atol=1e-5)


def test_jumprelu_comes_to_the_l0_that_is_aimed_at(configure, metrics):
    aimed = MethodConfig(width=WIDTH, architecture="jumprelu", target_l0=5.5)
    config = configure(steps=300, method=aimed, mesh=(1, 1), ema_decay=0.0, checkpoint_every=300)
    train(config)
    assert metrics(config)[-1]["held_out_l0"] == pytest.approx(5.5, rel=0.15)


@pytest.mark.parametrize("architecture", ["jumprelu", "gated", "relu"])
def test_no_batch_of_pre_activations_stands_in_a_step(architecture):
    """Of the compiled program: 8,192 rows of 262,144 latents would be 8 GiB."""
    width, d, rows = 262_144, 64, 8192
    own = make_method(MethodConfig(width=width, architecture=architecture))
    optimizer = make_optimizer(OptimizerConfig(), 0)
    mesh = make_mesh((1, 1), jax.devices()[:1])
    init = make_init(own, optimizer, Widths.of(d), ema=False)
    abstract = abstract_state(init, Widths.of(d), mesh)
    step = make_step(own, optimizer, StepConfig(rows, Widths.of(d)), abstract, mesh)
    x = jax.ShapeDtypeStruct((rows, d), jnp.float32, sharding=batch_sharding(mesh))
    compiled = step.lower(abstract, x, Pace(schedule(OptimizerConfig(), 1e-3, 100), np.int32(10**6))).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * rows * width / 100


def test_checkpoints_of_the_layout_before_parts_load_and_go_on(configure, newest_state, assert_same, monkeypatch):
    new, old = (configure(name, method=method("batchtopk"), mesh=(1, 1)) for name in ("new", "old"))
    train(new)
    with monkeypatch.context() as older:
        split = checkpoint._split
        older.setattr(checkpoint, "FORMAT", 2)
        older.setattr(checkpoint, "_split", lambda state: as_written(split(state), 2))
        train(old)
    assert checkpoint.read_metadata(Path(old.workdir, "checkpoints"))[1]["format"] == 2
    x = np.random.default_rng(0).normal(size=(9, load(old.workdir).d_model)).astype(np.float32)
    np.testing.assert_array_equal(load(old.workdir).encode(x).values, load(new.workdir).encode(x).values)
    shutil.rmtree(Path(old.workdir, "checkpoints", "12"))
    train(old)
    assert checkpoint.read_metadata(Path(old.workdir, "checkpoints"))[1]["format"] == 3
    assert_same(newest_state(old)[1], newest_state(new)[1])


def test_a_layout_that_is_not_known_is_refused(configure, monkeypatch):
    config = configure(mesh=(1, 1), steps=4)
    with monkeypatch.context() as other:
        other.setattr(checkpoint, "FORMAT", 9)
        other.setattr(checkpoint, "READABLE", (9,))
        other.setattr(checkpoint, "as_written", lambda tree, layout: tree)
        other.setattr(checkpoint, "as_used", lambda tree, layout: tree)
        train(config)
    with pytest.raises(InputError, match="a checkpoint of format 9, and this jaxsae reads formats 2 and 3"):
        load(config.workdir)


def test_a_switch_that_does_nothing_is_refused_before_a_run_begins(configure):
    config = configure(method=MethodConfig(width=WIDTH, architecture="relu", aux_k=8))
    with pytest.raises(InputError, match="--aux_k=8: --architecture=relu does not take it"):
        train(config)
    assert not Path(config.workdir).exists()
