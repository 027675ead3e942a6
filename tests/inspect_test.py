"""`jaxsae inspect` of runs: the dictionary in a line."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.inspect import InspectConfig, inspect
from jaxsae.training import TrainConfig, save_dictionary, train

D, WIDTH = 4, 16


@pytest.fixture
def make_run(tmp_path):
    """make_run(architecture) -> the directory of a run with a dictionary of that method."""

    def make(architecture: str) -> str:
        rows = np.random.default_rng(0).normal(size=(WIDTH, D)).astype(np.float32)
        params = Params.of(rows, np.zeros(WIDTH, np.float32), rows, np.zeros(D, np.float32))
        config = MethodConfig(width=WIDTH, architecture=architecture, k=3)
        save_dictionary(tmp_path / "run", Dictionary(params, config, {"site": "resid_post.1"}, threshold=1.25))
        return str(tmp_path / "run")

    return make


@pytest.mark.parametrize(
    ("architecture", "line"),
    [
        ("topk", "is        topk, 16 latents, d_model 4, k 3"),
        ("batchtopk", "is        batchtopk, 16 latents, d_model 4, k 3, threshold 1.25"),
        ("relu", "is        relu, 16 latents, d_model 4, k 3"),
    ],
)
def test_a_run_is_told_in_a_line_with_what_its_method_has(architecture, line, make_run, capsys):
    text = inspect(InspectConfig(make_run(architecture)))
    assert line in text.splitlines() and "site      resid_post.1" in text
    assert capsys.readouterr().out == text + "\n"


def test_the_headline_of_an_evaluation_leaves_out_what_the_dictionary_is(make_run):
    path = Path(make_run("batchtopk"))
    (path / "eval").mkdir()
    figures = {"architecture": "batchtopk", "width": 16, "k": 3, "threshold": 1.25, "trained_tokens": 9, "fvu": 0.5}
    (path / "eval" / "reconstruction.json").write_text(json.dumps(figures))
    assert inspect(InspectConfig(str(path))).splitlines()[-1] == "eval      reconstruction: fvu 0.5"


def test_verify_reads_everything_and_names_a_damaged_file(tmp_path, make_run):
    store = str(tmp_path / "s")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(600, D)).astype(np.float32))
    harvest(
        HarvestConfig(source="arrays", store=store, input=(str(tmp_path / "x.npy"),), shard_rows=256, chunk_rows=64)
    )
    assert inspect(InspectConfig(store, verify=True)).splitlines()[-1] == "verified  600 rows of activations"
    shard = tmp_path / "s" / "sites" / "activations" / "activations" / "c" / "1" / "0"
    data = bytearray(shard.read_bytes())
    data[40] ^= 1
    shard.write_bytes(data)
    assert inspect(InspectConfig(store))
    with pytest.raises(InputError, match="c/1/0 is damaged"):
        inspect(InspectConfig(store, verify=True))
    assert (
        inspect(InspectConfig(make_run("topk"), verify=True)).splitlines()[-1] == "verified  the dictionary of step 0"
    )


def test_a_path_with_nothing_there_is_not_taken_for_a_store():
    with pytest.raises(InputError, match="nothing there"):
        inspect(InspectConfig("no/such/place"))


@pytest.mark.parametrize("kind", ["transcoder", "crosscoder"])
def test_a_threshold_is_in_the_units_of_what_is_written(kind, tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(256, 2 * D)).astype(np.float32) * np.repeat([1.0, 20.0], D).astype(np.float32)
    for site, part in (("a", rows[:, :D]), ("b", rows[:, D:])):
        np.save(tmp_path / f"{site}.npy", part)
    files = tuple(f"{site}={tmp_path / site}.npy" for site in "ab")
    harvest(HarvestConfig(store=str(tmp_path / "store"), source="arrays", input=files, shard_rows=64, chunk_rows=32))
    writes = ("b",) if kind == "transcoder" else ()
    method = MethodConfig(width=WIDTH, architecture="batchtopk", k=3, transcode=bool(writes))
    config = TrainConfig(
        store=str(tmp_path / "store"),
        workdir=str(tmp_path / "set" / "run"),
        reads=("a",) if writes else ("a", "b"),
        writes=writes,
        batch_size=32,
        tokens=128,
        mesh=(1, 8),
        method=method,
    )
    dictionary = train(config)
    inspect(InspectConfig(path=config.workdir))
    told = capsys.readouterr().out
    assert f"threshold {dictionary.threshold:.6g}" in told


def test_a_set_is_told_run_by_run_with_what_is_left(make_run, tmp_path, capsys):
    make_run("topk")
    (tmp_path / "each.flags").write_text("# jaxsae train\n")
    (tmp_path / "run" / "config.flags").write_text(
        "--store=s\n--workdir=w\n--width=16\n--k=3\n--tokens=8192\n--batch_size=4096\n"
    )
    inspect(InspectConfig(path=str(tmp_path)))
    told = capsys.readouterr().out
    assert f"set       {tmp_path}" in told and "left      run (step 0 of 2)" in told
    assert f"run       {tmp_path / 'run'}" in told and "topk, 16 latents" in told
