"""Rows of Hugging Face models are those of a plain forward pass with hooks, and lead back to their tokens."""

import dataclasses
import itertools
import shutil

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.harvest import harvest, hf
from jaxsae.harvest.hf import open_hf
from jaxsae.inspect import InspectConfig, inspect
from jaxsae.lm import sites
from jaxsae.lm.options import HFConfig
from jaxsae.lm.torch_lm import TorchLM
from jaxsae.store import open_store

D, LAYERS, CONTEXT = 16, 3, 24  # as in conftest.py
FAMILIES = ("gpt2", "llama", "neox", "gemma2", "qwen3", "bert")

# Where a plain forward pass has them: (module, its input?) in block 1, written out by hand.
MODULES = {
    "gpt2": ("transformer.h", "attn", "mlp", "mlp"),
    "llama": ("model.layers", "self_attn", "mlp", "mlp"),
    "neox": ("gpt_neox.layers", "attention", "mlp", "mlp"),
    "gemma2": ("model.layers", "post_attention_layernorm", "mlp", "post_feedforward_layernorm"),
    "qwen3": ("model.layers", "self_attn", "mlp", "mlp"),
    "bert": ("bert.encoder.layer", "attention.output.dense", "intermediate", "output.dense"),
}
NAMES = tuple(f"{name}.1" for name in sites.NAMES)


