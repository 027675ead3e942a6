"""Gemma Scope's files, old and new: what its readers in SAELens and circuit-tracer make of them we make, too, and back."""

import json

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.exchange import ExportConfig, ImportConfig, describe_export, export, gemma_scope, import_
from jaxsae.exchange.files import read_safetensors, write_safetensors
from jaxsae.exchange.formats import find, read_any
from jaxsae.training import load, save_dictionary

D, N, ROWS = 48, 128, 64
FOLDER = "models--google--gemma-scope-2b-pt-res/snapshots/0/layer_20/width_16k/average_l0_17"


def arrays(d_out: int = D, seed: int = 0, past: bool = False) -> dict[str, np.ndarray]:
    """Random ones as Gemma Scope names and lays them; latents below their thresholds are plenty."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: (0.2 * rng.standard_normal(shape)).astype(np.float32)
    found = {"W_enc": draw(D, N), "b_enc": draw(N), "W_dec": draw(N, d_out), "b_dec": draw(d_out)}
    found["threshold"] = rng.uniform(60, 150, N).astype(np.float32)
    return found | ({"affine_skip_connection": draw(D, d_out)} if past else {})


def as_new(old: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.lower(): array for name, array in old.items()}


@pytest.fixture
def saelens_reads(package, torch, monkeypatch):
    """saelens_reads(loader, repository, directory, folder, **config) -> what SAELens makes of files on the disk."""
    package("sae_lens")
    from sae_lens import SAE
    from sae_lens.loading import pretrained_sae_loaders as loaders

    def read(name, repository, directory, folder, **more):
        local = lambda repo_id, filename, subfolder="", **_: str(directory / filename.split("/")[-1])
        monkeypatch.setattr(loaders, "hf_hub_download", local)
        shapes = lambda repo, file: {n: a.shape for n, a in read_safetensors(directory / file.split("/")[-1]).items()}
        monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", shapes)
        config, state, _ = getattr(loaders, name)(repository, folder, cfg_overrides=more)
        sae = SAE.from_dict(loaders.handle_config_defaulting(config))
        sae.load_state_dict(state)
        return sae

    return read


def reconstructed(sae, x) -> np.ndarray:
    import torch

    with torch.no_grad():
        return sae(torch.from_numpy(x)).numpy()


def test_params_npz_is_what_saelens_reads(saelens_reads, x, relative, tmp_path):
    source = tmp_path / FOLDER
    source.mkdir(parents=True)
    old = arrays()
    np.savez(source / "params.npz", **old)
    sae = saelens_reads(
        "gemma_2_sae_huggingface_loader", "google/gemma-scope-2b-pt-res", source, FOLDER, d_in=D, d_sae=N
    )
    dictionary = read_any(source)
    z = np.asarray(dictionary.encode(x).dense(N))
    pre = x @ old["W_enc"] + old["b_enc"]
    assert ((pre > 0) & (pre <= old["threshold"])).mean() > 0.1 and ((z > 0) == (pre > old["threshold"])).all()
    assert relative(np.asarray(dictionary.reconstruct(x)), reconstructed(sae, x)) < 1e-5
    assert dictionary.config.architecture == "jumprelu" and dictionary.config.k == 17 and not dictionary.pre_bias
    assert (dictionary.metadata["model"], dictionary.metadata["site"]) == ("google/gemma-2-2b", "resid_post.20")
    np.testing.assert_array_equal(dictionary.params.latent["threshold"], old["threshold"])


@pytest.mark.parametrize(("site", "told"), [("", True), ("mlp_in.3->mlp_out.3", False)])
def test_a_transcoder_is_told_by_its_repository_or_by_its_site(
    site, told, x, relative, torch, circuit_tracer, tmp_path
):
    from circuit_tracer.transcoder.single_layer_transcoder import load_gemma_scope_transcoder

    name = FOLDER.replace("-res", "-transcoders").replace("layer_20", "layer_3") if told else "copied"
    source = tmp_path / name
    source.mkdir(parents=True)
    np.savez(source / "params.npz", **arrays())
    theirs = load_gemma_scope_transcoder(str(source / "params.npz"), 3)
    run = import_(ImportConfig(input=str(source), output=str(tmp_path / "run"), site=site))
    back = load(run)
    assert relative(np.asarray(back.reconstruct(x)), reconstructed(theirs, x)) < 1e-5
    assert back.config.transcode and back.metadata["reads"] == ["mlp_in.3"] and back.metadata["writes"] == ["mlp_out.3"]
    assert back.config.k == (17 if told else 32)


@pytest.mark.parametrize("kind", ["resid_post", "transcoder", "transcoder_affine"])
def test_params_safetensors_are_what_saelens_reads(kind, saelens_reads, x, relative, tmp_path):
    transcodes = kind != "resid_post"
    write_safetensors(tmp_path / "params.safetensors", as_new(arrays(past="affine" in kind)))
    config = {"architecture": "jump_relu", "model_name": "gemma-v3-270m-pt", "l0": 20}
    hook = "model.layers.9.pre_feedforward_layernorm.output" if transcodes else "model.layers.9.output"
    config |= {"hf_hook_point_in": hook}
    if transcodes:
        out = "model.layers.9.post_feedforward_layernorm.output"
        config |= {"hf_hook_point_out": out, "affine_connection": "affine" in kind}
    (tmp_path / "config.json").write_text(json.dumps(config))
    folder = f"{kind}/layer_9_width_16k_l0_small"
    sae = saelens_reads("gemma_3_sae_huggingface_loader", "google/gemma-scope-2-270m-pt", tmp_path, folder)
    assert find(tmp_path) == "gemma_scope"
    dictionary = read_any(tmp_path)
    assert relative(np.asarray(dictionary.reconstruct(x)), reconstructed(sae, x)) < 1e-5
    assert (dictionary.config.transcode, dictionary.config.skip) == (transcodes, "affine" in kind)
    assert dictionary.metadata["model"] == "google/gemma-3-270m-pt" and dictionary.config.k == 20
    assert dictionary.metadata["site"] == ("mlp_in.9->mlp_out.9" if transcodes else "resid_post.9")


@pytest.mark.parametrize("architecture", ["jumprelu", "batchtopk", "relu"])
def test_what_goes_out_saelens_reads_and_comes_back(
    architecture, make_dictionary, saelens_reads, x, relative, tmp_path
):
    dictionary = make_dictionary(architecture)
    save_dictionary(tmp_path / "run", dictionary)
    out = export(ExportConfig(str(tmp_path / "run"), "gemma_scope", str(tmp_path / "out")))
    sae = saelens_reads("gemma_3_sae_huggingface_loader", "google/gemma-scope-2-1b-pt", out, "resid_post/layer_2")
    expected = np.asarray(dictionary.reconstruct(x))
    assert relative(reconstructed(sae, x), expected) < 1e-5
    back = read_any(out)
    assert relative(np.asarray(back.reconstruct(x)), expected) < 1e-5 and back.metadata["site"] == "resid_post.2"
    if architecture == "jumprelu":
        for name, array in dictionary.params.latent.items():
            np.testing.assert_array_equal(back.params.latent[name], array)
    told = describe_export(out)
    assert "Gemma Scope" in told and f"trained as    {architecture}" in told and "latents       128" in told


HARM = [
    (lambda t: {n: a for n, a in t.items() if n != "threshold"}, "has no tensor 'threshold'"),
    (lambda t: t | {"threshold": t["threshold"][:-1]}, r"'threshold' has shape \[127\], expected \[128\]"),
    (lambda t: t | {"threshold": t["threshold"] * np.nan}, "thresholds from nan to nan, expected finite"),
    (lambda t: t | {"w_dec": t["w_dec"] * np.inf}, "values of W_dec are NaN or infinite"),
    (lambda t: t | {"w_dec": t["w_dec"].T}, "'w_dec' has shape"),
    (lambda t: t | {"w_dec": np.ones((N, 2, D))}, "crosscoder or of one layer of a cross-layer transcoder"),
    (lambda t: t | {"scaling_factor": np.float32(2)}, "scaling_factor is not 1 throughout"),
    (lambda t: t | {"affine_skip_connection": np.ones((D, D + 1))}, "'affine_skip_connection' has shape"),
]


@pytest.mark.parametrize("form", ["params.npz", "params.safetensors"])
@pytest.mark.parametrize(("harm", "says"), HARM, ids=[says[:20] for _, says in HARM])
def test_tensors_that_do_not_do_are_named_with_their_file(harm, says, form, tmp_path):
    tensors = harm(as_new(arrays()))
    if form == "params.npz":
        np.savez(tmp_path / form, **tensors)
    else:
        write_safetensors(tmp_path / form, tensors)
    with pytest.raises(InputError, match=says) as error:
        read_any(tmp_path)
    assert str(tmp_path) in str(error.value)


class Harmful:
    """Runs code when unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('it ran')",))


