"""A meta-SAE's rows are its source's decoder rows; what is not given follows from the source, and stays as it was begun."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae import cli
from jaxsae.config import read_flag_file
from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.inspect import describe_run
from jaxsae.store import open_store
from jaxsae.training import TrainConfig, load, save_dictionary, setup, source_flags, source_run, train
from jaxsae.training.checkpoint import read_metadata
from jaxsae.training.source_rows import unit_rows

N, D = 96, 16


@pytest.fixture(autouse=True)
def any_mesh_of_a_source(any_mesh, monkeypatch):
    """Lets the source too lie on fewer devices than there are."""
    monkeypatch.setattr(source_run, "make_mesh", lambda shape, devices=None: setup.make_mesh(shape))


def decoder(seed=0, dead=()):
    """float32 [96, 16]: rows of other lengths than 1; those of `dead` are 0."""
    rows = np.random.default_rng(seed).normal(size=(N, D)).astype(np.float32)
    rows[list(dead)] = 0
    return rows


def save_source(path, rows, architecture="relu", step=3):
    """An imported dictionary whose decoder is `rows`."""
    params = Params.of(W_enc=rows, b_enc=np.zeros(len(rows), np.float32), W_dec=rows, b_dec=np.zeros(D, np.float32))
    params = jax.tree.map(jnp.asarray, params)
    save_dictionary(path, Dictionary(params, MethodConfig(width=len(rows), architecture=architecture), {"step": step}))
    return str(path)


@pytest.fixture
def source(tmp_path):
    return save_source(tmp_path / "source", decoder())


@pytest.fixture
def flags(source, tmp_path):
    """flags(name, *more) -> the command of a short meta-SAE; later flags override."""

    def make(name="meta", *more):
        few = ["--batch_size=32", "--tokens=384", "--checkpoint_every=4", "--log_every=1", "--mesh=1,1"]
        return ["train", f"--source_run={source}", f"--workdir={tmp_path / name}", *few, *more]

    return make


def sums(run):
    return read_metadata(Path(run) / "checkpoints")[1]["sums"]


def refused(arguments, capsys):
    capsys.readouterr()
    assert cli.run(arguments) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_rows_are_the_decoder_rows_at_length_1_in_the_order_of_the_latents(flags, tmp_path):
    rows = decoder(dead=(5, 7))
    save_source(tmp_path / "with_zeros", rows)
    assert cli.run(flags("meta", f"--source_run={tmp_path / 'with_zeros'}")) == 0
    store = open_store(tmp_path / "meta" / "source_store")
    assert store.complete and store.sites == ("decoder",)
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    expected = np.divide(rows, norms, out=np.zeros((N, D)), where=norms > 0)
    np.testing.assert_allclose(store.read("decoder", 0, N), expected, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(store.column("position", 0, N), np.arange(N))


def test_defaults_follow_from_the_source_and_what_is_given_stays(source):
    expected = {"store": "", "architecture": "batchtopk", "width": 24, "k": 4, "holdout_rows": 0}
    expected |= {"batch_size": 8, "tokens": 32_000, "seed": 0}
    assert source_flags({"source_run": source}) == expected
    assert "k" not in source_flags({"source_run": source, "architecture": "rescaled"})
    assert source_flags({"source_run": source, "width": 3})["k"] == 3
    assert source_flags({"source_run": source, "batch_size": 32})["tokens"] == 4000 * 32


def test_the_flag_file_reproduces_the_run(flags, tmp_path):
    assert cli.run(flags("meta", "--architecture=topk")) == 0
    config = read_flag_file(tmp_path / "meta" / "config.flags", TrainConfig)
    assert (config.method.architecture, config.method.width, config.method.k, config.holdout_rows) == ("topk", 24, 4, 0)
    again = ["train", f"--flagfile={tmp_path / 'meta' / 'config.flags'}", f"--workdir={tmp_path / 'again'}"]
    assert cli.run(again) == 0
    assert sums(tmp_path / "again") == sums(tmp_path / "meta")
    train(dataclasses.replace(config, workdir=str(tmp_path / "from_python")))
    assert sums(tmp_path / "from_python") == sums(tmp_path / "meta")


def test_killed_and_resumed_it_ends_as_one_left_alone(flags, tmp_path):
    more = ["--checkpoint_every=25", "--log_every=5"]
    long = ["--tokens=9600", *more, "--mesh=1,8"]  # all that a process of its own has
    child = subprocess.Popen([sys.executable, "-m", "jaxsae", *flags("killed", *long)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed" / "checkpoints").glob("[0-9]*")):
        assert child.poll() is None and time.monotonic() < deadline, child.stderr.read().decode()
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert cli.run(flags("killed", *long)) == 0
    assert cli.run(flags("alone", *long)) == 0
    assert sums(tmp_path / "killed") == sums(tmp_path / "alone")


def test_a_store_that_was_cut_short_is_written_to_its_end(flags, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("jaxsae.store.writer.StoreWriter.write_shard", Mock(side_effect=KeyboardInterrupt))
        cli.run(flags())
    assert not (tmp_path / "meta" / "checkpoints").exists()
    assert cli.run(flags()) == 0
    assert open_store(tmp_path / "meta" / "source_store").complete


def test_it_does_not_go_on_with_other_rows(flags, source, tmp_path, capsys):
    assert cli.run(flags("meta", "--tokens=192")) == 0
    other = save_source(tmp_path / "other", decoder(1))
    moved = shutil.copytree(source, tmp_path / "moved")
    before = sums(tmp_path / "meta")
    message = refused(flags("meta", "--tokens=192", f"--source_run={other}"), capsys)
    assert f"--source_run={other}: has other rows" in message and "another --workdir" in message
    shutil.rmtree(tmp_path / "meta" / "source_store")  # the checkpoint knows as well
    assert "has other rows" in refused(flags("meta", "--tokens=192", f"--source_run={other}"), capsys)
    assert not (tmp_path / "meta" / "source_store").exists() and sums(tmp_path / "meta") == before
    assert cli.run(flags("meta", "--tokens=192", f"--source_run={moved}")) == 0  # the same rows elsewhere


@pytest.mark.parametrize("kind", ["random", "gaussian"])
def test_controls_are_other_directions_of_the_same_shape(flags, tmp_path, kind):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        assert cli.run(flags(name, f"--source_rows={kind}", f"--seed={seed}")) == 0
    rows = {
        name: open_store(tmp_path / name / "source_store").read("decoder", 0, N) for name in ("one", "same", "other")
    }
    np.testing.assert_array_equal(rows["one"], rows["same"])
    assert np.abs(rows["one"] - rows["other"]).max() > 0.1
    np.testing.assert_allclose(np.linalg.norm(rows["one"], axis=1), 1, atol=1e-6)
    assert f"{kind} " in describe_run(tmp_path / "one").lower()


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--source_run=/no/such/run"], ["--source_run=/no/such/run", "no such directory"]),
        (["--store=s"], ["--source_run=", "--store=s"]),
        (["--follow"], ["--follow", "--source_run"]),
        (["--width=25", "--mesh=1,2"], ["--width=25 does not divide"]),
        (["--batch_size=128", "--tokens=1280"], ["--batch_size=128", "96 rows", "Take a smaller batch"]),
        (["--site=other"], ["--site=other", "Leave the flag out"]),
        (["--k=200"], ["--k=200", "at most --width=24"]),
    ],
)
def test_bad_flags_are_refused_before_a_step(flags, tmp_path, capsys, more, parts):
    message = refused(flags("meta", *more), capsys)
    assert all(part in message for part in parts), message
    assert not (tmp_path / "meta").exists()


def test_rows_that_no_run_began_on_make_room(flags, source, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("jaxsae.training.loop.Setup.of", Mock(side_effect=KeyboardInterrupt))
        cli.run(flags())
    other = save_source(tmp_path / "other", decoder(1))
    assert cli.run(flags("meta", f"--source_run={other}")) == 0
    rows = open_store(tmp_path / "meta" / "source_store").read("decoder", 0, N)
    np.testing.assert_allclose(rows, unit_rows(decoder(1)), atol=1e-6)


def test_it_goes_on_with_its_own_rows_when_its_source_has_been_trained_on(flags, source, tmp_path, capsys):
    assert cli.run(flags("meta", "--tokens=192")) == 0
    shutil.rmtree(source)
    save_source(source, decoder(1), step=9)
    assert "of step 3, fingerprint" in refused(flags("meta", "--tokens=192", "--source_rows=random"), capsys)
    assert cli.run(flags("meta")) == 0
    assert "goes on with the rows that it was begun on (of step 3" in (told := capsys.readouterr().err)
    assert f"{source} is at step 9 by now" in told
    assert read_metadata(tmp_path / "meta" / "checkpoints")[0] == 12
    assert "step 3" in describe_run(tmp_path / "meta")


def test_what_is_no_source_is_refused_before_anything_is_written(flags, source, store, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "config.flags").write_text("--width=8\n")
    cases = {store: "is a store", tmp_path / "empty": "no dictionary here", begun: "no dictionary here"}
    cases |= {
        f"{source}/checkpoints/9": "no such directory",
        Path(source) / "checkpoints" / "3" / "dictionary": "no dict",
    }
    for place, says in cases.items():
        assert says in refused(flags("meta", f"--source_run={place}"), capsys)
    damaged = save_source(tmp_path / "damaged", np.where(np.arange(N)[:, None] == 4, np.nan, decoder()))
    assert "decoder row 4 holds NaN" in refused(flags("meta", f"--source_run={damaged}"), capsys)
    assert not (tmp_path / "meta").exists()
    for name in (f"--workdir={source}", f"--workdir={source}/checkpoints/.."):
        assert "a directory of its own" in refused(flags("meta", name), capsys)
    assert not (Path(source) / "config.flags").exists()


def test_a_run_of_another_kind_is_not_written_into(configure, flags, tmp_path, capsys):
    train(configure("run", steps=4))
    message = refused(flags("run"), capsys)
    assert "holds a run with another configuration" in message and "--source_run=" in message
    assert not (tmp_path / "run" / "source_store").exists()


def test_the_newest_checkpoint_or_the_one_that_is_named(configure, flags, tmp_path):
    config = configure("run", steps=8, ema_decay=0.0, seed=6)
    train(config)
    assert source_flags({"source_run": config.workdir})["seed"] == 7
    for step, name in ((8, f"{config.workdir}"), (4, f"{config.workdir}/checkpoints/4")):
        assert cli.run(flags(f"meta{step}", f"--source_run={name}", "--mesh=2,4")) == 0
        W_dec = np.asarray(load(name).params.W_dec, np.float64)
        rows = open_store(tmp_path / f"meta{step}" / "source_store").read("decoder", 0, len(W_dec))
        np.testing.assert_allclose(rows, W_dec / np.linalg.norm(W_dec, axis=1, keepdims=True), atol=1e-6)
        assert load(tmp_path / f"meta{step}").metadata["source_run"] == name
    assert f"of the decoder rows of {config.workdir}/checkpoints/4" in describe_run(tmp_path / "meta4")


def test_a_source_of_several_shards(flags, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxsae.training.source_rows.SHARD_ROWS", 1024)
    plan = source_run.SourceRows.plan
    short = lambda rows, step: dataclasses.replace(plan(rows, step), shard_rows=1024, chunk_rows=64)
    monkeypatch.setattr(source_run.SourceRows, "plan", short)
    rows = np.random.default_rng(0).normal(size=(2500, D)).astype(np.float32)
    wide = save_source(tmp_path / "wide", rows)
    assert cli.run(flags("meta", f"--source_run={wide}", "--width=32")) == 0
    store = open_store(tmp_path / "meta" / "source_store")
    assert store.completed_shards == [0, 1, 2]
    np.testing.assert_allclose(store.read("decoder", 0, 2500), unit_rows(rows), atol=1e-6)
