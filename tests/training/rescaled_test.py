"""A finished relu's latents, rescaled and shifted: nothing else changes, and reconstructions are no longer too short."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxsae import cli
from jaxsae.config import read_flag_file
from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.training import TrainConfig, load, train

WIDTH = 64


@pytest.fixture
def relu(configure):
    method = MethodConfig(width=WIDTH, architecture="relu", target_l0=0.0, l1_coefficient=2.0)
    config = configure("relu", steps=120, method=method, mesh=(1, 1), ema_decay=0.0, checkpoint_every=200)
    train(config)
    return config


def gamma(sae, x):
    """E ||x_hat||^2 / E <x_hat, x>, of centred rows: below 1 is shrinkage."""
    mean = x.mean(0)
    y = np.float64(sae.reconstruct(x)) - mean
    return (y**2).sum() / (y * (x - mean)).sum()


@pytest.mark.parametrize("shift", [True, False])
def test_it_mends_shrinkage_and_changes_nothing_else(shift, relu, configure, rows, newest_state, assert_same):
    method = MethodConfig(width=WIDTH, architecture="rescaled", shift=shift)
    flags = {
        "method": method,
        "mesh": (1, 1),
        "ema_decay": 0.0,
        "initialize_from": relu.workdir,
        "checkpoint_every": 40,
        "learning_rate": 0.02,
    }
    config = configure("rescaled", steps=80, **flags)
    train(config)
    before, after = load(relu.workdir), load(config.workdir)
    for name in ("W_enc", "W_dec", "b_dec"):
        np.testing.assert_allclose(getattr(after.params, name), getattr(before.params, name), rtol=1e-5, atol=1e-6)
    held = rows[-64:]
    error = lambda sae: np.square(held - np.float64(sae.reconstruct(held))).sum()
    assert gamma(before, held) < 0.9 < gamma(after, held) < 1.1
    assert error(after) < 0.8 * error(before)
    on = [np.asarray(sae.encode(held).dense(WIDTH)) > 0 for sae in (before, after)]
    assert (on[1] <= on[0]).all() and on[1].sum() > 0.9 * on[0].sum()
    if not shift:
        np.testing.assert_allclose(
            after.params.latent["b_mag"],
            np.exp(after.params.latent["r_mag"]) * after.params.b_enc,
            rtol=1e-3,
            atol=1e-4,
        )
    shutil.rmtree(Path(config.workdir, "checkpoints", "80"))
    train(config)
    again = load(config.workdir)
    assert_same(again.params, after.params)


def test_it_needs_a_relu_run(configure, capsys):
    method = MethodConfig(width=WIDTH, architecture="rescaled")
    with pytest.raises(InputError, match="--initialize_from=: --architecture=rescaled needs a relu run"):
        configure("rescaled", method=method)
    other = configure("topk", steps=4, mesh=(1, 1), checkpoint_every=4)
    train(other)
    config = configure("rescaled", method=method, initialize_from=other.workdir, mesh=(1, 1))
    with pytest.raises(
        InputError, match="--initialize_from=.*: is a dictionary of --architecture=topk.* Give a relu run"
    ):
        train(config)
    flags = ["train", f"--store={config.store}", f"--workdir={config.workdir}", f"--initialize_from={other.workdir}"]
    assert cli.run([*flags, "--architecture=rescaled"]) == 2
    assert "Give a relu run" in capsys.readouterr().err and not Path(config.workdir).exists()


def test_width_and_pre_bias_are_those_of_the_relu(configure, any_mesh, capsys):
    method = MethodConfig(width=WIDTH, architecture="relu", pre_bias=True)
    config = configure("relu", steps=4, method=method, ema_decay=0.0)
    train(config)
    flags = ["train", f"--store={config.store}", f"--initialize_from={config.workdir}", "--architecture=rescaled"]
    run = Path(config.workdir).parent / "rescaled"
    more = ["--batch_size=64", "--tokens=256", "--mesh=1,8", "--checkpoint_every=2"]
    assert cli.run([*flags, f"--workdir={run}", *more]) == 0
    assert "dead" not in capsys.readouterr().err.splitlines()[-1].split("held-out")[0]  # it has no say in which fire
    made = load(run)
    assert made.pre_bias and made.width == WIDTH
    written = read_flag_file(run / "config.flags", TrainConfig)
    assert written.method.pre_bias and written.method.width == WIDTH
    shutil.rmtree(run / "checkpoints" / "4")
    Path(config.workdir).rename(run.parent / "elsewhere")  # a run that has begun does without it
    assert cli.run([*flags, f"--workdir={run}", *more]) == 0
    (run.parent / "elsewhere").rename(config.workdir)
    assert cli.run([*flags, f"--workdir={run}2", "--width=32", *more]) == 2
    assert "width 64 where this run has 32" in capsys.readouterr().err
