"""Transcoders leave for the formats that hold them, are what they were in the packages' own modules, and come back."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Normalization, Params, fold, make_method
from jaxsae.errors import InputError
from jaxsae.exchange import ExportConfig, ImportConfig, export, import_
from jaxsae.training import load, save_dictionary

D, WIDTH, K, ROWS = 24, 64, 6, 200
KINDS = [(name, skip) for name in ("topk", "batchtopk", "jumprelu", "jumprelu_tanh", "relu") for skip in (False, True)]
THEIRS = {
    "batchtopk": "jumprelu_transcoder",
    "jumprelu": "jumprelu_transcoder",
    "jumprelu_tanh": "jumprelu_transcoder",
    "relu": "transcoder",
}


def transcoder(architecture: str, skip: bool, d_out: int = D) -> Dictionary:
    """A random one as a run has it: read rows are of length 80, written ones of 900."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    norms = rng.uniform(0.3, 3, (WIDTH, 1)).astype(np.float32)
    params = Params.of(draw(WIDTH, D) / D**0.5, 0.3 * draw(WIDTH), norms * draw(WIDTH, d_out) / 5, draw(d_out))
    own = {"jumprelu": {"threshold": jnp.abs(draw(WIDTH))}, "jumprelu_tanh": {"log_threshold": draw(WIDTH) / 2}}
    past = {"W_skip": draw(d_out, D) / D**0.5} if skip else {}
    params = Params(params.latent | own.get(architecture, {}), params.shared | past)
    config = MethodConfig(width=WIDTH, architecture=architecture, k=K, transcode=True, skip=skip)
    read = Normalization(20 * rng.normal(size=D).astype(np.float32), 0.06)
    written = Normalization(100 * rng.normal(size=d_out).astype(np.float32), 0.005)
    method = make_method(config)
    params = fold(params, read, method.pre_bias, method.selection, written)
    about = {"site": "mlp_in.2->mlp_out.2", "reads": ["mlp_in.2"], "writes": ["mlp_out.2"], "model": "a"}
    return Dictionary(params, config, about, threshold=60.0 if config.has_threshold else 0.0)


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    mean = 20 * np.random.default_rng(0).normal(size=D)
    return (mean + rng.normal(size=(ROWS, D)) / 0.06).astype(np.float32)


@pytest.fixture
def exported(tmp_path):
    """exported(dictionary, format) -> the directory of its export."""

    def run(dictionary: Dictionary, format: str) -> str:
        save_dictionary(tmp_path / "run", dictionary)
        export(ExportConfig(run=str(tmp_path / "run"), format=format, output=str(tmp_path / "out")))
        return str(tmp_path / "out")

    return run


@pytest.mark.parametrize(("architecture", "skip"), KINDS)
def test_the_packages_give_what_it_gives_and_it_comes_back(
    architecture, skip, rows, exported, package, torch, relative, tmp_path
):
    dictionary = transcoder(architecture, skip)
    expected = np.asarray(dictionary.reconstruct(rows))
    format = "sparsify" if architecture == "topk" else "saelens"
    out = exported(dictionary, format)
    theirs = package("sparsify" if format == "sparsify" else "sae_lens")
    with torch.no_grad():
        x = torch.from_numpy(rows)
        if format == "sparsify":
            coder = theirs.SparseCoder.load_from_disk(out)
            assert coder.cfg.transcode and coder.cfg.skip_connection == skip
            found = coder(x, torch.zeros(ROWS, D)).sae_out.numpy()
            assert (tmp_path / "out" / "layers.2.mlp" / "cfg.json").exists()
        else:
            coder = theirs.SAE.load_from_disk(out)
            wanted = THEIRS[architecture]
            wanted = {"transcoder": "skip_transcoder"}.get(wanted, "jumprelu_skip_transcoder") if skip else wanted
            assert coder.cfg.architecture() == wanted and coder.cfg.d_out == D
            found = coder(x).numpy()
    assert relative(found, expected) < 1e-5
    assert 0 < np.asarray(dictionary.encode(rows).values > 0).sum(1).mean() < 0.6 * WIDTH
    import_(ImportConfig(format=format, input=out, output=str(tmp_path / "back")))
    back = load(str(tmp_path / "back"))
    assert relative(np.asarray(back.reconstruct(rows)), expected) < 1e-5
    assert (back.config.transcode, back.config.skip) == (True, skip)
    assert (back.metadata["reads"], back.metadata["writes"]) == (["mlp_in.2"], ["mlp_out.2"])


@pytest.mark.parametrize("architecture", ["batchtopk", "jumprelu"])
def test_what_is_written_may_be_wider_than_what_is_read(architecture, rows, exported, package, torch, relative):
    dictionary = transcoder(architecture, skip=True, d_out=40)
    coder = package("sae_lens").SAE.load_from_disk(exported(dictionary, "saelens"))
    with torch.no_grad():
        found = coder(torch.from_numpy(rows)).numpy()
    assert relative(found, np.asarray(dictionary.reconstruct(rows))) < 1e-5


@pytest.mark.parametrize(
    ("architecture", "format", "d_out", "message"),
    [
        ("topk", "saelens", D, "cannot hold a transcoder of --architecture=topk: .*no top k. Take --format=sparsify"),
        ("topk", "sparsify", 40, "as many numbers as it reads, and this transcoder reads 24 and writes 40"),
        ("batchtopk", "sparsify", D, "Take --format=saelens"),
        ("gated", "saelens", D, "cannot hold a transcoder of --architecture=gated"),
        ("topk", "dictionary_learning", D, "none of its classes is a transcoder"),
    ],
)
def test_a_format_that_cannot_hold_it_says_which_can(architecture, format, d_out, message, exported, tmp_path):
    dictionary = transcoder("topk" if architecture == "gated" else architecture, skip=False, d_out=d_out)
    if architecture == "gated":
        more = {name: jnp.zeros(WIDTH) for name in ("r_mag", "b_mag")}
        config = MethodConfig(width=WIDTH, architecture="gated", k=K, transcode=True)
        dictionary = Dictionary(Params(dictionary.params.latent | more, dictionary.params.shared), config, {})
    with pytest.raises(InputError, match=message):
        exported(dictionary, format)
    assert not (tmp_path / "out").exists()
