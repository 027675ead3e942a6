"""A pass in narrow types, in pieces, cut short, over padding; and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxsae.errors import InputError
from jaxsae.lm.decoder import forward
from jaxsae.lm.decoder.program import OverMesh
from jaxsae.parallel import DATA, MODEL

SITE = "resid_post.0"


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_bfloat16_is_near_float32(family, config_of, make, tokens, tools):
    """As near as 8 bits let two layers be, and not the same."""
    made = make(config_of(family))
    narrow = tools.whole_pass(tools.decoder(made, dtype="bfloat16"), tokens)
    assert narrow[SITE].dtype == jnp.bfloat16 and narrow["logits"].dtype == np.float32
    whole = tools.whole_pass(tools.decoder(made), tokens)
    for site, x in whole.items():
        share = np.linalg.norm(narrow[site].astype(np.float32) - x) / np.linalg.norm(x)
        assert 0 < share < 0.06, site


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_pieces_of_queries_are_one_whole(family, config_of, make, tokens, tools, monkeypatch):
    made = make(config_of(family, **({"sliding_window": 5} if family == "mistral" else {})))
    whole = tools.whole_pass(tools.decoder(made), tokens)  # of 64 positions
    monkeypatch.setattr(forward, "QUERIES_AT_ONCE", 8)
    seen = []
    attended = forward._attended
    monkeypatch.setattr(forward, "_attended", lambda *given: seen.append(given[3]) or attended(*given))
    assert tools.furthest(tools.whole_pass(tools.decoder(made), tokens), whole) < 1e-5
    begins = [0, *(8 * i - 4 for i in range(1, 8))] if family == "mistral" else [0] * 8
    assert seen == 2 * [(begin, 8 * i, 8 * i + 8) for i, begin in enumerate(begins)]


def test_what_fills_up_a_sequence_changes_nothing_before_it(config_of, make, tokens, tools):
    """40 positions stand in a pass of 64: the same as a pass of other tokens behind them."""
    lm = tools.decoder(make(config_of("gemma3_text")))
    longer = np.concatenate([tokens, np.full((2, 24), 5, np.int32)], 1)
    padded = np.concatenate([tokens, np.full((2, 24), -1, np.int32)], 1)
    short = tools.whole_pass(lm, tokens)
    for other in (longer, padded):
        assert tools.furthest({k: x[:, :40] for k, x in tools.whole_pass(lm, other).items()}, short) < 1e-6


def test_only_the_blocks_that_sites_need_are_read(config_of, make, tokens, tools):
    made = make(config_of("llama", num_hidden_layers=3))
    whole, cut = tools.decoder(made), tools.decoder(made, sites=("mlp_out.1", "embed"))
    assert len(whole.weights["blocks"]) == 3 and len(cut.weights["blocks"]) == 2
    assert set(cut.weights) == {"embed", "blocks"}
    assert len(tools.decoder(made, sites=("embed",)).weights["blocks"]) == 0
    kept = np.arange(80).reshape(2, 40) % 3 == 0
    names = ("embed", "mlp_out.1")
    one, other = (lm.read(tokens, kept, names, "float32") for lm in (whole, cut))
    seen = tools.whole_pass(whole, tokens)
    for site in names:
        np.testing.assert_allclose(one[site], seen[site][kept], atol=1e-5)
        np.testing.assert_array_equal(one[site], other[site])


def test_a_token_beyond_the_vocabulary_is_refused(config_of, make, tokens, tools):
    """Split over shards its embedding would be zeros, without a word."""
    lm = tools.decoder(make(config_of("llama")), (1, 2))
    with pytest.raises(InputError, match="token 97 is beyond its vocabulary of 97"):
        lm.read(np.where(tokens == tokens[1, 3], 97, tokens), np.ones((2, 40), bool), ("embed",), "float32")


def _gradient(lm, tokens):
    """d (the logit of token 11 at the last position) / d (what stands at SITE), [B, T, d]."""

    def device(weights, tokens, put):
        def logit(put):
            x = forward.stream(weights, lm.shape, tokens, lambda site, x: put if site == SITE else x)
            out = forward.logits(weights, lm.shape, x)[:, -1]
            columns = jax.lax.axis_index(MODEL) * out.shape[-1] + jnp.arange(out.shape[-1])
            return jnp.where(columns == 11, out, 0).sum()  # of this shard; the gradients are summed over shards

        return jax.grad(logit)(put)

    place = P(DATA, None, None)
    put = np.random.default_rng(1).normal(size=(*tokens.shape, lm.shape.d_model)).astype(np.float32)
    return put, np.asarray(OverMesh(device, lm.mesh, (P(DATA, None), place), place)(lm.weights, tokens, put))


def test_gradients_are_those_of_torch_on_any_mesh(config_of, make, tokens, tools):
    import torch

    made = make(config_of("llama", num_hidden_layers=3))
    put, alone = _gradient(tools.decoder(made), tokens)
    _, split = _gradient(tools.decoder(made, (2, 4)), tokens)
    np.testing.assert_allclose(split, alone, atol=1e-5 * np.abs(alone).max())
    there = torch.tensor(put, requires_grad=True)
    hook = made.model.model.layers[0].register_forward_hook(lambda module, args, out: there)
    made.model(torch.as_tensor(tokens.astype(np.int64)), use_cache=False).logits[:, -1, 11].sum().backward()
    hook.remove()
    theirs = there.grad.numpy()
    assert np.abs(theirs[:, 0]).max() > 0  # through attention
    np.testing.assert_allclose(alone, theirs, atol=1e-4 * np.abs(theirs).max())
