"""The real packages load what we write, and we load what they write, with the same latents and reconstructions."""

import json

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.exchange import dictionary_learning, saelens, sparsify

D, N, K = 48, 128, 8
TOLERANCE = 1e-5


def norm_factor(dictionary) -> np.ndarray:
    """What the export's latents are multiplied by: decoder norms for relu, 1 for topk."""
    W_dec = np.asarray(dictionary.params.W_dec)
    return np.linalg.norm(W_dec, axis=1) if dictionary.config.architecture == "relu" else np.ones(N)


def ours(dictionary, x) -> tuple[np.ndarray, np.ndarray]:
    latents = dictionary.encode(x)
    return np.asarray(latents.dense(N)), np.asarray(dictionary.decode(latents))


@pytest.fixture
def check_same(theirs, relative):
    def check(dictionary, sae, x, factor=None) -> None:
        (z, x_hat), (their_z, their_x_hat) = ours(dictionary, x), theirs(sae, x)
        assert np.linalg.norm(x, axis=1).mean() > 300 and (z > 0).any(1).all()
        assert relative(their_z, z if factor is None else z * factor) < TOLERANCE
        assert relative(their_x_hat, x_hat) < TOLERANCE

    return check


class Coder:
    """sparsify's sparse latents as a dense array, like the others'."""

    def __init__(self, coder):
        self.coder = coder

    def encode(self, x):
        values, indices, _ = self.coder.encode(x)
        return values.new_zeros(len(x), N).scatter_(1, indices, values)

    def decode(self, z):
        return self.coder.decode(*z.topk(K))


def test_saelens_loads_ours(dictionary, x, load_saelens, check_same, tmp_path):
    saelens.write(dictionary, tmp_path)
    sae = load_saelens(tmp_path)
    check_same(dictionary, sae, x, norm_factor(dictionary))
    assert sae.cfg.metadata.hook_name == "blocks.2.hook_resid_post"
    assert sae.cfg.metadata.model_name == "othello_gpt" and sae.cfg.metadata.context_size == 59
    np.testing.assert_allclose(sae.W_dec.detach().norm(dim=1).numpy(), 1, rtol=1e-5)


def test_sparsify_loads_ours_at_the_root_and_as_many(make_dictionary, x, package, check_same, tmp_path):
    sparse_coder = package("sparsify").SparseCoder
    dictionary = make_dictionary("topk")
    sparsify.write(dictionary, tmp_path)
    many = sparse_coder.load_many(str(tmp_path), local=True)
    assert list(many) == ["resid_post.2"]
    for sae in (many["resid_post.2"], sparse_coder.load_from_disk(tmp_path)):
        check_same(dictionary, Coder(sae), x)


def test_dictionary_learning_loads_ours(dictionary, x, load_dictionary, check_same, tmp_path):
    dictionary_learning.write(dictionary, tmp_path)
    sae, config = load_dictionary(tmp_path)
    check_same(dictionary, sae, x, norm_factor(dictionary))
    assert config["trainer"]["layer"] == 2 and config["buffer"]["ctx_len"] == 59


def test_a_decoder_row_of_zeros_never_fires(make_dictionary, x, load_dictionary, theirs, check_same, tmp_path):
    dictionary = make_dictionary("relu")
    W_dec = np.array(dictionary.params.W_dec)
    W_dec[3] = 0
    dictionary = type(dictionary)(dictionary.params.put(W_dec=W_dec), dictionary.config)
    dictionary_learning.write(dictionary, tmp_path)
    sae, _ = load_dictionary(tmp_path)
    check_same(dictionary, sae, x, norm_factor(dictionary))
    assert (theirs(sae, x)[0][:, 3] == 0).all()


