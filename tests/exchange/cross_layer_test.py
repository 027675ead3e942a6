"""Cross-layer transcoders leave as circuit-tracer's files, are what they were in its own module, and come back."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.dictionary.parameters import from_own_layer_on
from jaxsae.errors import InputError
from jaxsae.exchange import ExportConfig, ImportConfig, describe_export, export, import_
from jaxsae.training import load, save_dictionary

D, WIDTH, K, ROWS, LAYERS = 12, 48, 6, 100, 3
METHODS = ("batchtopk", "jumprelu", "jumprelu_tanh", "relu")


def cross_layer(architecture: str, first: int = 0, d_out: int = D) -> Dictionary:
    rng = np.random.default_rng(3)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    own = {"jumprelu": {"threshold": jnp.abs(draw(WIDTH))}, "jumprelu_tanh": {"log_threshold": draw(WIDTH) / 2}}
    rows = from_own_layer_on(draw(WIDTH, LAYERS * d_out), 0, LAYERS)
    params = Params.of(draw(WIDTH, D) / D**0.5, 0.3 * draw(WIDTH), rows, draw(LAYERS * d_out))
    params = Params(params.latent | own.get(architecture, {}), params.shared)
    config = MethodConfig(width=WIDTH, architecture=architecture, k=K, transcode=True, layers=LAYERS)
    reads, writes = ([f"{side}.{first + layer}" for layer in range(LAYERS)] for side in ("mlp_in", "mlp_out"))
    about = {"site": f"{'+'.join(reads)}->{'+'.join(writes)}", "reads": reads, "writes": writes, "model": "some/model"}
    return Dictionary(params, config, about, threshold=0.7 if config.has_threshold else 0.0)


@pytest.fixture
def exported(tmp_path):
    """exported(dictionary, **flags) -> the directory of its files."""

    def run(dictionary: Dictionary, **flags) -> Path:
        save_dictionary(str(tmp_path / "run"), dictionary)
        own = {"run": str(tmp_path / "run"), "format": "circuit_tracer", "output": str(tmp_path / "out")}
        export(ExportConfig(**own | flags))
        return tmp_path / "out"

    return run


@pytest.mark.parametrize("architecture", METHODS)
def test_its_loader_gives_what_it_gives_and_it_comes_back(
    architecture, exported, circuit_tracer, torch, relative, tmp_path, capsys
):
    dictionary = cross_layer(architecture)
    out = exported(dictionary)
    space: dict = {}
    exec(capsys.readouterr().out.split("\n", 1)[1], space)
    theirs = space["transcoder"]
    assert (theirs.feature_input_hook, theirs.feature_output_hook) == ("mlp.hook_in", "mlp.hook_out")
    assert (theirs.n_layers, theirs.d_transcoder, theirs.d_model) == (LAYERS, WIDTH // LAYERS, D)
    x = np.random.default_rng(9).normal(size=(ROWS, LAYERS * D)).astype(np.float32)
    with torch.no_grad():
        z = theirs.encode(torch.from_numpy(x.reshape(ROWS, LAYERS, D).transpose(1, 0, 2).copy()))
        given = theirs.decode(z).numpy().transpose(1, 0, 2).reshape(ROWS, -1)
    z = z.numpy().transpose(1, 2, 0).reshape(ROWS, WIDTH)  # latent i is of layer i mod layers
    latents, expected = dictionary.encode(x), np.asarray(dictionary.reconstruct(x))
    assert relative(z, np.asarray(latents.dense(WIDTH))) < 1e-5
    assert relative(given, expected) < 1e-5
    assert 0 < np.asarray(latents.values > 0).sum(1).mean() < 0.6 * WIDTH
    import_(ImportConfig(format="circuit_tracer", input=str(out), output=str(tmp_path / "back")))
    back = load(str(tmp_path / "back"))
    assert relative(np.asarray(back.reconstruct(x)), expected) < 1e-5
    assert {name: back.metadata[name] for name in ("reads", "writes", "model", "site")} == dictionary.metadata
    assert back.config.layers == LAYERS and back.config.told_k == (None if architecture == "relu" else K)
    told = describe_export(out)
    assert f"layers        {LAYERS}" in told and architecture in told and "mlp.hook_in to mlp.hook_out" in told


def test_its_own_files_come_in(circuit_tracer, torch, tmp_path, relative):
    from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder

    torch.manual_seed(0)
    theirs = CrossLayerTranscoder(LAYERS, 16, D, "jump_relu", lazy_decoder=False, dtype=torch.float32)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter) / 3)
        theirs.activation_function.threshold.abs_()
    theirs.to_safetensors(str(tmp_path / "in"))
    settings = (
        "model_kind: cross_layer_transcoder\nfeature_input_hook: hook_resid_mid\nfeature_output_hook: hook_mlp_out\n"
    )
    (tmp_path / "in" / "config.yaml").write_text(settings)
    import_(ImportConfig(format="circuit_tracer", input=str(tmp_path / "in"), output=str(tmp_path / "run"), k=5))
    back = load(str(tmp_path / "run"))
    x = np.random.default_rng(1).normal(size=(ROWS, LAYERS * D)).astype(np.float32)
    with torch.no_grad():
        given = theirs(torch.from_numpy(x.reshape(ROWS, LAYERS, D).transpose(1, 0, 2).copy()))
    expected = given.numpy().transpose(1, 0, 2).reshape(ROWS, -1)
    assert relative(np.asarray(back.reconstruct(x)), expected) < 1e-5
    assert back.metadata["reads"] == [f"resid_mid.{layer}" for layer in range(LAYERS)] and back.config.k == 5


@pytest.mark.parametrize(
    ("made", "flags", "message"),
    [
        ({"first": 2}, {}, "every layer of a model from 0 on, and this is of 2, 3, 4"),
        ({"d_out": 8}, {}, "this reads 12 and writes 8 numbers of a layer"),
        ({}, {"also": ("other",)}, "--also: --run is a cross-layer transcoder"),
        (
            {},
            {"format": "saelens"},
            "--format=saelens cannot hold a cross-layer transcoder. Take --format=circuit_tracer",
        ),
    ],
)
def test_what_the_format_cannot_hold_is_refused(made, flags, message, exported, tmp_path):
    dictionary = cross_layer("relu", **made)
    if flags.get("also"):
        save_dictionary(str(tmp_path / "other"), dictionary)
        flags = {"also": (str(tmp_path / "other"),)}
    with pytest.raises(InputError, match=message):
        exported(dictionary, **flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda out: (out / "W_enc_1.safetensors").unlink(), "has files of layers 0, 2; expected two or more"),
        (lambda out: (out / "W_dec_1.safetensors").unlink(), "W_dec_1.safetensors"),
        (lambda out: (out / "W_dec_0.safetensors").write_bytes((out / "W_dec_1.safetensors").read_bytes()), "W_dec_0"),
    ],
)
def test_files_that_do_not_do_are_refused(harm, message, exported, tmp_path):
    out = exported(cross_layer("relu"))
    harm(out)
    with pytest.raises(InputError, match=message):
        import_(ImportConfig(format="circuit_tracer", input=str(out), output=str(tmp_path / "back")))


def test_it_comes_whole(exported, tmp_path):
    out = exported(cross_layer("relu"))
    with pytest.raises(InputError, match="--layer=1: .* is a cross-layer transcoder"):
        import_(ImportConfig(format="circuit_tracer", input=str(out), layer=1, output=str(tmp_path / "back")))