def test_objects_in_an_npz_are_not_run(tmp_path):
    np.savez(tmp_path / "params.npz", **arrays() | {"W_enc": np.array([Harmful()], object)})
    with pytest.raises(InputError, match="params.npz holds Python objects, which could run code; it is not read"):
        read_any(tmp_path)
    (tmp_path / "params.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match="params.npz is damaged or not an .npz file"):
        read_any(tmp_path)


def test_other_architectures_and_the_embedding_are_refused(tmp_path):
    source = tmp_path / FOLDER.replace("layer_20", "embedding")
    source.mkdir(parents=True)
    np.savez(source / "params.npz", **arrays())
    with pytest.raises(InputError, match=r"rows of Gemma's embedding, which the model multiplies by sqrt\(d\)"):
        read_any(source)
    (source / "config.json").write_text(json.dumps({"architecture": "top_k"}))
    with pytest.raises(InputError, match="architecture = 'top_k', only 'jump_relu' can be imported"):
        gemma_scope.read(source)


@pytest.mark.parametrize("architecture", ["topk", "gated"])
def test_what_it_cannot_hold_is_refused(architecture, make_dictionary, tmp_path):
    with pytest.raises(InputError, match="a threshold of its own, and by nothing else. Take --format=saelens"):
        gemma_scope.write(make_dictionary(architecture), tmp_path)
