"""Every architecture that the installed SAELens has, made by its own classes: read as it is, or refused by name."""

import json

import numpy as np
import pytest

from jaxsae.dictionary import MethodConfig
from jaxsae.errors import InputError
from jaxsae.exchange import saelens, saelens_read
from jaxsae.exchange.files import read_safetensors, write_safetensors
from jaxsae.exchange.holds import HOLDS, TRANSCODERS
from jaxsae.exchange.weights import of_dictionary

D, N, K, D_OUT = 48, 128, 8, 40
SCALE = 0.02  # of activations of norm 400: what SAELens brings them to sqrt(48) by
KINDS = {  # name -> the class, its settings, and what it comes in as
    "topk": ("TopKSAE", {"k": K}, "topk"),
    "topk by norm": ("TopKSAE", {"k": K, "rescale_acts_by_decoder_norm": True}, "topk"),
    "abstopk": ("AbsTopKSAE", {"k": K}, "abstopk"),
    "abstopk by norm": ("AbsTopKSAE", {"k": K, "rescale_acts_by_decoder_norm": True}, "abstopk"),
    "jumprelu": ("JumpReLUSAE", {}, "jumprelu"),
    "gated": ("GatedSAE", {}, "gated"),
    "standard": ("StandardSAE", {}, "relu"),
    "transcoder": ("Transcoder", {"d_out": D_OUT}, "relu"),
    "skip_transcoder": ("SkipTranscoder", {"d_out": D_OUT}, "relu"),
    "jumprelu_transcoder": ("JumpReLUTranscoder", {"d_out": D_OUT}, "jumprelu"),
    "jumprelu_skip_transcoder": ("JumpReLUSkipTranscoder", {"d_out": D_OUT}, "jumprelu"),
}
_REFUSED = ("temporal", "matching_pursuit")


@pytest.fixture
def make(package, randomise):
    """make(class, **settings) -> one with random parameters; few of its latents are active, at thresholds far apart."""
    package("sae_lens")
    import sae_lens

    def made(name: str, hook: str = "blocks.3.hook_resid_pre", **settings):
        across = "Transcoder" in name
        config = getattr(sae_lens, f"{name}Config")(d_in=D, d_sae=N, apply_b_dec_to_input=not across, **settings)
        config.metadata.hook_name = "blocks.3.hook_resid_mid" if across else hook
        if across:
            config.metadata.hook_name_out = "blocks.3.hook_mlp_out"
        sae = getattr(sae_lens, name)(config)
        randomise(sae)
        for own, low, high in (("threshold", -40, 150), ("b_gate", -150, -90), ("b_mag", -40, 40)):
            if hasattr(sae, own):
                getattr(sae, own).data.uniform_(low, high)
        return sae

    return made


