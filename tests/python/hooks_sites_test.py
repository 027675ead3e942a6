"""Where hooks of torch models go: names, paths, transcoders, modules that are none of transformers'; and what is refused."""

import numpy as np
import pytest
from python.hooked import block_output, changed_positions, logits, sae_of, with_block_output
from python.small import make_dictionary

from jaxsae import hooks
from jaxsae.errors import InputError

torch = pytest.importorskip("torch")


def test_sites_by_other_names(model):
    model = model()
    x = changed_positions(model, hooks.splice(model, sae_of("blocks.1.hook_resid_post"), special=()))
    assert x.all()
    for site in ("model.layers.1", "layers.1", "model.layers.2.input"):
        with hooks.splice(model, sae_of("elsewhere"), site=site, special=()), hooks.read(model, site) as seen:
            found = logits(model)
        np.testing.assert_allclose(
            found, with_block_output(model, sae_of().reconstruct(block_output(model))), atol=1e-5
        )
        assert list(seen) == [site]


def test_a_torch_module_that_is_none_of_transformers(capsys):
    plain = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Linear(16, 3))
    sae, x = sae_of("0"), torch.randn(5, 4)
    with hooks.splice(plain, sae), torch.no_grad():
        found = plain(x)
    torch.testing.assert_close(found, plain[1](sae.reconstruct(plain[0](x))))
    with (
        pytest.raises(InputError, match=r"site=resid_post.1: this model is none of transformers'.*0, 1"),
        hooks.splice(plain, sae_of()),
    ):
        pass
    with hooks.splice(plain, sae):
        pass
    assert "no pass came to 0" in capsys.readouterr().err


def test_transcoders_of_every_layer_stand_in_the_place_of_mlps(model):
    model = model()
    reads, writes = ["mlp_in.0", "mlp_in.1"], ["mlp_out.0", "mlp_out.1"]
    clt = make_dictionary("batchtopk", d=16, transcode=True, layers=2, reads=reads, writes=writes)
    with hooks.splice(model, clt, special=()), hooks.read(model, *reads, *writes) as seen:
        logits(model)
    x = torch.cat([seen[site] for site in reads], -1)
    torch.testing.assert_close(torch.cat([seen[site] for site in writes], -1), clt.reconstruct(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="writes several layers"), hooks.ablate(model, clt, [3]):
        pass


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda m: hooks.splice(m, make_dictionary(d=16)), "does not say its site"),
        (lambda m: hooks.splice(m, sae_of("resid_post.7")), "resid_post.7: no such site"),
        (
            lambda m: hooks.splice(m, make_dictionary(d=16 + 1, site="resid_post.1")),
            "has width 16, and the dictionary 17",
        ),
        (lambda m: hooks.ablate(m, sae_of(), [64]), "latent 64: this dictionary has 0 to 63"),
        (lambda m: hooks.ablate(m, sae_of(), [3, 3]), "named twice"),
        (lambda m: hooks.splice(m, make_dictionary(d=16, site_widths=(8, 8))), "crosscoder"),
        (lambda m: hooks.splice(m, make_dictionary(d=16, transcode=True)), "does not say its sites"),
        (lambda m: hooks.splice(m, make_dictionary(d=16, transcode=True), site="mlp_out.1"), "a transcoder has two"),
        (lambda m: hooks.splice("gpt2", sae_of()), "str is neither a torch module nor"),
        (lambda m: hooks.splice(m, sae_of(), positions=np.ones(5, bool)), r"\[5\] do not fit activations of \[2, 7\]"),
        (lambda m: hooks.splice(m, sae_of(), positions=[7]), "a sequence has 7"),
        (lambda m: hooks.splice(m, sae_of(), positions=[0.5]), "give a bool mask"),
        (lambda m: hooks.splice(m, sae_of(), error=np.zeros((2, 6, 16))), r"error \[2, 6, 16\]"),
        (
            lambda m: hooks.splice(m, make_dictionary(d=16, transcode=True), site=("mlp_out.1", "mlp_in.1")),
            "mlp_out.1 comes after mlp_in.1",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(model, make, told):
    model = model()
    with pytest.raises(InputError, match=told), make(model):
        logits(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
