"""Every site of the GPT can be read and replaced, and what stands in for it is what the rest of the model sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from jaxsae.errors import InputError
from jaxsae.lm import othello, weights
from jaxsae.lm.gpt import GPTConfig, init

CONFIG = GPTConfig(vocabulary=11, context=7, layers=2, d_model=16, heads=2)
TOKENS = np.random.default_rng(0).integers(0, 11, (3, 7))


@pytest.fixture(scope="module")
def model():
    return init(CONFIG, seed=1)


def plain(model, tokens):
    """Logits by the definition, in NumPy, one sequence and one head at a time."""
    norm = lambda x: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
    array = lambda p: np.asarray(p[...], np.float64)
    out = []
    for sequence in tokens:
        x = array(model.embedding)[sequence] + array(model.position)[: len(sequence)]
        for block in model.blocks:
            q, k, v = np.split(norm(x) @ array(block.qkv), 3, 1)
            heads = []
            for part in np.split(np.arange(CONFIG.d_model), CONFIG.heads):
                scores = q[:, part] @ k[:, part].T / np.sqrt(len(part))
                scores[np.triu_indices(len(sequence), 1)] = -np.inf
                odds = np.exp(scores - scores.max(1, keepdims=True))
                heads.append(odds / odds.sum(1, keepdims=True) @ v[:, part])
            x = x + np.concatenate(heads, 1) @ array(block.attn_out)
            x = x + np.maximum(norm(x) @ array(block.mlp_in), 0) @ array(block.mlp_out)
        out.append(norm(x) @ array(model.unembedding))
    return np.stack(out)


def test_logits_are_those_of_the_definition(model):
    logits, read = model(TOKENS)
    np.testing.assert_allclose(logits, plain(model, TOKENS), rtol=1e-4, atol=1e-4)
    assert read == {}


def test_every_site_is_read_with_its_shape_and_its_meaning(model):
    _, read = model(TOKENS, read=CONFIG.sites())
    assert set(read) == set(CONFIG.sites()) and len(read) == 11
    assert all(x.shape == (3, 7, 16) for x in read.values())
    np.testing.assert_array_equal(read["resid_pre.0"], read["embed"])
    np.testing.assert_array_equal(read["resid_pre.1"], read["resid_post.0"])
    summed = read["resid_pre.1"] + read["attn_out.1"] + read["mlp_out.1"]
    np.testing.assert_allclose(read["resid_post.1"], summed, atol=1e-5)
    np.testing.assert_allclose(jnp.square(read["mlp_in.0"]).mean(-1), 1, atol=0.01)


@pytest.mark.parametrize("site", CONFIG.sites())
def test_replacing_a_site_by_itself_changes_nothing_and_by_zeros_does(model, site):
    logits, _ = model(TOKENS)
    same, read = model(TOKENS, read=[site], replace={site: lambda x: x})
    np.testing.assert_array_equal(same, logits)
    zeroed, read = model(TOKENS, read=[site], replace={site: jnp.zeros_like})
    assert not np.any(read[site])  # a site is read as replaced
    assert np.abs(np.asarray(zeroed - logits)).max() > 1e-2


@pytest.mark.parametrize("site", ["embed", "resid_pre.1", "resid_post.0", "resid_post.1"])
def test_the_residual_stream_of_other_tokens_gives_the_logits_of_other_tokens(model, site):
    other = TOKENS[:, ::-1]
    logits, read = model(other, read=[site])
    spliced, _ = model(TOKENS, replace={site: lambda _: read[site]})
    np.testing.assert_allclose(spliced, logits, atol=1e-5)


def test_several_sites_are_replaced_at_once_in_order(model):
    seen = []
    note = lambda name, x: seen.append(name) or 2 * x
    replace = {site: lambda x, s=site: note(s, x) for site in ("resid_post.1", "embed", "mlp_out.0")}
    _, read = model(TOKENS, read=["embed"], replace=replace)
    assert seen == ["embed", "mlp_out.0", "resid_post.1"]
    np.testing.assert_allclose(read["embed"], 2 * model(TOKENS, read=["embed"])[1]["embed"], rtol=1e-6)


def test_a_site_that_is_not_there_is_refused_with_those_that_are(model):
    for kwargs in ({"read": ["resid_post.2"]}, {"replace": {"resid_post.2": jnp.zeros_like}}):
        with pytest.raises(InputError, match=r"resid_post\.2: no such site.*resid_post\.1"):
            model(TOKENS, **kwargs)


def test_a_later_token_changes_no_earlier_logit(model):
    changed = TOKENS.copy()
    changed[:, 4] = (changed[:, 4] + 1) % 11
    (logits, _), (others, _) = model(TOKENS), model(changed)
    np.testing.assert_array_equal(logits[:, :4], others[:, :4])
    assert (np.abs(np.asarray(logits - others))[:, 4:].max((0, 2)) > 1e-6).all()


def test_shorter_sequences_give_the_same_logits(model):
    np.testing.assert_allclose(model(TOKENS[:, :3])[0], model(TOKENS)[0][:, :3], atol=1e-5)


def test_heads_must_divide_the_width():
    with pytest.raises(InputError, match="d_model=16 must be a multiple of heads=3"):
        GPTConfig(d_model=16, heads=3)


def test_weights_come_back_from_disk_as_they_were_in_float16(model, tmp_path):
    path = tmp_path / "model.safetensors"
    weights.save(model, path, notes={"games": 5})
    loaded = weights.load(str(path))
    assert loaded.config == CONFIG and weights.read_notes(str(path)) == {"games": 5}
    states = [jax.tree.leaves(nnx.state(m, nnx.Param)) for m in (model, loaded)]
    for before, after in zip(*states, strict=True):
        np.testing.assert_array_equal(np.float16(before), after)
    np.testing.assert_allclose(loaded(TOKENS)[0], model(TOKENS)[0], atol=0.02)


def test_random_weights_have_the_shape_of_the_shipped_ones_and_follow_the_seed():
    one, again, other = (weights.load(f"random:{seed}") for seed in (0, 0, 1))
    assert one.config == weights.load().config
    np.testing.assert_array_equal(one.embedding[...], again.embedding[...])
    assert not np.array_equal(one.embedding[...], other.embedding[...])


@pytest.mark.parametrize(
    "source", ["random", "random:", "random:x", "/no/such/file", "text", "foreign", "cut", "shape"]
)
def test_what_is_no_model_is_refused(source, model, tmp_path):
    if not source.startswith(("random", "/")):
        path = tmp_path / source
        weights.save(model, path)
        if source == "text":
            path.write_text("hello")
        elif source == "foreign":
            save_file({"x": np.zeros(3)}, path)
        elif source == "cut":
            path.write_bytes(path.read_bytes()[:-100])
        else:
            header = {"config": '{"vocabulary": 11, "context": 7, "layers": 3, "d_model": 16, "heads": 2}'}
            save_file({"embedding": np.zeros((11, 16), np.float16)}, path, metadata=header)
        source = str(path)
    with pytest.raises(InputError, match="--model="):
        weights.load(source)


def test_a_full_othello_game_fits_the_default_shape():
    assert GPTConfig().context == othello.CONTEXT and GPTConfig().vocabulary == othello.MOVES
