"""Models, texts and sites that cannot be used are refused in one line, before long work starts."""

import dataclasses
import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.harvest import harvest
from jaxsae.harvest.hf import open_hf
from jaxsae.lm import checkpoint, load_torch
from jaxsae.lm.options import HFConfig


@pytest.fixture
def no_hub(monkeypatch, transformers):
    """A hub that nobody answers for."""
    from huggingface_hub import constants

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_HUB_OFFLINE", "")
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield


@pytest.fixture
def broken(make_model, tmp_path):
    """broken(change) -> a copy of a model's directory after `change(path)`."""

    def make(change, family="llama") -> str:
        path = tmp_path / f"model{len(list(tmp_path.iterdir()))}"
        shutil.copytree(make_model(family), path)
        change(path)
        return str(path)

    return make


def test_a_model_or_data_set_that_cannot_be_found(no_hub, configure, make_model):
    with pytest.raises(
        InputError, match=r"--model=no/such: no model.*127\.0\.0\.1.*cannot be reached.*Give a directory"
    ):
        open_hf(configure("no/such"))
    config = configure(make_model("llama"), {"text": ("no/such",)})
    with pytest.raises(InputError, match=r"--text=no/such: no text.*Give text or \.jsonl files"):
        open_hf(config)
    with pytest.raises(InputError, match=r"--tokenizer=no/such.*tokenizer\.json"):
        open_hf(configure(make_model("llama"), {"tokenizer": "no/such"}))


def test_directories_without_a_safe_model(configure, broken):
    def pickled(path):
        (path / "model.safetensors").rename(path / "pytorch_model.bin")

    def coded(path):
        config = json.loads((path / "config.json").read_text())
        config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}}
        (path / "config.json").write_text(json.dumps(config))
        (path / "mine.py").write_text("raise SystemExit('ran')")

    def cut(path):
        data = (path / "model.safetensors").read_bytes()
        (path / "model.safetensors").write_bytes(data[:-50])

    def partial(path):
        from safetensors.numpy import load_file, save_file

        tensors = load_file(path / "model.safetensors")
        del tensors["model.layers.1.mlp.up_proj.weight"]
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})

    for change, words in [
        (pickled, "pytorch_model.bin, which may run code"),
        (coded, "--trust_remote_code"),
        (cut, "damaged or cut short.*Get them anew"),
        (partial, "lack weights, model.layers.1.mlp.up_proj.weight"),
        (lambda path: (path / "config.json").unlink(), "no config.json"),
        (lambda path: (path / "model.safetensors").unlink(), "no weights"),
    ]:
        with pytest.raises(InputError, match=f"--model=.*{words}"):
            open_hf(configure(broken(change)))
    with pytest.raises(InputError, match="no such directory"):
        open_hf(configure("./nowhere"))
    with pytest.raises(InputError, match="--model=.*brings no tokenizer.*by --tokenizer"):
        open_hf(configure(broken(lambda path: (path / "tokenizer.json").unlink())))


def test_sites(configure, make_model):
    llama = make_model("llama")
    names = "This model has: embed, resid_pre.0 to resid_pre.2"
    for name in ("resid_post.3", "resid_mid.0", "nothing"):
        with pytest.raises(InputError, match=f"--sites={name}: no such site. {names}"):
            open_hf(configure(llama, sites=(name,)))
    with pytest.raises(InputError, match="such as .*model.layers.1.mlp"):
        open_hf(configure(llama, sites=("model.layer.1.mlp",)))
    with pytest.raises(InputError, match="no such site. This model has: embed"):
        open_hf(configure(llama, sites=()))
    with pytest.raises(InputError, match="does not reach"):
        open_hf(configure(llama, sites=("model.layers",)))
    with pytest.raises(InputError, match=r"gives \[2, 3\] .*not \[2, 3, d_model\]"):
        open_hf(configure(llama, sites=("model.embed_tokens.input",)))


