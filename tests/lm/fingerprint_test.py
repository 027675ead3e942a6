"""A fingerprint is of every weight and of what a model does with them, and of nothing else."""

import json
import shutil

import pytest

from jaxsae.lm import checkpoint
from jaxsae.lm.options import HFConfig
from jaxsae.lm.torch_lm import TorchLM


@pytest.fixture
def model(make_model, tmp_path):
    return shutil.copytree(make_model("llama"), tmp_path / "model")


def fingerprint(path, **options):
    return checkpoint.find(str(path), HFConfig(**options)).fingerprint


def test_the_same_in_another_place_in_parts_and_in_another_dtype(model, tmp_path, transformers):
    mark = fingerprint(model)
    assert mark == fingerprint(model, model_dtype="bfloat16")
    lm = TorchLM.of(str(model), HFConfig(model_dtype="float16"))
    assert lm.dtype == "float16" and lm.checkpoint.fingerprint == mark
    parts = tmp_path / "parts"
    transformers.AutoModelForCausalLM.from_pretrained(model).save_pretrained(parts, max_shard_size="10KB")
    assert len(list(parts.glob("*.safetensors"))) > 1 and fingerprint(parts) == mark


def test_any_bit_and_any_setting_of_the_model_counts(model):
    mark = fingerprint(model)
    weights, settings = model / "model.safetensors", model / "config.json"
    whole, data = json.loads(settings.read_text()), bytearray(weights.read_bytes())
    for at in (-1, -1001, len(data) // 2, len(data) // 3):
        data[at] ^= 1
        weights.write_bytes(data)
        data[at] ^= 1
        assert fingerprint(model) != mark
    weights.write_bytes(data)
    settings.write_text(json.dumps(whole | {"rms_norm_eps": 1e-3}))
    assert fingerprint(model) != mark
    settings.write_text(json.dumps(whole | {"transformers_version": "9", "dtype": "float16"}))
    assert fingerprint(model) == mark
