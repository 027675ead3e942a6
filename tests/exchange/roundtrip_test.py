"""What goes out comes back, and what is wrong is refused by name."""

import json

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.exchange import dictionary_learning, saelens, sparsify
from jaxsae.exchange.files import write_safetensors
from jaxsae.exchange.weights import of_dictionary, unit_norm

K, N = 8, 128
FORMATS = [saelens, sparsify, dictionary_learning]
NAMES = ["W_enc", "b_enc", "W_dec", "b_dec"]


@pytest.fixture(params=FORMATS, ids=lambda f: f.__name__.rsplit(".", 1)[-1])
def file_format(request, package):
    if request.param is dictionary_learning:
        package("torch")
    return request.param


def test_topk_comes_back_equal(file_format, make_dictionary, tmp_path):
    dictionary = make_dictionary("topk")
    file_format.write(dictionary, tmp_path)
    back = file_format.read(tmp_path)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(back.params, name), getattr(dictionary.params, name))
    assert (back.config.architecture, back.config.k, back.config.width) == ("topk", K, N)
    expected = dictionary.metadata | {"imported_from": file_format.__name__.rsplit(".", 1)[-1]}
    assert back.metadata == expected


@pytest.mark.parametrize("name", ["saelens", "dictionary_learning"])
def test_relu_comes_back_with_unit_decoder_rows(name, relative, package, make_dictionary, tmp_path):
    file_format = {"saelens": saelens, "dictionary_learning": dictionary_learning}[name]
    package("torch")
    dictionary = make_dictionary("relu")
    expected = unit_norm(of_dictionary(dictionary))
    file_format.write(dictionary, tmp_path)
    back = file_format.read(tmp_path)
    for field in NAMES:
        assert relative(getattr(back.params, field), getattr(expected, field)) < 1e-6
    assert back.config.architecture == "relu"


def test_sparsify_refuses_relu(make_dictionary, tmp_path):
    with pytest.raises(InputError, match="--format=sparsify cannot hold a dictionary of --architecture=relu"):
        sparsify.write(make_dictionary("relu"), tmp_path)