def given(sae, x: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return sae(torch.from_numpy(x)).numpy()


def test_every_architecture_is_read_or_refused(package):
    package("sae_lens")
    from sae_lens import registry

    known = {*registry.SAE_CLASS_REGISTRY, *registry.SAE_TRAINING_CLASS_REGISTRY}
    assert known == {*saelens_read.FORMS, *_REFUSED}
    assert {kind.split(" ")[0] for kind in KINDS} == {*registry.SAE_CLASS_REGISTRY} - {*_REFUSED}


@pytest.mark.parametrize("kind", KINDS)
def test_what_its_classes_save_gives_what_they_give_and_goes_there_and_back(
    kind, make, x, load_saelens, relative, tmp_path
):
    name, settings, architecture = KINDS[kind]
    sae = make(name, **settings)
    sae.save_model(tmp_path / "theirs")
    dictionary = saelens.read(tmp_path / "theirs")
    expected = given(sae, x)
    assert dictionary.config.architecture == architecture
    assert relative(np.asarray(dictionary.reconstruct(x)), expected) < 1e-5
    across = "transcoder" in kind
    assert dictionary.metadata["site"] == ("resid_mid.3->mlp_out.3" if across else "resid_pre.3")
    active = (np.asarray(dictionary.encode(x).dense(N)) != 0).mean()
    assert 0.02 < active < 0.7
    if "threshold" in dictionary.params.latent:  # some latents are above 0 and below theirs
        thresholds = np.asarray(dictionary.params.latent["threshold"])
        assert len(np.unique(thresholds)) > N / 2 and thresholds.min() == 0
    (tmp_path / "ours").mkdir()
    saelens.write(dictionary, tmp_path / "ours")
    load_saelens(tmp_path / "ours").save_model(tmp_path / "again")
    back = saelens.read(tmp_path / "again")
    if architecture == "relu" and not across:  # whose rows have length 1 there
        assert relative(np.asarray(back.reconstruct(x)), expected) < 1e-5
        return
    for array, wanted in zip(arrays(back), arrays(dictionary), strict=True):
        np.testing.assert_array_equal(array, wanted)


def arrays(dictionary) -> list[np.ndarray]:
    found = of_dictionary(dictionary).arrays
    return [found[name] for name in sorted(found)]


CHECKPOINTS = {
    "topk": ("TopKTrainingSAE", {"k": K}, "topk"),
    "batchtopk": ("BatchTopKTrainingSAE", {"k": 12.4}, "batchtopk"),
    "batchtopk by norm": ("BatchTopKTrainingSAE", {"k": 12.4, "rescale_acts_by_decoder_norm": True}, "batchtopk"),
    "matryoshka": ("MatryoshkaBatchTopKTrainingSAE", {"k": 12, "matryoshka_widths": [16, 40, N]}, "matryoshka"),
    "jumprelu": ("JumpReLUTrainingSAE", {}, "jumprelu"),
    "gated": ("GatedTrainingSAE", {}, "gated"),
    "standard": ("StandardTrainingSAE", {}, "relu"),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints_of_a_training_come_in_with_their_scale_folded(kind, make, x, load_saelens, relative, tmp_path):
    from sae_lens.training.activation_scaler import ActivationScaler

    name, settings, architecture = CHECKPOINTS[kind]
    sae = make(name, normalize_activations="expected_average_only_in", **settings)
    if kind == "jumprelu":
        sae.threshold.data.uniform_(1, 3)
    if kind == "gated":
        sae.b_gate.data.uniform_(-3, -2), sae.b_mag.data.uniform_(-1, 1)
    if "topk_threshold" in sae.state_dict():
        sae.topk_threshold.fill_(2.0)
    sae.save_model(tmp_path)
    with pytest.raises(InputError, match="the factor of the activations is not there: put the activation_scaler.json"):
        saelens.read(tmp_path)
    ActivationScaler(SCALE).save(str(tmp_path / "activation_scaler.json"))
    dictionary = saelens.read(tmp_path)
    assert dictionary.config.architecture == architecture and dictionary.config.k in (8, 12, 32)
    assert dictionary.config.prefixes == ((16, 40, N) if kind == "matryoshka" else ())
    sae.fold_activation_norm_scaling_factor(SCALE)  # as its trainer does at the end
    sae.save_inference_model(tmp_path / "end")
    assert relative(np.asarray(dictionary.reconstruct(x)), given(load_saelens(tmp_path / "end"), x)) < 1e-5
    (tmp_path / "activation_scaler.json").write_text(json.dumps({"scaling_factor": None}))
    with pytest.raises(InputError, match="activation_scaler.json: scaling_factor = None, expected a number above 0"):
        saelens.read(tmp_path)


def test_heads_side_by_side_come_in_and_go_out(make, x, load_saelens, relative, tmp_path):
    sae = make("JumpReLUSAE", "blocks.3.attn.hook_z", reshape_activations="hook_z")
    sae.save_model(tmp_path)
    dictionary = saelens.read(tmp_path)
    assert dictionary.metadata["site"] == "blocks.3.attn.hook_z"
    heads = given(load_saelens(tmp_path), x.reshape(-1, 4, D // 4)).reshape(-1, D)
    assert relative(np.asarray(dictionary.reconstruct(x)), heads) < 1e-5
    saelens.write(dictionary, tmp_path)
    again = given(load_saelens(tmp_path), x.reshape(-1, 4, D // 4)).reshape(-1, D)
    assert relative(again, heads) < 1e-5


def test_thresholds_may_be_saved_as_their_logarithms(make_dictionary, x, load_saelens, relative, tmp_path):
    saelens.write(make_dictionary("jumprelu"), tmp_path)
    tensors = read_safetensors(tmp_path / "sae_weights.safetensors")
    tensors["log_threshold"] = np.log(tensors.pop("threshold"))
    write_safetensors(tmp_path / "sae_weights.safetensors", tensors)
    expected = np.asarray(make_dictionary("jumprelu").reconstruct(x))
    assert relative(np.asarray(saelens.read(tmp_path).reconstruct(x)), expected) < 1e-5


@pytest.mark.parametrize("architecture", _REFUSED)
def test_what_has_no_form_here_is_refused_with_why(architecture, tmp_path):
    (tmp_path / "cfg.json").write_text(json.dumps({"architecture": architecture, "sae_lens_version": "6.54.12"}))
    with pytest.raises(InputError, match=f"cfg.json: architecture = '{architecture}': .*; jaxsae reads topk, abstopk"):
        saelens.read(tmp_path)


def test_what_goes_out_is_what_it_has():
    names = {*HOLDS["saelens"].values(), *TRANSCODERS["saelens"].values()}
    assert names <= {*saelens_read.FORMS} and MethodConfig(width=1, k=1).architecture in HOLDS["saelens"]
