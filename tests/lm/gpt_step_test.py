"""A GPT read token by token says what it says of whole sequences."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.lm.gpt import GPTConfig, init
from jaxsae.lm.gpt_step import empty_cache, read_step, step

BATCH, LENGTH = 3, 7


@pytest.fixture(scope="module")
def model():
    return init(GPTConfig(vocabulary=11, context=9, layers=2, d_model=16, heads=2), seed=1)


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(0, 11, (BATCH, LENGTH)).astype(np.int32)


def test_step_by_step_is_the_same_as_at_once(model, tokens):
    whole, seen = model(tokens, read=("mlp_out.1",))
    cache = empty_cache(model, BATCH)
    for at in range(LENGTH):
        read = read_step(model, cache, tokens[:, at], jnp.int32(at), "mlp_out.1")
        np.testing.assert_allclose(read, seen["mlp_out.1"][:, at], atol=1e-5)
        logits, cache = step(model, cache, tokens[:, at], jnp.int32(at), {})
        np.testing.assert_allclose(logits, whole[:, at], atol=1e-5)


@pytest.mark.parametrize("site", ["embed", "resid_pre.1", "attn_out.0", "resid_post.0", "resid_post.1"])
def test_what_is_replaced_is_seen_by_all_later_positions(model, tokens, site):
    new = np.random.default_rng(1).standard_normal((BATCH, LENGTH, 16)).astype(np.float32)
    whole = model(tokens, replace={site: lambda _: jnp.asarray(new)})[0]
    cache = empty_cache(model, BATCH)
    for at in range(LENGTH):
        logits, cache = step(model, cache, tokens[:, at], jnp.int32(at), {site: new[:, at]})
        np.testing.assert_allclose(logits, whole[:, at], atol=1e-5)
    assert np.abs(whole - model(tokens)[0]).max() > 0.1
