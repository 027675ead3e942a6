"""Plain safetensors: every kind of dictionary there and back, by the printed lines too, whole and in shards."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.exchange import describe_export, plain, ranges
from jaxsae.exchange.formats import read_any

N, D, K = 128, 48, 8
METHODS = ["topk", "multi_topk", "hierarchical_topk", "abstopk", "batchtopk", "matryoshka", "jumprelu"]
METHODS += ["jumprelu_tanh", "gated", "rescaled", "relu"]


def other(kind: str) -> Dictionary:
    """A transcoder with a top k and a map past it, a cross-layer transcoder of 2 layers, a crosscoder of 2 sites."""
    rng = np.random.default_rng(0)
    random = lambda *shape: jnp.asarray(rng.standard_normal(shape).astype(np.float32))
    if kind == "crosscoder":
        params = Params.of(W_enc=random(N, D), b_enc=random(N), W_dec=random(N, D), b_dec=random(D))
        return Dictionary(params, MethodConfig(N, "topk", K, site_widths=(20, 28)))
    if kind == "transcoder":
        params = Params.of(W_enc=random(N, D), b_enc=random(N), W_dec=random(N, 16), b_dec=random(16))
        params = params.replace(shared=params.shared | {"W_skip": random(16, D)})
        return Dictionary(params, MethodConfig(N, "topk", K, transcode=True, skip=True))
    own = np.arange(N) % 2
    rows = random(N, 2, 16) * (np.arange(2)[None] >= own[:, None])[..., None]
    params = Params.of(W_enc=random(N, D // 2), b_enc=random(N), W_dec=rows.reshape(N, 32), b_dec=random(32))
    metadata = {"reads": ["mlp_in.0", "mlp_in.1"], "writes": ["mlp_out.0", "mlp_out.1"]}
    return Dictionary(params, MethodConfig(N, "relu", transcode=True, layers=2), metadata)


@pytest.fixture
def make(make_dictionary, monkeypatch):
    monkeypatch.setattr(ranges, "ROWS", 16)
    monkeypatch.setattr(ranges, "BYTES", 1)
    return lambda kind: make_dictionary(kind) if kind in METHODS else other(kind)


@pytest.mark.parametrize("shard_bytes", [1e9, 2e4])
@pytest.mark.parametrize("kind", [*METHODS, "transcoder", "cross_layer", "crosscoder"])
def test_there_and_back_and_by_the_printed_lines(kind, shard_bytes, torch, make, x, tmp_path):
    dictionary = make(kind)
    plain.write(dictionary, tmp_path, shard_bytes=shard_bytes)
    assert {p.name for p in tmp_path.iterdir()} <= plain.FILES
    assert (tmp_path / plain.INDEX).is_file() == (shard_bytes < 1e6)
    back, known = read_any(tmp_path), dictionary.params
    if kind == "jumprelu_tanh":  # whose thresholds are now numbers, as of a jumprelu
        latent = dict(known.latent)
        latent["threshold"] = np.exp(latent.pop("log_threshold"))
        known = Params(latent, known.shared)
    assert back.threshold == dictionary.threshold and back.widths == dictionary.widths
    for part, there in ((back.params.latent, known.latent), (back.params.shared, known.shared)):
        assert sorted(part) == sorted(there)
        for name, array in there.items():
            np.testing.assert_array_equal(part[name], array, err_msg=name)
    found = {"x": torch.from_numpy(x)}
    exec(plain.snippet(tmp_path), found)
    expected = np.asarray(dictionary.reconstruct(x))
    error = np.linalg.norm(found["x_hat"].numpy() - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert np.median(error) < 1e-6 and (error < 1e-5).mean() > 0.9  # rounding decides what fires in some rows


def test_shards_hold_whole_tensors_as_hugging_face_has_them(make, tmp_path):
    dictionary = make("jumprelu")
    plain.write(dictionary, tmp_path, dtype="bfloat16", shard_bytes=4 * D * N)
    index = json.loads((tmp_path / plain.INDEX).read_text())
    files = sorted({*index["weight_map"].values()})
    assert files == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    loaded = {file: load_file(tmp_path / file) for file in files}
    assert {name: file for file, tensors in loaded.items() for name in tensors} == index["weight_map"]
    sizes = [sum(array.nbytes for array in tensors.values()) for tensors in loaded.values()]
    assert sum(sizes) == index["metadata"]["total_size"] and max(sizes) <= 4 * D * N
    assert loaded[files[0]]["W_enc"].shape == (D, N) and loaded[files[0]]["threshold"].dtype == np.float32
    assert "safetensors" in describe_export(tmp_path) and "bfloat16" in describe_export(tmp_path)


def test_an_imported_dictionary_has_its_method(make, tmp_path):
    dictionary = make("matryoshka")
    config = dataclasses.replace(dictionary.config, prefixes=(16, 64, N))
    plain.write(dataclasses.replace(dictionary, config=config), tmp_path)
    back = plain.read(tmp_path)
    assert back.config.prefixes == (16, 64, N) and back.config.k == K
    assert back.metadata["site"] == "resid_post.2" and back.metadata["imported_from"] == "safetensors"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version = 2, only 1 .* a later jaxsae wrote it"),
        ({"model_type": "llama"}, "another tool"),
        ({"architecture": "attention"}, "architecture = 'attention'; jaxsae reads topk"),
        ({"d_sae": 64}, "d_sae = 64, only 128"),
        ({"architecture": "topk"}, "are threshold, and those of a topk none"),
        ({"k": "many"}, "does not describe a dictionary|k=many"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message, make, tmp_path):
    plain.write(make("jumprelu"), tmp_path)
    path = tmp_path / plain.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=message):
        plain.read(tmp_path)


def test_an_index_cannot_name_files_elsewhere(make, tmp_path):
    plain.write(make("topk"), tmp_path, shard_bytes=2e4)
    index = json.loads((tmp_path / plain.INDEX).read_text())
    index["weight_map"]["W_enc"] = "../other.safetensors"
    (tmp_path / plain.INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match="weight_map must name files such as model-00001-of-00002"):
        plain.read(tmp_path)
    (tmp_path / plain.INDEX).unlink()
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        plain.read(tmp_path)
