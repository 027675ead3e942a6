"""`jaxsae inspect` of runs: the dictionary in a line."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.harvest import HarvestConfig, harvest
from jaxsae.inspect import InspectConfig, inspect
from jaxsae.training import save_dictionary

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