@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("kind", ["topk", "topk_by_norm", "standard"])
def test_we_load_what_saelens_saves(kind, apply_b_dec, x, package, randomise, check_same, tmp_path):
    package("sae_lens")
    from sae_lens import StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig

    common = dict(d_in=D, d_sae=N, apply_b_dec_to_input=apply_b_dec)
    if kind == "standard":
        sae = StandardSAE(StandardSAEConfig(**common))
    else:
        sae = TopKSAE(TopKSAEConfig(k=K, rescale_acts_by_decoder_norm=kind == "topk_by_norm", **common))
    sae.cfg.metadata.model_name, sae.cfg.metadata.hook_name = "gpt2", "blocks.3.hook_resid_pre"
    randomise(sae)
    sae.save_model(tmp_path)
    dictionary = saelens.read(tmp_path)
    assert dictionary.metadata["model"] == "gpt2" and dictionary.metadata["site"] == "resid_pre.3"
    check_same(dictionary, sae, x)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_we_load_what_sparsify_saves(dtype, x, torch, package, randomise, check_same, tmp_path):
    config = package("sparsify").SparseCoderConfig(num_latents=N, k=K)
    coder = package("sparsify").SparseCoder(D, config)
    randomise(coder)
    coder = coder.to(getattr(torch, dtype))
    coder.save_to_disk(tmp_path / "layers.3")
    dictionary = sparsify.read(tmp_path)
    assert dictionary.metadata["site"] == "resid_post.3"
    check_same(dictionary, Coder(coder.float()), x)


@pytest.mark.parametrize(
    "settings", [{}, {"skip_connection": True}, {"multi_topk": True, "normalize_decoder": False}], ids=str
)
def test_we_load_sparsifys_transcoders(settings, x, torch, package, randomise, relative, tmp_path):
    config = package("sparsify").SparseCoderConfig(num_latents=N, k=K, transcode=True, **settings)
    coder = package("sparsify").SparseCoder(D, config)
    randomise(coder)  # W_skip too, which is then no symmetric matrix
    coder.save_to_disk(tmp_path / "layers.3.mlp")
    dictionary = sparsify.read(tmp_path)
    rows = torch.from_numpy(x)
    with torch.no_grad():
        # With multi_topk its forward() gives what 4 k latents make, which is for its loss; k is what it encodes to.
        expected = coder.decode(*coder.encode(rows)[:2]) + (rows @ coder.W_skip.mT if coder.cfg.skip_connection else 0)
        assert coder.cfg.multi_topk or relative(coder(rows, rows).sae_out.numpy(), expected.numpy()) < 1e-6
    assert relative(np.asarray(dictionary.reconstruct(x)), expected.numpy()) < TOLERANCE
    assert dictionary.config.transcode and dictionary.config.skip == ("skip_connection" in settings)
    assert dictionary.config.architecture == ("multi_topk" if "multi_topk" in settings else "topk")
    assert (dictionary.metadata["reads"], dictionary.metadata["writes"]) == (["mlp_in.3"], ["mlp_out.3"])
    (tmp_path / "out").mkdir()
    sparsify.write(dictionary, tmp_path / "out")
    package("sparsify").SparseCoder.load_from_disk(tmp_path / "out").save_to_disk(tmp_path / "again/layers.3.mlp")
    back = sparsify.read(tmp_path / "again")
    for name, array in {**dictionary.params.latent, **dictionary.params.shared}.items():
        np.testing.assert_array_equal({**back.params.latent, **back.params.shared}[name], array)


def test_sparsifys_group_max_is_refused_with_why(x, package, randomise, tmp_path):
    coder = package("sparsify").SparseCoder(
        D, package("sparsify").SparseCoderConfig(num_latents=N, k=K, activation="groupmax")
    )
    coder.save_to_disk(tmp_path / "layers.3")
    with pytest.raises(
        InputError, match="activation = 'groupmax', only 'topk' .*the largest latent of each of k groups"
    ):
        sparsify.read(tmp_path)


@pytest.mark.parametrize("name", ["AutoEncoderTopK", "AutoEncoder", "AutoEncoderNew"])
def test_we_load_what_dictionary_learning_saves(
    name, x, torch, package, randomise, load_dictionary, check_same, tmp_path
):
    package("dictionary_learning")
    from dictionary_learning import dictionary as classes
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    topk = name == "AutoEncoderTopK"
    sae = AutoEncoderTopK(D, N, K) if topk else getattr(classes, name)(D, N)
    randomise(sae)
    torch.save(sae.state_dict(), tmp_path / "ae.pt")
    trainer = {"dict_class": name, "lm_name": "gpt2", "layer": 3} | ({"k": K} if topk else {})
    (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer}))
    # Its loader scales AutoEncoder's decoder rows to length 1, and so the latents: what it loads is the authority.
    loaded, _ = load_dictionary(tmp_path)
    check_same(dictionary_learning.read(tmp_path), loaded, x)