def test_contexts_and_rows(configure, make_model):
    for reading, changes, words in [
        ({"context": 65}, {}, "--context=65: the model takes 64"),
        ({"context": 1}, {}, "--context=1: has no room"),
        ({}, {"tokens": 10**6}, "--tokens=1000000: the text gives"),
        ({"documents": "900:"}, {}, "--documents=900:: holds none of the text's 62 documents"),
        ({"skip_positions": 24}, {}, "--skip_positions=24: leaves no row of sequences of 24 tokens"),
        (
            {"skip_positions": 50, "context": 60, "packing": False},
            {},
            "--skip_positions=50: leaves no row of the text.* 46 tokens",
        ),
    ]:
        with pytest.raises(InputError, match=words):
            open_hf(configure(make_model("llama"), reading, **changes))


def test_what_needs_no_weights_is_checked_before_they_are_read(configure, make_model, monkeypatch, tmp_path):
    def load(*_):
        raise AssertionError("weights were read")

    monkeypatch.setattr(load_torch, "load", load)
    (tmp_path / "list.jsonl").write_text('{"story": "x"}\n')
    for reading, words in [
        ({"text": (str(tmp_path / "absent.jsonl"),)}, "absent.jsonl: no such file"),
        ({"text": (str(tmp_path / "absent.npy"),)}, "absent.npy: no such file"),
        ({"text": (str(tmp_path / "list.jsonl"),)}, "line 1 has no field 'text', it has: story"),
        ({"text_split": "test"}, "--text_split=test: is for data sets, and --text=.* is a file"),
        ({"context": 65}, "--context=65"),
        ({"skip_positions": 24}, "--skip_positions=24"),
        ({"tokenizer": str(tmp_path / "nope")}, r"--tokenizer=.*nope: no such directory"),
    ]:
        with pytest.raises(InputError, match=words):
            open_hf(configure(make_model("llama"), reading))
    with pytest.raises(AssertionError, match="weights were read"):
        open_hf(configure(make_model("llama")))


def test_tokenizers(configure, make_model, bare_tokenizer):
    llama = make_model("llama")
    with pytest.raises(InputError, match="no special token .* to set documents apart.*--packing=false"):
        open_hf(configure(llama, {"tokenizer": bare_tokenizer}))
    alone = open_hf(configure(llama, {"tokenizer": bare_tokenizer, "packing": False}))
    assert alone.sequences.batch(0)[2][0, 0] and not alone.plan.settings["prepend_bos"]
    with pytest.raises(InputError, match="--bos=always: the tokenizer has no BOS"):
        open_hf(configure(llama, {"tokenizer": make_model("bert"), "bos": "always"}))


def test_tokens_that_a_model_lacks_are_refused_where_they_come_up(configure, make_model, transformers, tmp_path):
    llama = make_model("llama")
    tokenizer = transformers.AutoTokenizer.from_pretrained(llama)
    tokenizer.add_tokens([*(f"<{i}>" for i in range(8)), "<image>"])
    assert len(tokenizer) > transformers.AutoConfig.from_pretrained(llama).vocab_size
    tokenizer.save_pretrained(tmp_path / "added")
    (tmp_path / "plain.jsonl").write_text('{"text": "abc"}\n')
    (tmp_path / "image.jsonl").write_text('{"text": "abc"}\n{"text": "a<image>b"}\n')
    reading = {"tokenizer": str(tmp_path / "added")}
    assert open_hf(configure(llama, reading | {"text": (str(tmp_path / "plain.jsonl"),)}, tokens=None)).plan.rows
    with pytest.raises(InputError, match="added: gives token 40 .'<image>'. and the model has 40: it is another"):
        open_hf(configure(llama, reading | {"text": (str(tmp_path / "image.jsonl"),)}, tokens=None))


