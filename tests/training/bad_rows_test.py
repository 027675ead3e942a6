"""Rows with NaN or Inf: they stop a run and are named, or are left out and counted, and change nothing."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxsae import cli
from jaxsae.config import to_flag_lines
from jaxsae.store import Batches, open_store
from jaxsae.store.writer import open_array
from jaxsae.training import setup, train
from jaxsae.training.checkpoint import Checkpoints
from jaxsae.training.taken import held_out


def poison(url, config, step, values=(np.nan, np.inf)):
    """Puts NaN and Inf into two rows of the batch of a step (from 0); returns these rows."""
    store = open_store(url)
    rows = (0, store.rows - held_out(store.rows, None))
    chosen = sorted(Batches(store, "activations", config.batch_size, config.seed, rows=rows).rows_of(step)[[3, 40]])
    array = open_array(url, "sites/activations/activations")
    for row, value in zip(chosen, values, strict=True):
        array[int(row), 2] = value
    return chosen


def test_rows_with_nan_stop_the_run_and_are_named_until_skipping_is_asked_for(configure, own_store, refused, metrics):
    url = own_store()
    config = configure(store=url)
    rows = poison(url, config, step=7)  # the eighth step, after which a checkpoint is due
    for _ in range(2):  # the second time from the checkpoint
        message = refused(config)
        assert f"step 8: 2 of 64 rows hold NaN or Inf (rows {rows[0]}, {rows[1]} of {url}" in message
        assert "The weights are those of step 7" in message and "--on_nan=skip" in message
    assert cli.run(["train", *to_flag_lines(config), "--on_nan=skip"]) == 0
    assert metrics(config)[-1]["skipped_batches"] == 1


def test_skipped_batches_are_counted_and_change_nothing(configure, own_store, newest_state, metrics):
    clean, url = configure("clean", checkpoint_every=1, keep_checkpoints=20), own_store()
    config = configure(store=url, on_nan="skip", checkpoint_every=1, keep_checkpoints=20)
    poison(url, config, step=5)
    train(clean)
    assert np.isfinite(train(config).params.W_enc).all()
    lines, expected = metrics(config), metrics(clean)
    assert lines[:5] == expected[:5]
    assert lines[5]["loss"] is None and [line["skipped_batches"] for line in lines] == [0] * 5 + [1] * 7
    assert all(np.isfinite(line["loss"]) for line in lines[6:])
    states = {}
    with Checkpoints(Path(config.workdir) / "checkpoints", config.keep_checkpoints) as checkpoints:
        abstract = setup.Setup.of(config).abstract
        for step in (5, 6, 7):
            states[step] = checkpoints.restore(step, abstract)
    np.testing.assert_array_equal(states[5].params.W_enc, states[6].params.W_enc)
    np.testing.assert_array_equal(states[5].moments.nu.b_dec, states[6].moments.nu.b_dec)
    np.testing.assert_array_equal(states[5].since_fired, states[6].since_fired)
    assert not np.array_equal(states[6].params.W_enc, states[7].params.W_enc)
    assert [int(states[s].skipped) for s in (5, 6, 7)] == [0, 1, 1] and int(states[7].step) == 7


def test_metrics_are_strict_json(configure, own_store):
    url = own_store()
    config = configure(store=url, on_nan="skip", steps=4)
    poison(url, config, step=1)
    train(config)
    no_constant = lambda name: pytest.fail(f"{name} is not JSON")
    for line in Path(config.workdir, "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=no_constant)
