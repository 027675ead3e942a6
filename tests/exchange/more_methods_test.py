"""Methods that share another's form: formats that hold them give the packages' latents, the others say which do."""

import dataclasses

import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, make_method
from jaxsae.errors import InputError
from jaxsae.exchange import (
    ExportConfig,
    ImportConfig,
    circuit_tracer,
    dictionary_learning,
    export,
    gemma_scope,
    import_,
    saelens,
    sparsify,
)
from jaxsae.exchange.holds import HOLDS

N, K = 128, 8
NEW = ("multi_topk", "hierarchical_topk", "abstopk", "jumprelu_tanh", "rescaled")


@pytest.fixture
def make(make_dictionary):
    """make(architecture, **switches) -> a random dictionary of it, of the arrays of the method whose form it shares."""
    like = {"jumprelu_tanh": "jumprelu", "rescaled": "gated"}

    def made(architecture: str, **switches) -> Dictionary:
        base = make_dictionary(like.get(architecture, "topk"))
        config = MethodConfig(
            width=N, architecture=architecture, **({"k": K} if architecture != "rescaled" else {}), **switches
        )
        latent = dict(base.params.latent)
        if architecture == "jumprelu_tanh":
            latent["log_threshold"] = np.log(latent.pop("threshold"))
        if architecture in ("jumprelu_tanh", "rescaled"):  # whose decoder rows have any length
            latent["W_dec"] = latent["W_dec"] * np.linspace(0.4, 2.5, N, dtype=np.float32)[:, None]
        params = dataclasses.replace(base.params, latent=latent)
        if architecture == "rescaled":  # that it subtracts nothing from the input is in the biases
            shift = np.asarray(params.W_enc, np.float64) @ np.asarray(params.b_dec, np.float64)
            b_mag = params.latent["b_mag"] - np.exp(np.float64(params.latent["r_mag"])) * shift
            params = params.put(b_enc=np.float32(params.b_enc - shift), b_mag=np.float32(b_mag))
        return dataclasses.replace(base, params=params, config=config)

    return made


def lengths(dictionary: Dictionary) -> np.ndarray:
    """What an export's latents are multiplied by."""
    free = not make_method(dictionary.config).unit_decoder
    return np.linalg.norm(np.asarray(dictionary.params.W_dec), axis=1) if free else np.ones(N)


@pytest.mark.parametrize("architecture", NEW)
def test_saelens_loads_it(architecture, make, x, load_saelens, theirs, relative, tmp_path):
    dictionary = make(architecture)
    saelens.write(dictionary, tmp_path)
    sae = load_saelens(tmp_path)
    assert sae.cfg.architecture() == HOLDS["saelens"][architecture]
    z, x_hat = theirs(sae, x)
    latents = dictionary.encode(x)
    wanted = np.asarray(latents.dense(N)) * lengths(dictionary)
    assert (wanted != 0).any(1).all() and ((wanted < 0).any() == (architecture == "abstopk"))
    assert relative(z, wanted) < 1e-5
    assert relative(x_hat, np.asarray(dictionary.decode(latents))) < 1e-5
    back = saelens.read(tmp_path)
    read_as = {"abstopk": "abstopk", "jumprelu_tanh": "jumprelu", "rescaled": "gated"}
    assert back.config.architecture == read_as.get(architecture, "topk")
    assert relative(back.reconstruct(x), x_hat) < 1e-5


@pytest.mark.parametrize("architecture", [a for a in NEW if a != "abstopk"])
def test_dictionary_learning_loads_it(architecture, make, x, load_dictionary, theirs, relative, tmp_path):
    dictionary = make(architecture)
    dictionary_learning.write(dictionary, tmp_path)
    sae, _ = load_dictionary(tmp_path)
    assert type(sae).__name__ == HOLDS["dictionary_learning"][architecture]
    z, x_hat = theirs(sae, x)
    latents = dictionary.encode(x)
    assert relative(z, np.asarray(latents.dense(N)) * lengths(dictionary)) < 1e-5
    assert relative(x_hat, np.asarray(dictionary.decode(latents))) < 1e-5


@pytest.mark.parametrize("architecture", ["topk", "multi_topk", "hierarchical_topk"])
@pytest.mark.parametrize("pre_bias", [None, False])
def test_sparsify_loads_it_whether_its_bias_is_subtracted_or_not(
    architecture, pre_bias, make, x, package, relative, tmp_path
):
    coder = package("sparsify").SparseCoder
    import torch

    dictionary = make(architecture, pre_bias=pre_bias)
    sparsify.write(dictionary, tmp_path)
    sae = coder.load_from_disk(tmp_path)
    values, indices, _ = sae.encode(torch.from_numpy(x))
    x_hat = sae.decode(values, indices).detach().numpy()
    latents = dictionary.encode(x)
    assert relative(np.sort(values.detach().numpy()), np.sort(np.asarray(latents.values))) < 1e-5
    assert relative(x_hat, np.asarray(dictionary.decode(latents))) < 1e-5


@pytest.mark.parametrize("file_format", HOLDS)
def test_what_a_format_cannot_hold_is_refused_with_those_that_can(file_format, make, tmp_path):
    modules = {"saelens": saelens, "sparsify": sparsify, "dictionary_learning": dictionary_learning}
    modules |= {"circuit_tracer": circuit_tracer, "gemma_scope": gemma_scope}
    for architecture in NEW:
        if architecture in HOLDS[file_format]:
            continue
        with pytest.raises(InputError) as refused:
            modules[file_format].write(make(architecture), tmp_path)
        able = [name for name, held in HOLDS.items() if architecture in held]
        assert f"--format={file_format} cannot hold a dictionary of --architecture={architecture}" in str(refused.value)
        assert all(f"--format={name}" in str(refused.value) for name in able)


def test_every_method_has_a_format():
    from jaxsae.dictionary import ARCHITECTURES

    assert set().union(*HOLDS.values()) == set(ARCHITECTURES)


def test_another_k_goes_out_and_comes_back(make, x, tmp_path, package):
    from jaxsae.training import load, save_dictionary

    save_dictionary(tmp_path / "run", make("hierarchical_topk"))
    output = export(ExportConfig(str(tmp_path / "run"), "saelens", str(tmp_path / "out"), k=3))
    back = load(import_(ImportConfig(format="saelens", input=str(output), output=str(tmp_path / "back"))))
    assert (back.config.architecture, back.config.k) == ("topk", 3)
    three = load(tmp_path / "run").with_k(3).encode(x)
    np.testing.assert_allclose(back.encode(x).values, three.values, rtol=1e-5)
    with pytest.raises(InputError, match="--k=9: this hierarchical_topk dictionary is for 1 to 8"):
        export(ExportConfig(str(tmp_path / "run"), "saelens", str(tmp_path / "no"), k=9))
    assert not (tmp_path / "no").exists()