def test_a_method_without_a_form_is_refused(file_format, make_dictionary, tmp_path):
    dictionary = make_dictionary("topk")
    object.__setattr__(dictionary.config, "architecture", "novel")
    with pytest.raises(InputError, match="novel"):
        file_format.write(dictionary, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_are_not_finite_are_refused(file_format, name, make_dictionary, tmp_path):
    dictionary = make_dictionary("topk")
    bad = np.array(getattr(dictionary.params, name))
    bad.flat[0] = np.nan
    dictionary = type(dictionary)(dictionary.params.put(**{name: bad}), dictionary.config)
    with pytest.raises(InputError, match=f"1 values of {name} are NaN"):
        file_format.write(dictionary, tmp_path)


def test_a_dictionary_without_metadata_goes_out(file_format, make_dictionary, tmp_path):
    dictionary = make_dictionary("topk")
    file_format.write(type(dictionary)(dictionary.params, dictionary.config), tmp_path)
    assert file_format.read(tmp_path).width == N


def test_a_site_cannot_leave_the_output(make_dictionary, tmp_path):
    dictionary = make_dictionary("topk")
    dictionary.metadata["site"] = "../../elsewhere"
    (tmp_path / "out").mkdir()
    sparsify.write(dictionary, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


@pytest.fixture
def exported(file_format, make_dictionary, tmp_path):
    file_format.write(make_dictionary("topk"), tmp_path)
    return tmp_path


def damage(path, name, text=None):
    for file in path.rglob(name):
        file.unlink()
        if text is not None:
            file.write_text(text)


def test_missing_files_are_named(file_format, exported):
    damage(exported, file_format.WEIGHTS)
    with pytest.raises(InputError, match=f"{file_format.WEIGHTS} is missing"):
        file_format.read(exported)
    damage(exported, file_format.CONFIG)
    with pytest.raises(InputError, match=f"{file_format.CONFIG} is missing"):
        file_format.read(exported)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_damaged_settings_are_named(file_format, exported, text):
    damage(exported, file_format.CONFIG, text)
    with pytest.raises(InputError, match=file_format.CONFIG):
        file_format.read(exported)


def test_damaged_weights_are_named(file_format, exported):
    damage(exported, file_format.WEIGHTS, "not weights")
    with pytest.raises(InputError, match=file_format.WEIGHTS):
        file_format.read(exported)


def edit(path, file_format, change):
    for file in path.rglob(file_format.CONFIG):
        settings = json.loads(file.read_text())
        change(settings.get("trainer", settings))
        file.unlink()
        file.write_text(json.dumps(settings))


@pytest.mark.parametrize("k", [None, 0, -3, N + 1, "8", True, 8.5])
def test_a_wrong_k_is_named(file_format, exported, k):
    edit(exported, file_format, lambda s: s.update(k=k))
    with pytest.raises(InputError, match="k = .*expected a whole number from 1"):
        file_format.read(exported)


SAELENS_REFUSED = [
    ({"architecture": "jumprelu"}, "no tensor 'threshold'"),
    ({"architecture": "gated"}, "no tensor 'b_gate'"),
    ({"architecture": "temporal"}, "on the rows before it; jaxsae reads topk, abstopk, jumprelu, gated, standard"),
    ({"architecture": "matching_pursuit"}, "its latents are chosen one after the other"),
    ({"architecture": None}, "architecture"),
    ({"normalize_activations": "layer_norm"}, "normalize_activations"),
    ({"normalize_activations": "constant_norm_rescale"}, "each row is brought to one length by itself"),
    ({"normalize_activations": "covariance_whitening"}, "rows are whitened"),
    ({"normalize_activations": "expected_average_only_in"}, "the factor of the activations is not there"),
    ({"normalize_activations": True}, "that is not known"),
    ({"reshape_activations": "heads"}, "reshape_activations"),
    ({"d_in": 7}, "d_in = 7"),
    ({"d_sae": 7}, "d_sae = 7"),
    ({"metadata": {}}, "only files of SAELens 6"),
    ({"metadata": {"sae_lens_version": "5.11.0"}}, "5.11.0"),
    ({"metadata": {"sae_lens_version": "7.0.0"}}, "is 7.0.0, only files of SAELens 6 are read"),
    ({"metadata": None}, "only files of SAELens 6"),
]


@pytest.mark.parametrize(("change", "message"), SAELENS_REFUSED, ids=str)
def test_saelens_settings_that_change_the_meaning_are_refused(change, message, make_dictionary, tmp_path):
    saelens.write(make_dictionary("topk"), tmp_path)
    edit(tmp_path, saelens, lambda s: s.update(change))
    with pytest.raises(InputError, match=message):
        saelens.read(tmp_path)


@pytest.mark.parametrize(
    "change", [{"activation": "groupmax"}, {"skip_connection": True}, {"num_latents": 7}, {"d_in": 7}], ids=str
)
def test_sparsify_settings_that_change_the_meaning_are_refused(change, make_dictionary, tmp_path):
    sparsify.write(make_dictionary("topk"), tmp_path)
    edit(tmp_path, sparsify, lambda s: s.update(change))
    with pytest.raises(InputError, match=next(iter(change))):
        sparsify.read(tmp_path)


def test_several_hookpoints_need_a_choice(make_dictionary, tmp_path):
    sparsify.write(make_dictionary("topk"), tmp_path)
    (tmp_path / "resid_post.2").rename(tmp_path / "a")
    for name in sparsify.FILES:
        (tmp_path / name).unlink()
    sparsify.write(make_dictionary("topk"), tmp_path)
    for name in sparsify.FILES:
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match=r"several hookpoints \(a, resid_post.2\)"):
        sparsify.read(tmp_path)
    assert sparsify.read(tmp_path / "a").width == N


def test_tensors_that_do_not_fit_are_named(make_dictionary, tmp_path):
    saelens.write(make_dictionary("topk"), tmp_path)
    good = {"W_enc": np.ones((4, 6)), "b_enc": np.ones(6), "W_dec": np.ones((6, 4)), "b_dec": np.ones(4)}
    for name, shape in (("b_enc", (5,)), ("W_dec", (4, 6)), ("b_dec", (4, 1)), ("W_enc", (0, 6))):
        write_safetensors(tmp_path / saelens.WEIGHTS, good | {name: np.ones(shape)})
        with pytest.raises(InputError, match="shape"):
            saelens.read(tmp_path)
    write_safetensors(tmp_path / saelens.WEIGHTS, {"W_enc": good["W_enc"]})
    with pytest.raises(InputError, match="no tensor 'b_enc'; it has: W_enc"):
        saelens.read(tmp_path)


def test_dictionary_learning_refuses_other_classes_and_other_k(package, make_dictionary, tmp_path):
    package("torch")
    dictionary_learning.write(make_dictionary("topk"), tmp_path)
    edit(tmp_path, dictionary_learning, lambda s: s.update(k=K + 1))
    with pytest.raises(InputError, match=rf"k = {K + 1}, but ae.pt says {K}"):
        dictionary_learning.read(tmp_path)
    edit(tmp_path, dictionary_learning, lambda s: s.update(k=K, dict_size=7))
    with pytest.raises(InputError, match="config.json: dict_size = 7, only 128 can be imported: ae.pt says so"):
        dictionary_learning.read(tmp_path)
    for other in ("IdentityDict", "CrossCoder"):
        edit(tmp_path, dictionary_learning, lambda s, other=other: s.update(dict_class=other))
        with pytest.raises(InputError, match=f"dict_class = '{other}'; jaxsae reads .*GatedAutoEncoder"):
            dictionary_learning.read(tmp_path)


class Harmful:
    """Runs code when unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('it ran')",))


def test_an_ae_pt_with_objects_is_not_run(package, make_dictionary, tmp_path):
    torch = package("torch")
    dictionary_learning.write(make_dictionary("topk"), tmp_path)
    torch.save({"encoder.weight": Harmful()}, tmp_path / "ae.pt")
    with pytest.raises(InputError, match="could run code; it is not read"):
        dictionary_learning.read(tmp_path)
    torch.save([torch.zeros(3)], tmp_path / "ae.pt")
    with pytest.raises(InputError, match="flat dict of tensors"):
        dictionary_learning.read(tmp_path)


def test_without_torch_the_fix_is_named(tmp_path, monkeypatch, make_dictionary):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(InputError, match=r"pip install 'jaxsae\[interop\]'"):
        dictionary_learning.write(make_dictionary("topk"), tmp_path)


def test_files_are_readable_as_other_files_are(exported):
    plain = exported / "plain"
    plain.touch()
    assert {p.stat().st_mode for p in exported.rglob("*") if p.is_file()} == {plain.stat().st_mode}
