"""JumpReLU and Gated go out and come back: the packages' latents and reconstructions, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.exchange import (
    ExportConfig,
    ImportConfig,
    dictionary_learning,
    export,
    import_,
    saelens,
    sparsify,
)
from jaxsae.exchange.files import read_safetensors, write_safetensors
from jaxsae.exchange.weights import of_dictionary, set_pre_bias, to_dictionary, unit_norm

D, N, K = 48, 128, 8
FORMATS = {"saelens": saelens, "dictionary_learning": dictionary_learning}
CLASSES = {"jumprelu": "JumpReluAutoEncoder", "gated": "GatedAutoEncoder"}


@pytest.fixture(params=["jumprelu", "gated"])
def dictionary(request, make_dictionary) -> Dictionary:
    return make_dictionary(request.param)


@pytest.fixture(params=FORMATS)
def file_format(request, package):
    package("torch")
    return FORMATS[request.param]


@pytest.fixture
def edit(torch):
    """edit(directory, change): tensors of an export replaced by `change` of their dict."""

    def edited(path, change) -> None:
        if (path / saelens.WEIGHTS).exists():
            write_safetensors(path / saelens.WEIGHTS, change(read_safetensors(path / saelens.WEIGHTS)))
        else:
            tensors = torch.load(path / "ae.pt", weights_only=True)
            changed = change({name: tensor.numpy() for name, tensor in tensors.items()})
            torch.save({name: torch.tensor(array) for name, array in changed.items()}, path / "ae.pt")

    return edited


def arrays(dictionary) -> dict[str, np.ndarray]:
    return of_dictionary(dictionary).arrays


def test_saelens_loads_ours(dictionary, x, load_saelens, check_same, tmp_path):
    saelens.write(dictionary, tmp_path)
    sae = load_saelens(tmp_path)
    check_same(dictionary, sae, x)
    assert sae.cfg.architecture() == dictionary.method.name and sae.cfg.apply_b_dec_to_input == dictionary.pre_bias
    assert sae.cfg.metadata.hook_name == "blocks.2.hook_resid_post"


def test_dictionary_learning_loads_ours(dictionary, x, load_dictionary, check_same, tmp_path):
    dictionary_learning.write(dictionary, tmp_path)
    sae, config = load_dictionary(tmp_path)
    check_same(dictionary, sae, x)
    assert type(sae).__name__ == CLASSES[dictionary.method.name] and config["trainer"]["layer"] == 2


def make_sparse(sae, names) -> None:
    """Few of the latents of a randomised module are active on the inputs, at thresholds far apart."""
    for name, low, high in names:
        getattr(sae, name).data.uniform_(low, high)


@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("kind", ["jumprelu", "gated"])
def test_we_load_what_saelens_saves(kind, apply_b_dec, x, package, randomise, check_same, tmp_path):
    package("sae_lens")
    from sae_lens import GatedSAE, GatedSAEConfig, JumpReLUSAE, JumpReLUSAEConfig

    kinds = {"jumprelu": (JumpReLUSAE, JumpReLUSAEConfig), "gated": (GatedSAE, GatedSAEConfig)}
    sae = kinds[kind][0](kinds[kind][1](d_in=D, d_sae=N, apply_b_dec_to_input=apply_b_dec))
    randomise(sae)
    limits = {"jumprelu": [("threshold", 90, 150)], "gated": [("b_gate", -150, -90), ("b_mag", -40, 40)]}
    make_sparse(sae, limits[kind])
    sae.save_model(tmp_path)
    dictionary = saelens.read(tmp_path)
    assert dictionary.method.name == kind
    check_same(dictionary, sae, x)


@pytest.mark.parametrize("kind", ["jumprelu", "gated"])
def test_we_load_what_saelens_trains(kind, package, randomise, load_saelens, x, check_same, tmp_path):
    package("sae_lens")
    import sae_lens

    name = {"jumprelu": "JumpReLUTrainingSAE", "gated": "GatedTrainingSAE"}[kind]
    settings = {"jumprelu": {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": 12.3}, "gated": {}}[kind]
    sae = getattr(sae_lens, name)(getattr(sae_lens, f"{name}Config")(d_in=D, d_sae=N, **settings))
    randomise(sae)
    make_sparse(sae, {"jumprelu": [("threshold", 120, 120)], "gated": [("b_gate", -150, -90)]}[kind])
    sae.save_inference_model(tmp_path)
    dictionary = saelens.read(tmp_path)  # thresholds that agree, but the record says what was trained
    assert dictionary.method.name == kind and dictionary.config.k == (12 if kind == "jumprelu" else 32)
    check_same(dictionary, load_saelens(tmp_path), x)


@pytest.mark.parametrize("name", CLASSES.values())
def test_we_load_what_dictionary_learning_saves(
    name, x, torch, package, randomise, load_dictionary, check_same, tmp_path
):
    package("dictionary_learning")
    from dictionary_learning import dictionary as classes

    sae = getattr(classes, name)(D, N)
    randomise(sae)
    jumps = name == "JumpReluAutoEncoder"
    make_sparse(sae, [("threshold", 90, 150)] if jumps else [("gate_bias", -150, -90), ("mag_bias", -40, 40)])
    torch.save(sae.state_dict(), tmp_path / "ae.pt")
    trainer = {"dict_class": name, "lm_name": "gpt2", "layer": 3} | ({"target_l0": 20.0} if jumps else {})
    (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer}))
    dictionary = dictionary_learning.read(tmp_path)
    assert dictionary.config.k == (20 if jumps else 32)
    check_same(dictionary, load_dictionary(tmp_path)[0], x)


def test_a_threshold_below_0_is_0_where_a_relu_follows_it(
    file_format, make_dictionary, edit, load_saelens, load_dictionary, theirs, relative, x, tmp_path
):
    file_format.write(make_dictionary("jumprelu"), tmp_path)
    edit(tmp_path, lambda t: t | {"threshold": t["threshold"] - 50})
    back = file_format.read(tmp_path)
    found = np.asarray(back.params.latent["threshold"])
    assert found.min() == 0 and (found == 0).sum() > 10 and found.max() > 10
    sae = load_saelens(tmp_path) if file_format is saelens else load_dictionary(tmp_path)[0]
    assert relative(np.asarray(back.reconstruct(x)), theirs(sae, x)[1]) < 1e-5


def test_it_comes_back_equal(file_format, dictionary, tmp_path):
    file_format.write(dictionary, tmp_path)
    back = file_format.read(tmp_path)
    assert arrays(back).keys() == arrays(dictionary).keys()
    for name, array in arrays(dictionary).items():
        np.testing.assert_array_equal(arrays(back)[name], array)
    assert back.config.told_k == (K if dictionary.method.name == "jumprelu" else None)
    assert back.metadata == dictionary.metadata | {"imported_from": file_format.__name__.rsplit(".", 1)[-1]}


def test_one_threshold_for_all_comes_back_as_jumprelu(file_format, make_dictionary, tmp_path):
    dictionary = make_dictionary("jumprelu")
    same = dictionary.params.put(threshold=np.full(N, 70, np.float32))
    file_format.write(dataclasses.replace(dictionary, params=same), tmp_path)
    assert file_format.read(tmp_path).method.name == "jumprelu"


@pytest.mark.parametrize("name", FORMATS)
def test_a_run_goes_out_and_comes_back(name, package, dictionary, x, tmp_path, capsys):
    package("torch")
    from jaxsae.training import load, save_dictionary

    save_dictionary(tmp_path / "run", dictionary)
    output = export(ExportConfig(str(tmp_path / "run"), name, str(tmp_path / "out")))
    back = load(import_(ImportConfig(format=name, input=str(output), output=str(tmp_path / "back"))))
    says = {"jumprelu": "jumprelu, 128 latents of 48, k 8, thresholds 33.4", "gated": "gated, 128 latents of 48."}
    assert says[dictionary.method.name] in capsys.readouterr().err
    np.testing.assert_array_equal(back.reconstruct(x), dictionary.reconstruct(x))


def test_the_k_of_a_jumprelu_is_what_is_said_or_jaxsaes_own(make_dictionary, tmp_path):
    saelens.write(make_dictionary("jumprelu"), tmp_path)
    with pytest.raises(InputError, match=r"--k=9: .*cfg.json says 8. Leave --k out"):
        saelens.read(tmp_path, k=9)
    settings = json.loads((tmp_path / "cfg.json").read_text())
    del settings["metadata"]["training_architecture_details"]
    (tmp_path / "cfg.json").write_text(json.dumps(settings))
    assert (saelens.read(tmp_path).config.k, saelens.read(tmp_path, k=9).config.k) == (32, 9)
    settings["metadata"]["training_architecture_details"] = {"target_l0": "many"}
    (tmp_path / "cfg.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="cfg.json: k = 'many', expected a whole number from 1 to 128"):
        saelens.read(tmp_path)


@pytest.mark.parametrize("kind", ["gated", "relu"])
def test_a_k_that_a_method_does_not_have_is_refused(kind, make_dictionary, tmp_path):
    saelens.write(make_dictionary(kind), tmp_path)
    with pytest.raises(InputError, match=r"--k=9: .*cfg.json is a .* dictionary, which has no k"):
        saelens.read(tmp_path, k=9)


def test_sparsify_refuses_it(dictionary, tmp_path):
    with pytest.raises(
        InputError, match=f"--format=sparsify cannot hold a dictionary of --architecture={dictionary.method.name}"
    ):
        sparsify.write(dictionary, tmp_path)


def test_arrays_that_are_not_finite_do_not_go_out(file_format, dictionary, tmp_path):
    for name in of_dictionary(dictionary).own:
        bad = np.array(dictionary.params.latent[name])
        bad[3] = np.inf
        with pytest.raises(InputError, match=f"the dictionary: 1 values of {name} are NaN or infinite"):
            file_format.write(dataclasses.replace(dictionary, params=dictionary.params.put(**{name: bad})), tmp_path)


WRONG = [
    ("jumprelu", lambda t: {"threshold": t * np.nan}, "thresholds from nan to nan, .*the file is damaged"),
    ("jumprelu", lambda t: {"threshold": t * np.float32(np.inf)}, "thresholds from inf to inf, expected finite"),
    ("jumprelu", lambda t: {"threshold": t[:-1]}, r"'threshold' has shape \[127\], expected \[128\]"),
    ("jumprelu", lambda t: {}, "has no tensor 'threshold'; it has: W_dec"),
    ("gated", lambda t: {}, "has no tensor 'r_mag'; it has: "),
    ("gated", lambda t: {"r_mag": t[:-1]}, r"'r_mag' has shape \[127\], expected \[128\]"),
    ("gated", lambda t: {"r_mag": t * np.nan}, "128 values of r_mag are NaN or infinite; the file is damaged"),
]


@pytest.mark.parametrize(("kind", "change", "message"), WRONG, ids=[m[:24] for _, _, m in WRONG])
def test_arrays_that_are_wrong_are_named_with_their_file(
    kind, change, message, file_format, make_dictionary, edit, tmp_path
):
    file_format.write(make_dictionary(kind), tmp_path)
    name = {"jumprelu": "threshold", "gated": "r_mag"}[kind]
    edit(tmp_path, lambda t: {k: a for k, a in t.items() if k != name} | change(t[name]))
    with pytest.raises(InputError, match=message) as error:
        file_format.read(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_unit_rows_and_another_form_of_the_input_leave_what_it_computes(dictionary, x, relative):
    method, w = dictionary.method, of_dictionary(dictionary)
    norms = np.random.default_rng(0).uniform(0.3, 3, N).astype(np.float32)
    longer = dataclasses.replace(w, W_dec=w.W_dec * norms[:, None])
    expected = to_dictionary(longer, dictionary.config, {}, "test").encode(x).dense(N)
    unit = to_dictionary(unit_norm(longer, method.selection.own), dictionary.config, {}, "test")
    np.testing.assert_allclose(np.linalg.norm(unit.params.W_dec, axis=1), 1, rtol=1e-6)
    assert relative(unit.encode(x).dense(N), expected * norms) < 2e-5
    there = set_pre_bias(w, method.pre_bias, not method.pre_bias)
    back = set_pre_bias(there, not method.pre_bias, method.pre_bias).arrays
    for name, array in w.arrays.items():
        np.testing.assert_allclose(back[name], array, rtol=1e-5, atol=1e-3)
