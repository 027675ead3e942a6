"""Transcoders of every layer leave as a set of circuit-tracer's, are what they were in its own modules, and come back."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.exchange import ExportConfig, ImportConfig, describe_export, export, import_
from jaxsae.training import load, save_dictionary

D, WIDTH, K, ROWS, LAYERS = 24, 64, 6, 100, 3
METHODS = ("batchtopk", "jumprelu", "jumprelu_tanh", "relu")


def transcoder(architecture: str, layer: int, skip: bool = False, width: int = WIDTH) -> Dictionary:
    rng = np.random.default_rng(layer)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    own = {"jumprelu": {"threshold": jnp.abs(draw(width))}, "jumprelu_tanh": {"log_threshold": draw(width) / 2}}
    params = Params.of(draw(width, D) / D**0.5, 0.3 * draw(width), draw(width, D), draw(D))
    past = {"W_skip": draw(D, D) / D**0.5} if skip else {}
    params = Params(params.latent | own.get(architecture, {}), params.shared | past)
    config = MethodConfig(width=width, architecture=architecture, k=K, transcode=True, skip=skip)
    sites = [f"mlp_in.{layer}", f"mlp_out.{layer}"]
    about = {"site": "->".join(sites), "reads": sites[:1], "writes": sites[1:], "model": "some/model"}
    return Dictionary(params, config, about, threshold=0.7 if config.has_threshold else 0.0)


@pytest.fixture
def exported(tmp_path):
    """exported(dictionaries) -> the directory of their set."""

    def run(dictionaries: list[Dictionary], **flags) -> Path:
        runs = [str(tmp_path / f"run{i}") for i in range(len(dictionaries))]
        for path, dictionary in zip(runs, dictionaries, strict=True):
            save_dictionary(path, dictionary)
        own = {"format": "circuit_tracer", "output": str(tmp_path / "out")} | flags
        export(ExportConfig(run=runs[0], also=tuple(runs[1:]), **own))
        return tmp_path / "out"

    return run


@pytest.mark.parametrize("architecture", METHODS)
@pytest.mark.parametrize("skip", [False, True])
def test_its_loader_gives_what_they_give_and_they_come_back(
    architecture, skip, exported, circuit_tracer, torch, relative, tmp_path, capsys
):
    dictionaries = [transcoder(architecture, layer, skip) for layer in (1, 0, 2)]
    out = exported(dictionaries)
    snippet = capsys.readouterr().out.split("\n", 1)[1]
    space: dict = {}
    exec(snippet, space)
    made = space["transcoders"]
    assert (made.feature_input_hook, made.feature_output_hook) == ("mlp.hook_in", "mlp.hook_out")
    assert len(made) == LAYERS and made.skip_connection == skip
    x = np.random.default_rng(9).normal(size=(ROWS, D)).astype(np.float32)
    rows = torch.from_numpy(x)
    for dictionary in dictionaries:
        layer = int(dictionary.metadata["reads"][0][-1])
        latents = dictionary.encode(x)
        with torch.no_grad():
            z = made[layer].encode(rows)
            given = made[layer].decode(z, rows).numpy()
        expected = np.asarray(dictionary.reconstruct(x))
        # A latent is what it was, times its row's length: transcoders keep theirs.
        assert relative(z.numpy(), np.asarray(latents.dense(WIDTH))) < 1e-5
        assert relative(given, expected) < 1e-5
        assert 0 < np.asarray(latents.values > 0).sum(1).mean() < 0.6 * WIDTH
        import_(ImportConfig(format="circuit_tracer", input=str(out), layer=layer, output=str(tmp_path / f"b{layer}")))
        back = load(str(tmp_path / f"b{layer}"))
        assert relative(np.asarray(back.reconstruct(x)), expected) < 1e-5
        assert {name: back.metadata[name] for name in ("reads", "writes", "model", "site")} == dictionary.metadata
        assert back.config.told_k == (None if architecture == "relu" else K)
    told = describe_export(out)
    assert "circuit-tracer" in told and architecture in told and "mlp.hook_in to mlp.hook_out" in told


def test_its_own_files_come_in(circuit_tracer, torch, tmp_path, relative):
    from circuit_tracer.transcoder.activation_functions import JumpReLU
    from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder

    torch.manual_seed(0)
    theirs = SingleLayerTranscoder(D, WIDTH, JumpReLU(torch.rand(WIDTH), 0.1), 0, True, dtype=torch.float32)
    with torch.no_grad():
        for name in ("W_enc", "W_dec", "b_enc", "b_dec", "W_skip"):
            getattr(theirs, name).copy_(torch.randn_like(getattr(theirs, name)) / 3)
    theirs.to_safetensors(str(tmp_path / "layer_0.safetensors"))
    settings = {"feature_input_hook": "hook_resid_mid", "feature_output_hook": "hook_mlp_out"}
    settings |= {"model_kind": "transcoder_set", "model_name": "m", "scan": "s"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    out = str(tmp_path / "run")
    import_(ImportConfig(format="circuit_tracer", input=str(tmp_path), output=out, k=5))
    back = load(out)
    x = np.random.default_rng(1).normal(size=(ROWS, D)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x)).numpy()
    assert relative(np.asarray(back.reconstruct(x)), expected) < 1e-5
    assert back.metadata["reads"] == ["resid_mid.0"] and back.metadata["writes"] == ["mlp_out.0"]
    assert back.config.k == 5 and back.config.skip


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([("topk", 0)], "cannot hold a transcoder of --architecture=topk: .*no top k. Take --format=sparsify"),
        ([("relu", 0), ("relu", 2)], "every layer from 0 on, and 1 is missing. .*--also"),
        ([("relu", 0), ("relu", 0)], "two transcoders are of layer 0"),
        ([("relu", 0), ("relu", 1, False, 32)], "--also: that of layer 1 has 32 latents"),
    ],
)
def test_a_set_that_cannot_be_is_refused(made, message, exported, tmp_path):
    with pytest.raises(InputError, match=message):
        exported([transcoder(*one) for one in made])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model_kind: lorsa\n", "model_kind = 'lorsa'; jaxsae reads transcoder_set and cross_layer_transcoder"),
        ("model_kind: transcoder_set\n", "feature_input_hook = None, expected the name of a hook"),
        ("a: [", "config.yaml cannot be read"),
    ],
)
def test_settings_that_do_not_do_are_refused(content, message, tmp_path):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        import_(ImportConfig(format="circuit_tracer", input=str(tmp_path), output=str(tmp_path / "run")))


def test_a_layer_that_is_not_there_is_named(exported, tmp_path):
    out = exported([transcoder("relu", layer) for layer in range(2)])
    with pytest.raises(InputError, match="--layer=2: .* has layers 0, 1. Name one"):
        import_(ImportConfig(input=str(out), output=str(tmp_path / "back"), layer=2))
    with pytest.raises(InputError, match="--layer=-1: must be 0 or more"):
        ImportConfig(input=str(out), output=str(tmp_path / "back"), layer=-1)
    with pytest.raises(InputError, match="--also=a: --format=saelens holds one dictionary"):
        ExportConfig(run="r", format="saelens", output="o", also=("a",))
