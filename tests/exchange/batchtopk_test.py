"""BatchTopK and Matryoshka go out as a threshold and come back: the packages' latents, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.exchange import (
    ExportConfig,
    ImportConfig,
    describe_export,
    dictionary_learning,
    export,
    import_,
    saelens,
    sparsify,
)
from jaxsae.exchange.files import read_safetensors, write_safetensors

D, N, K = 48, 128, 8
HOLDS_IT = {"saelens": saelens, "dictionary_learning": dictionary_learning}
NAMES = ["W_enc", "b_enc", "W_dec", "b_dec"]


TRAINED_AS = {"batchtopk": "batchtopk", "matryoshka": "matryoshka_batchtopk"}
CLASSES = {"batchtopk": "BatchTopKSAE", "matryoshka": "MatryoshkaBatchTopKSAE"}


@pytest.fixture(params=["batchtopk", "matryoshka"])
def dictionary(request, make_dictionary):
    return make_dictionary(request.param)


@pytest.fixture(params=HOLDS_IT)
def file_format(request, package):
    package("torch")
    return HOLDS_IT[request.param]


def test_saelens_loads_ours(dictionary, x, load_saelens, check_same, tmp_path):
    saelens.write(dictionary, tmp_path)
    sae = load_saelens(tmp_path)
    check_same(dictionary, sae, x)
    assert (
        sae.cfg.architecture() == "jumprelu"
        and sae.cfg.metadata.training_architecture == TRAINED_AS[dictionary.method.name]
    )
    assert (sae.threshold.detach().numpy() == np.float32(dictionary.threshold)).all()
    assert sae.cfg.metadata.hook_name == "blocks.2.hook_resid_post"


def test_dictionary_learning_loads_ours(dictionary, x, load_dictionary, check_same, tmp_path):
    dictionary_learning.write(dictionary, tmp_path)
    sae, config = load_dictionary(tmp_path)
    check_same(dictionary, sae, x)
    assert type(sae).__name__ == CLASSES[dictionary.method.name]
    assert int(sae.k) == K and config["trainer"]["k"] == K
    assert float(sae.threshold) == np.float32(dictionary.threshold)


def saelens_trained(package, randomise, k=12.0, **settings):
    """A dictionary that SAELens trains as BatchTopK and saves as jumprelu; its threshold lies within its latents."""
    package("sae_lens")
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig

    sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=D, d_sae=N, k=k, **settings))
    randomise(sae)
    sae.topk_threshold.fill_(120.0)  # pre-activations of random weights on these inputs spread over about 80
    return sae


@pytest.mark.parametrize(
    "settings", [{}, {"apply_b_dec_to_input": False}, {"rescale_acts_by_decoder_norm": True}], ids=str
)
def test_we_load_what_saelens_saves(settings, x, package, randomise, load_saelens, check_same, tmp_path):
    saelens_trained(package, randomise, **settings).save_inference_model(tmp_path)
    dictionary = saelens.read(tmp_path)
    assert (dictionary.config.architecture, dictionary.config.k, dictionary.threshold) == ("batchtopk", 12, 120)
    check_same(dictionary, load_saelens(tmp_path), x)


def test_a_fraction_of_a_latent_is_rounded(package, randomise, tmp_path):
    for k, expected in ((12.4, 12), (0.25, 1)):
        saelens_trained(package, randomise, k=k).save_inference_model(tmp_path)
        assert saelens.read(tmp_path).config.k == expected


def test_rounding_by_decoder_norms_leaves_one_threshold(dictionary, load_saelens, tmp_path):
    saelens.write(dictionary, tmp_path)
    sae = load_saelens(tmp_path)
    sae.fold_W_dec_norm()
    sae.save_model(tmp_path)
    thresholds = read_safetensors(tmp_path / saelens.WEIGHTS)["threshold"]
    assert len(set(thresholds)) > 1
    assert saelens.read(tmp_path).threshold == pytest.approx(dictionary.threshold, rel=1e-6)


@pytest.mark.parametrize("threshold", [0.0, 70.0])
def test_we_load_what_dictionary_learning_saves(
    threshold, x, torch, package, randomise, load_dictionary, check_same, tmp_path
):
    package("dictionary_learning")
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE

    sae = BatchTopKSAE(D, N, K)
    randomise(sae)
    sae.encoder.bias.data -= 100 - threshold  # so that few latents are active
    sae.threshold.fill_(threshold)
    torch.save(sae.state_dict(), tmp_path / "ae.pt")
    trainer = {"dict_class": "BatchTopKSAE", "lm_name": "gpt2", "layer": 3, "k": K}
    (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer}))
    dictionary = dictionary_learning.read(tmp_path)
    assert (dictionary.config.architecture, dictionary.config.k, dictionary.threshold) == ("batchtopk", K, threshold)
    check_same(dictionary, load_dictionary(tmp_path)[0], x)


def test_it_comes_back_equal(file_format, dictionary, tmp_path):
    file_format.write(dictionary, tmp_path)
    back = file_format.read(tmp_path)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(back.params, name), getattr(dictionary.params, name))
    assert dataclasses.replace(back.config, prefixes=()) == dictionary.config and back.threshold == dictionary.threshold
    assert back.config.nested_prefixes == dictionary.config.nested_prefixes
    assert back.metadata == dictionary.metadata | {"imported_from": file_format.__name__.rsplit(".", 1)[-1]}


@pytest.mark.parametrize("name", HOLDS_IT)
def test_a_run_goes_out_and_comes_back_with_its_threshold(name, package, dictionary, x, tmp_path, capsys):
    package("torch")
    from jaxsae.training import load, save_dictionary

    save_dictionary(tmp_path / "run", dictionary)
    output = export(ExportConfig(str(tmp_path / "run"), name, str(tmp_path / "out")))
    assert ("every latent has the threshold 70" in capsys.readouterr().err) == (name == "saelens")
    back = load(import_(ImportConfig(format=name, input=str(output), output=str(tmp_path / "back"))))
    assert f"{dictionary.method.name}, 128 latents of 48, k 8, threshold 70." in capsys.readouterr().err
    assert back.threshold == dictionary.threshold and back.method.name == dictionary.method.name
    np.testing.assert_array_equal(back.reconstruct(x), dictionary.reconstruct(x))


def test_sparsify_refuses_it(dictionary, tmp_path):
    name = dictionary.method.name
    message = f"--format=sparsify cannot hold a dictionary of --architecture={name}: its coder keeps the k largest"
    with pytest.raises(InputError, match=message):
        sparsify.write(dictionary, tmp_path)


@pytest.mark.parametrize("threshold", [np.nan, np.inf])
def test_a_threshold_that_is_not_finite_does_not_go_out(file_format, threshold, dictionary, tmp_path):
    broken = type(dictionary)(dictionary.params, dictionary.config, threshold=threshold)
    with pytest.raises(InputError, match=f"its threshold is {threshold}"):
        file_format.write(broken, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t * np.nan, "thresholds from nan to nan, expected finite"),
        (lambda t: t[:-1], r"'threshold' has shape \[127\], expected \[128\]"),
    ],
    ids=["nan", "short"],
)
def test_saelens_thresholds_that_are_none_are_refused(change, message, dictionary, tmp_path):
    saelens.write(dictionary, tmp_path)
    tensors = read_safetensors(tmp_path / saelens.WEIGHTS)
    write_safetensors(tmp_path / saelens.WEIGHTS, tensors | {"threshold": change(tensors["threshold"])})
    with pytest.raises(InputError, match=message):
        saelens.read(tmp_path)


@pytest.mark.parametrize("spread", [1e-5, 1e-2])
def test_several_thresholds_make_a_jumprelu(spread, dictionary, x, load_saelens, check_same, tmp_path):
    saelens.write(dictionary, tmp_path)
    tensors = read_safetensors(tmp_path / saelens.WEIGHTS)
    thresholds = tensors["threshold"] * (1 + spread * np.arange(N, dtype=np.float32))
    write_safetensors(tmp_path / saelens.WEIGHTS, tensors | {"threshold": thresholds})
    found = saelens.read(tmp_path)
    assert found.method.name == "jumprelu" and not found.pre_bias
    np.testing.assert_array_equal(found.params.latent["threshold"], thresholds)
    check_same(found, load_saelens(tmp_path), x, 3e-5)  # W_enc b_dec, large, is in b_enc now


def test_k_is_asked_for_where_no_file_says_it(dictionary, tmp_path):
    source, output = tmp_path / "in", str(tmp_path / "out")
    source.mkdir()
    saelens.write(dictionary, source)
    with pytest.raises(InputError, match=r"--k=9: .*cfg.json says 8. Leave --k out"):
        import_(ImportConfig(format="saelens", input=str(source), output=output, k=9))
    settings = json.loads((source / "cfg.json").read_text())
    del settings["metadata"]["training_architecture_details"]
    (source / "cfg.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"does not say k.*Give it with --k=K"):
        import_(ImportConfig(format="saelens", input=str(source), output=output))
    with pytest.raises(InputError, match=f"--k={N + 1}: must be at most"):
        import_(ImportConfig(format="saelens", input=str(source), output=output, k=N + 1))
    import_(ImportConfig(format="saelens", input=str(source), output=output, k=9))
    for wrong in ({"k": 0}, {"k": 9, "format": "sparsify"}):
        with pytest.raises(InputError, match=f"--k={wrong['k']}"):
            ImportConfig(**({"format": "saelens", "input": str(source), "output": output} | wrong))


@pytest.mark.parametrize("threshold", [-1.0, np.nan, np.inf])
def test_dictionary_learning_without_an_estimated_threshold_is_refused(threshold, torch, dictionary, tmp_path):
    dictionary_learning.write(dictionary, tmp_path)
    tensors = torch.load(tmp_path / "ae.pt", weights_only=True)
    torch.save(tensors | {"threshold": torch.tensor(threshold)}, tmp_path / "ae.pt")
    with pytest.raises(InputError, match=f"threshold = {threshold:g}, expected 0 or more"):
        dictionary_learning.read(tmp_path)
    del tensors["threshold"]
    torch.save(tensors, tmp_path / "ae.pt")
    with pytest.raises(InputError, match="no tensor 'threshold'"):
        dictionary_learning.read(tmp_path)


def test_describe_shows_k_and_threshold(dictionary, tmp_path):
    saelens.write(dictionary, tmp_path)
    text = describe_export(tmp_path)
    assert "jumprelu" in text and "k             8" in text and "threshold     70\n" in text
    assert f"trained as    {TRAINED_AS[dictionary.method.name]}\n" in text