def plain_pass(transformers, directory, family, tokens, there):
    """{site: [B, T, D]} of block 1 and `embed`, by hooks of this test alone."""
    import torch

    auto = transformers.AutoModelForMaskedLM if family == "bert" else transformers.AutoModelForCausalLM
    model = auto.from_pretrained(directory).eval()
    blocks, attention, mlp, after = MODULES[family]
    out, first = {}, lambda x: x[0] if isinstance(x, tuple) else x

    def keep(site, x):
        out[site] = x.detach().clone().numpy()

    def hook(path, site, is_input):
        module = model.get_submodule(f"{blocks}.{path}")
        if is_input:
            take = lambda _, args, kwargs: keep(site, args[0] if args else kwargs["hidden_states"])
            module.register_forward_pre_hook(take, with_kwargs=True)
        else:
            module.register_forward_hook(lambda _, args, value: keep(site, first(value)))

    for path, site, is_input in [
        ("0", "embed", True), ("1", "resid_pre.1", True), ("1", "resid_post.1", False),
        (f"1.{attention}", "attn_out.1", False), (f"1.{mlp}", "mlp_in.1", True), (f"1.{after}", "mlp_out.1", False),
    ]:  # fmt: skip
        hook(path, site, is_input)
    ids = torch.tensor(np.where(there, tokens, 0))
    masked = {} if there.all() else {"attention_mask": torch.tensor(there.astype(int))}
    with torch.no_grad():
        model(input_ids=ids, **masked)
    return out


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_those_of_a_plain_forward_pass(family, packing, transformers, make_model, configure):
    directory = make_model(family)
    source = open_hf(configure(directory, {"packing": packing}, sites=("embed", *NAMES)))
    table, plan = source.sequences, source.plan
    assert plan.sites == dict.fromkeys(("embed", *NAMES), D) and plan.rows == table.rows > 900
    shards = [source.shard(shard) for shard in range(plan.shards)]
    rows = {site: np.concatenate([a[site] for a, _ in shards]) for site in plan.sites}
    for number in range(0, table.batches, 5):
        tokens, there, kept = table.batch(number)
        row = table.batch_rows(number)[0]
        expected = plain_pass(transformers, directory, family, tokens, there)
        for site, x in expected.items():
            np.testing.assert_array_equal(rows[site][row : row + kept.sum()], x[kept], err_msg=f"{family} {site}")
    assert packing or not there.all()


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "bert"])
def test_what_attention_and_mlp_add_makes_the_stream(family, make_model, configure):
    source = open_hf(configure(make_model(family), sites=NAMES, tokens=100))
    x, _ = source.shard(0)
    total = x["resid_pre.1"] + x["attn_out.1"] + x["mlp_out.1"]
    np.testing.assert_allclose(total, x["resid_post.1"], atol=2e-5)
    assert np.abs(x["mlp_in.1"] - x["resid_pre.1"]).max() > 0.01


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("family", ["gpt2", "llama", "bert"])
def test_columns_lead_back_to_the_text(family, packing, transformers, make_model, configure, stories):
    directory = make_model(family)
    store = harvest(configure(directory, {"packing": packing}))
    tokens, sequence, position = (store.column(name, 0, store.rows) for name in ("tokens", "sequence", "position"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    around = {"gpt2": ([0], [], [0]), "llama": ([0], [], [0]), "bert": ([0], [1], [1])}[family]
    rows = expected_rows([tokenizer(s, add_special_tokens=False)["input_ids"] for s in stories], packing, *around)
    assert list(zip(tokens, sequence, position, strict=True)) == rows
    seen = store.metadata("resid_post.1")["settings"]["positions"]
    assert seen["seen"] == store.rows + sum(seen["dropped"].values())
    if not packing:
        assert seen["dropped"]["beyond the context"] > 0 and seen["dropped"]["padding"] > 0


def expected_rows(documents, packing, prefix, suffix, separator):
    """(token, sequence, position) of every row, token by token."""
    room, bodies = CONTEXT - len(prefix) - len(suffix), []
    if packing:
        body, count = [], 0
        for ids in documents:
            stream = ([None] * len(separator) if body and ids else []) + ids  # None: a separator
            for token in stream:
                body.append(token)
                if len(body) == room:
                    bodies.append((count, body))
                    body, count = [], count + 1
        bodies += [(count, body)] if body else []
    else:
        bodies = [(number, ids[:room]) for number, ids in enumerate(documents) if ids]
    return [
        (token, number, len(prefix) + at)
        for number, body in bodies
        for at, token in enumerate(body)
        if token is not None
    ]


def test_any_shard_alone_has_the_same_bits(make_model, configure):
    config = configure(make_model("llama"), sites=("resid_post.0", "resid_post.2"))
    whole, parts = open_hf(config), open_hf(config)
    every = [whole.shard(shard) for shard in range(whole.plan.shards)]
    for shard in reversed(range(0, whole.plan.shards, 2)):
        activations, columns = parts.shard(shard)
        for site, x in activations.items():
            np.testing.assert_array_equal(x, every[shard][0][site])
        for name, column in columns.items():
            np.testing.assert_array_equal(column, every[shard][1][name])


def test_the_pass_ends_after_the_last_site(make_model, configure, monkeypatch):
    loaded = []
    monkeypatch.setattr(hf, "TorchLM", lambda *args: loaded.append(TorchLM(*args)) or loaded[0])
    source = open_hf(configure(make_model("llama"), sites=("resid_post.0", "mlp_out.1"), tokens=50))
    model, calls = loaded[0].model, []
    for layer, block in enumerate(model.model.layers):
        block.register_forward_hook(lambda *_, layer=layer: calls.append(layer))
        block.mlp.register_forward_pre_hook(lambda *_, layer=layer: calls.append(f"mlp {layer}"))
    source.shard(0)
    assert calls and set(calls) == {"mlp 0", 0, "mlp 1"} and len(calls) % 3 == 0
    assert model.lm_head._forward_hooks == {} and not model.model.layers[0].mlp._forward_hooks


def test_module_paths(make_model, configure):
    names = ("model.layers.1", "model.layers.2.input", "model.layers.0.mlp.down_proj", "lm_head")
    source = open_hf(configure(make_model("llama"), sites=("resid_post.1", "mlp_out.0", *names), tokens=60))
    assert source.plan.sites["lm_head"] == 40
    x, _ = source.shard(0)
    for same in ("model.layers.1", "model.layers.2.input"):
        np.testing.assert_array_equal(x[same], x["resid_post.1"])
    np.testing.assert_array_equal(x["model.layers.0.mlp.down_proj"], x["mlp_out.0"])


def test_every_family_has_every_name(make_model):
    every = ["embed", *(f"{name}.{layer}" for layer, name in itertools.product(range(LAYERS), sites.NAMES))]
    for family in FAMILIES:
        assert sites.site_names(TorchLM.of(make_model(family), HFConfig()).model) == every


def test_reading_options(make_model, configure):
    llama, gpt2 = make_model("llama"), make_model("gpt2")
    bare = open_hf(configure(gpt2, {"bos": "never"})).sequences
    assert bare.batch(0)[2][0, 0] and open_hf(configure(gpt2)).sequences.batch(0)[0][0, 0] == 0
    skipped = open_hf(configure(llama, {"skip_positions": 3})).plan.settings["positions"]
    assert skipped["dropped"]["first positions"] > 100
    last = open_hf(configure(llama, {"documents": "-3:", "packing": False}))
    assert list(last.sequences.numbers) == [59, 60, 61] and last.plan.settings["documents_read"] == "59:62"
    few = open_hf(configure(llama, tokens=70)).plan
    assert few.rows == 70 and few.settings["positions"]["dropped"]["not asked for"] < CONTEXT


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_models_and_stores(dtype, make_model, configure, tmp_path):
    directory = make_model("llama")
    config = configure(directory, tokens=200)
    exact = harvest(config).read("resid_post.1", 0, 200)
    narrow = harvest(dataclasses.replace(config, store=str(tmp_path / "n"), dtype=dtype)).read("resid_post.1", 0, 200)
    assert narrow.dtype.name == dtype
    np.testing.assert_array_equal(narrow, exact.astype(narrow.dtype))
    low = dataclasses.replace(config, store=str(tmp_path / "m"), hf=dataclasses.replace(config.hf, model_dtype=dtype))
    found = harvest(low).read("resid_post.1", 0, 200)
    assert 0 < np.abs(found - exact).max() < 0.3
    assert open_store(low.store).metadata("resid_post.1")["settings"]["model_dtype"] == dtype


def test_another_model_tokenizer_or_context_is_refused(make_model, configure):
    config = configure(make_model("llama"), tokens=100)
    harvest(config)
    for change, words in [
        ({"model": make_model("qwen3")}, "--model=.* in the store, .* asked. Give"),
        ({"corpus": dataclasses.replace(config.corpus, tokenizer=make_model("gemma2"))}, "--tokenizer=.* asked. Give"),
        ({"corpus": dataclasses.replace(config.corpus, context=20)}, "--context=24 in the store, 20 asked. Give"),
        ({"corpus": dataclasses.replace(config.corpus, documents="1:")}, "--documents= in the store, 1: asked. Give"),
        ({"batch_size": 5}, "--batch_size=4 in the store, 5 asked. Give"),
    ]:
        with pytest.raises(InputError, match=f"begun with other settings: {words}"):
            harvest(dataclasses.replace(config, **change))


def test_moved_models_and_texts_continue_a_store_and_changed_ones_do_not(make_model, configure, text, tmp_path):
    config = configure(make_model("llama"), tokens=500)
    harvest(config)
    (tmp_path / "s/tokens/c/2").unlink()  # one shard is missing
    moved, other = tmp_path / "moved", tmp_path / "elsewhere.jsonl"
    shutil.copytree(config.model, moved)
    shutil.copy(text, other)
    there = dataclasses.replace(config, model=str(moved), corpus=dataclasses.replace(config.corpus, text=(str(other),)))
    assert harvest(there).complete
    weights = moved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1  # one bit of one weight
    weights.write_bytes(data)
    with pytest.raises(InputError, match=f"--model=.* in the store, {moved} asked. Give"):
        harvest(there)


def test_inspect_counts_what_gave_no_row(make_model, configure, stories):
    config = configure(make_model("llama"), {"packing": False, "skip_positions": 2})
    store = harvest(config)
    dropped = store.metadata("resid_post.1")["settings"]["positions"]["dropped"]
    text = inspect(InspectConfig(config.store))
    assert set(dropped) == {"special <s>", "first positions", "padding", "beyond the context"}
    for reason, count in dropped.items():
        assert f"{reason} {count:,}" in text
    assert "norm " in text and "tokenizer " in text
    documents = [len(story) for story in stories if story]
    assert dropped["special <s>"] == len(documents) and dropped["first positions"] == len(documents)
    assert dropped["beyond the context"] == sum(max(0, n - (CONTEXT - 1)) for n in documents)
