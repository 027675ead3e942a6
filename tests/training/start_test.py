"""Where a run starts: the encoder's length fitted to rows, biases at their mean, the same bits on every mesh."""

import dataclasses
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.training import train
from jaxsae.training.checkpoint import read_metadata
from jaxsae.training.setup import Setup
from jaxsae.training.start import BITS, sample

MESHES = [(1, 1), (2, 4), (8, 1), (1, 8)]


def fitted(config, rows):
    """float64: the c for which c decode(encode(x)) of a start at unit length is nearest to `rows`, and its FVU."""
    unit = Setup.of(dataclasses.replace(config, start_scale=1.0))
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), unit.fresh_state().params)
    x = (rows.astype(np.float64) - unit.normalization.mean) * unit.normalization.scale
    z = np.maximum(x @ params.W_enc.T, 0)
    if config.method.architecture == "topk":
        np.put_along_axis(z, np.argsort(-z, 1)[:, config.method.k :], 0, 1)
    elif config.method.architecture == "batchtopk":
        size = config.batch_size
        for first in range(0, len(z), size):
            part = z[first : first + size]
            part[part < np.sort(part.reshape(-1))[-size * config.method.k]] = 0
    y = z @ params.W_dec
    c = (x * y).sum() / (y * y).sum()
    return c, np.square(x - c * y).sum() / np.square(x).sum()


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_the_encoder_starts_at_what_brings_reconstructions_nearest(configure, rows, architecture):
    method = MethodConfig(width=64, k=4, architecture=architecture, row_k_max=64)
    config = configure(method=method, mesh=(1, 1), batch_size=64)
    setup, told = Setup.of(config), []
    params = setup.fresh_state(told.append).params
    used = sample(setup.read, setup.store.available)
    used = used[np.isin(used[:, 0], rows[: len(rows) - setup.holdout, 0])]
    lengths = np.linalg.norm(params.W_enc, axis=1) / np.linalg.norm(params.W_dec, axis=1)
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-5)
    scale, fvu = fitted(config, rows[: len(rows) - setup.holdout])
    assert lengths[0] == pytest.approx(scale, rel=2**-BITS)
    assert f"times {lengths[0]:.4g}, fitted to" in told[0]
    assert float(re.search(r"FVU is (\S+) before", told[0])[1]) == pytest.approx(fvu, abs=1e-3)


def test_a_start_has_the_same_bits_on_every_mesh(configure):
    states = [Setup.of(configure(mesh=mesh)).fresh_state() for mesh in MESHES]
    first = jax.tree.map(np.asarray, states[0].params)
    for state in states[1:]:
        jax.tree.map(np.testing.assert_array_equal, first, jax.tree.map(np.asarray, state.params))
    assert 0.1 < np.linalg.norm(first.W_enc[0]) < 0.9


def test_a_fitted_start_reconstructs_better_than_unit_lengths(configure, metrics):
    fitted_run, unit = configure("fitted", steps=1), configure("unit", steps=1, start_scale=1.0)
    train(fitted_run), train(unit)
    assert metrics(fitted_run)[0]["fvu"] < 0.8 * metrics(unit)[0]["fvu"]


@pytest.mark.parametrize("architecture", ["topk", "relu"])
def test_biases_start_at_the_mean_of_rows_that_are_not_centred(configure, rows, architecture):
    method = MethodConfig(width=64, k=4, architecture=architecture)
    setup = Setup.of(configure(method=method, normalize="none"))
    params = jax.tree.map(np.asarray, setup.fresh_state().params)
    np.testing.assert_allclose(params.b_dec, rows.mean(0), rtol=1e-4, atol=1e-6)
    wanted = -params.W_enc @ params.b_dec if architecture == "relu" else np.zeros(64)
    np.testing.assert_allclose(params.b_enc, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "why"),
    [(lambda x: x * 0 + x[0], "are all equal"), (lambda x: x[:63], "63 finite rows, fewer than 64")],
    ids=["equal rows", "few rows"],
)
def test_a_start_that_rows_do_not_give_says_so_and_takes_random_vectors(configure, own_store, rows, change, why):
    store = own_store(change(rows))
    setup = Setup.of(configure(store=store, normalize="none", holdout_rows=0, batch_size=8, mesh=(1, 1)))
    told = []
    params = setup.fresh_state(told.append).params
    assert why in told[0] and "random unit vectors" in told[0]
    assert 0.1 < np.linalg.norm(params.W_enc[0]) < 1


