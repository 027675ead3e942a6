"""Rows of a flax nnx model are those that its own call reads, on one device or several."""

import subprocess
import sys
import types

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.harvest import HarvestConfig, NNXModel, harvest
from jaxsae.harvest.text_config import TextConfig
from jaxsae.lm.gpt import GPTConfig, init

SMALL = GPTConfig(vocabulary=40, context=24, layers=2, d_model=16, heads=2)
SITES = ("embed", "resid_post.1")


@pytest.fixture
def module(monkeypatch):
    """A module with a function that builds a model."""

    def build() -> NNXModel:
        return NNXModel(init(SMALL, 0), lambda model, tokens, sites: model(tokens, read=sites)[1], SITES, 40, 24)

    made = types.ModuleType("my_model")
    made.build, made.other = build, lambda: 3
    monkeypatch.setitem(sys.modules, "my_model", made)
    return made


@pytest.fixture
def ids(tmp_path):
    ids = np.random.default_rng(0).integers(0, 40, (30, 20))
    ids[4, 15:] = -1
    np.save(tmp_path / "ids.npy", ids)
    return ids


def config(tmp_path, text="ids.npy", store="s", reading=None, **changes):
    small = dict(batch_size=8, shard_rows=128, chunk_rows=32, model="my_model:build")
    corpus = TextConfig(text=(str(tmp_path / text),), **(reading or {}))
    return HarvestConfig(store=str(tmp_path / store), source="nnx", corpus=corpus, **small | changes)


@pytest.mark.parametrize("mesh", [(1, 8), (8, 1)])
def test_rows_are_those_of_the_model(mesh, module, ids, tmp_path):
    store = harvest(config(tmp_path, mesh=mesh))
    assert store.rows == (ids >= 0).sum() and set(store.sites) == set(SITES)
    _, read = module.build().model(np.maximum(ids, 0).astype(np.int32), read=SITES)
    sequence, position = store.column("sequence", 0, store.rows), store.column("position", 0, store.rows)
    np.testing.assert_array_equal(store.column("tokens", 0, store.rows), ids[sequence, position])
    for site in SITES:
        np.testing.assert_allclose(
            store.read(site, 0, store.rows), np.asarray(read[site])[sequence, position], atol=1e-5
        )
    assert harvest(config(tmp_path, mesh=mesh)).complete


def test_text_with_a_tokenizer(module, make_model, text, tmp_path):
    tokenizer = make_model("llama")
    store = harvest(config(tmp_path, "stories.jsonl", reading={"tokenizer": tokenizer, "packing": False}))
    attributes = store.metadata("embed")
    assert attributes["tokenizer"] == tokenizer and attributes["context"] == 24
    assert attributes["settings"]["positions"]["dropped"]["special <s>"] == 60


def test_refuses(module, ids, text, tmp_path):
    for changes, words in [
        ({"model": "my_model"}, "give MODULE:FUNCTION"),
        ({"model": "no_such_module_here:build"}, "No module named 'no_such_module_here'"),
        ({"model": "my_model:absent"}, "has no absent"),
        ({"model": "my_model:other"}, "returned int"),
        ({"sites": ("resid_post.7",)}, "--sites=resid_post.7.*embed, resid_post.1"),
        ({"batch_size": 7}, "--batch_size=7: must be a multiple of the 8"),
        ({"text": "stories.jsonl"}, "--tokenizer="),
        ({"mesh": (3, 1)}, "--mesh=3,1"),
    ]:
        with pytest.raises(InputError, match=words):
            harvest(config(tmp_path, **changes))


def test_functions_that_give_something_else_are_told_apart(module, ids, tmp_path):
    model, sites = init(SMALL, 0), ("embed",)
    whole = lambda model, tokens, sites: model(tokens, read=sites)[1]
    given = lambda **changes: (
        lambda: NNXModel(**{"model": model, "read": whole, "sites": sites, "vocabulary": 40} | changes)
    )
    flat = lambda model, tokens, sites: {"embed": whole(model, tokens, sites)["embed"].reshape(-1, 16)}

    def needs(config):
        raise AssertionError

    def fails():
        raise RuntimeError("no such checkpoint")

    for function, words in [
        (needs, "needs config; give a function without arguments"),
        (fails, r"failed: RuntimeError at .*nnx_test.py:\d+: no such checkpoint"),
        (3, "my_model has no function build"),
        (given(model=3), r"NNXModel\(model=int\): must be a flax nnx.Module"),
        (given(read=None), "read=NoneType"),
        (given(sites="embed"), "sites='embed'.*a tuple of names"),
        (given(sites=()), "a tuple of names"),
        (given(vocabulary=0), "vocabulary=0"),
        (given(context=2.5), "context=2.5"),
        (given(vocabulary=30), "holds ids outside 0:30"),
        (given(context=10), "sequences of 20 tokens"),
        (given(read=lambda *_: {"mlp": 1}), "gives mlp, and not embed"),
        (given(read=lambda *_: 3), "gives int, not {site"),
        (given(read=flat), r"reads \[160, 16\] for tokens \[8, 20\]; it needs to be \[B, T, d_model\]"),
        (given(read=lambda m, tokens, s: {"embed": tokens[..., None]}), "reads int32; activations are floats"),
        (
            given(read=lambda m, tokens, s: 1 / 0),
            r"its read failed on tokens int32 \[8, 20\]: ZeroDivisionError at .*nnx_test",
        ),
        (
            given(read=lambda m, t, s: {"embed": 1e6 * whole(m, t, s)["embed"]}),
            "Site embed: Inf or NaN .*float16.*bfloat16",
        ),
    ]:
        module.build = function
        with pytest.raises(InputError, match=words):
            harvest(config(tmp_path, dtype="float16"))


def test_torch_is_not_imported_where_it_is_not_needed():
    parts = "harvest.nnx", "training", "evaluate.splice", "evaluate.reconstruction", "exchange", "inspect", "benchmark"
    code = f"import {', '.join('jaxsae.' + part for part in parts)}, sys\n"
    code += "from jaxsae.training.metrics import _tensorboard; _tensorboard(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