def test_positions_that_padding_takes_are_no_context(transformers):
    plain = dict(max_position_embeddings=66, pad_token_id=1)
    context = lambda config: checkpoint.Checkpoint("", None, config, "masked", "").context
    assert context(transformers.RobertaConfig(**plain)) == 64
    assert context(transformers.BertConfig(**plain)) == 66


def test_empty_texts(configure, make_model, tmp_path):
    (tmp_path / "e.txt").write_text("")
    (tmp_path / "blank.txt").write_text("   \n\n")
    (tmp_path / "e.jsonl").write_text('{"text": ""}\n{"text": "  "}\n')
    for name in ("e.txt", "blank.txt", "e.jsonl"):
        with pytest.raises(InputError, match="--text: holds no text"):
            open_hf(configure(make_model("llama"), {"text": (str(tmp_path / name),)}))


def test_overflow_names_site_and_layer(configure, broken):
    from safetensors.numpy import load_file, save_file

    def loud(path):
        tensors = load_file(path / "model.safetensors")
        tensors["model.layers.1.mlp.down_proj.weight"] = 1e5 * tensors["model.layers.1.mlp.down_proj.weight"]
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})

    def torn(path):
        tensors = load_file(path / "model.safetensors")
        tensors["model.layers.1.mlp.down_proj.weight"][0, 0] = np.nan
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(InputError, match=r"Site resid_post.1 \(layer 1 of 3\): Inf or NaN in .* float32 .*weights"):
        harvest(configure(broken(torn), sites=("resid_post.1",)))
    config = configure(broken(loud), sites=("resid_post.0", "resid_post.1"))
    with pytest.raises(InputError, match=r"Site resid_post.1 \(layer 1 of 3\): Inf or NaN.*--model_dtype=bfloat16"):
        harvest(dataclasses.replace(config, hf=HFConfig(model_dtype="float16")))
    with pytest.raises(InputError, match=r"Site resid_post.1 \(layer 1 of 3\).*overflow the store's float16"):
        harvest(dataclasses.replace(config, store=config.store + "16", dtype="float16"))


def test_a_device_that_is_not_there(configure, make_model):
    config = configure(make_model("llama"))
    with pytest.raises(InputError, match="--device=nonsense"):
        open_hf(dataclasses.replace(config, hf=HFConfig(device="nonsense")))
    assert not Path(config.store).exists()


def test_token_ids_in_a_file(configure, make_model, tmp_path):
    ids = np.random.default_rng(0).integers(3, 30, (20, 12))
    ids[3, 7:] = -1
    np.save(tmp_path / "ids.npy", ids)
    source = open_hf(configure(make_model("llama"), {"text": (str(tmp_path / "ids.npy"),), "skip_positions": 1}))
    columns = [source.shard(shard)[1] for shard in range(source.plan.shards)]
    tokens = np.concatenate([c["tokens"] for c in columns])
    np.testing.assert_array_equal(tokens, ids[:, 1:][ids[:, 1:] >= 0])
    for bad, words in [
        (ids + 100, "outside 0:40"),
        (ids.astype(float), "holds float64"),
        (ids[0], r"holds int64 \[12\]"),
    ]:
        np.save(tmp_path / "bad.npy", bad)
        with pytest.raises(InputError, match=words):
            open_hf(configure(make_model("llama"), {"text": (str(tmp_path / "bad.npy"),)}))


def test_null_is_an_empty_document(make_model, configure, tmp_path):
    rows = []
    for name, middle in (("null", "null"), ("empty", '""')):
        path = tmp_path / f"{name}.jsonl"
        path.write_text('{"text": "one"}\n{"text": ' + middle + '}\n{"text": "two"}\n')
        rows.append(open_hf(configure(make_model("llama"), {"text": (str(path),), "packing": False})).sequences)
    assert list(rows[0].numbers) == list(rows[1].numbers) == [0, 2]
    assert rows[0].fingerprint() == rows[1].fingerprint()