@pytest.mark.parametrize("scale", [1e-20, 1e17], ids=str)
def test_the_start_does_not_depend_on_the_rows_magnitude(configure, own_store, rows, scale):
    near_one, told = Setup.of(configure(normalize="none")), []
    far = Setup.of(configure(store=own_store(rows * np.float32(scale)), normalize="none"))
    wanted = near_one.fresh_start(told.append)
    found = far.fresh_start(told.append)
    np.testing.assert_allclose(found[0].params.W_enc, wanted[0].params.W_enc, rtol=2**-8)
    assert found[1] == pytest.approx(wanted[1], rel=1e-4) and "fitted to" in told[2]


def test_a_default_rate_that_the_rows_are_not_made_for_is_warned_of(configure, own_store, rows):
    store, told = own_store(rows + 1000), []
    for flags in (
        {"learning_rate": None},
        {"learning_rate": 1e-3},
        {"learning_rate": None, "normalize": "center_scale"},
    ):
        Setup.of(configure(store=store, **{"normalize": "scale", **flags})).fresh_state(told.append)
    warned = [line for line in told if "learning rate" in line]
    assert ["WARNING" in line for line in warned] == [True, False, False]
    assert "--normalize=scale these vary by 0.00" in warned[0]


def test_a_run_that_ends_worse_than_it_began_is_told_so(configure, capsys):
    ends = []
    for name, rate in (("high", 3.0), ("low", 3e-3)):
        config = configure(name, learning_rate=rate)
        train(config)
        ends.append(capsys.readouterr().err.splitlines()[-1])
    assert ["worse than the start" in line for line in ends] == [True, False]
    assert "try a lower --learning_rate" in ends[0]
    start = read_metadata(Path(config.workdir, "checkpoints"))[1]["start_fvu"]  # of the run, whoever goes on with it
    assert start == Setup.of(config).fresh_start()[1] > 0


def test_the_sample_is_spread_over_the_rows_and_leaves_out_nan():
    def read(ranges):
        rows = np.concatenate([np.arange(*r, dtype=np.float32) for r in ranges])[:, None] * np.ones((1, 2), np.float32)
        return np.where(rows % 10 == 0, np.nan, rows)

    found = sample(read, [(0, 50_000), (60_000, 110_000)])[:, 0]
    assert np.isfinite(found).all() and 0.85 < len(found) / 4096 < 0.95 and len(set(found)) == len(found)
    assert found.min() < 300 and found.max() > 103_000 and not ((found > 50_000) & (found < 60_000)).any()


def test_relu_under_a_fixed_weight_starts_small_and_as_long_as_its_decoder(configure):
    told = []
    method = MethodConfig(width=64, architecture="relu", target_l0=0.0)
    params = Setup.of(configure(method=method)).fresh_state(told.append).params
    np.testing.assert_array_equal(params.W_enc, params.W_dec)
    np.testing.assert_allclose(np.linalg.norm(params.W_dec, axis=1), 0.1, rtol=1e-5)
    assert "times 1, as relu is made" in told[0]


def test_a_start_scale_is_taken_as_it_is_given(configure):
    params = Setup.of(configure(start_scale=0.25)).fresh_state().params
    np.testing.assert_allclose(np.linalg.norm(params.W_enc, axis=1), 0.25, rtol=1e-5)
    for scale in (0.0, 1e-45, 1e6):
        with pytest.raises(InputError, match=rf"--start_scale={scale}"):
            configure(start_scale=scale)
    with pytest.raises(InputError, match="does nothing with --initialize_from"):
        configure(start_scale=0.5, initialize_from="run")
