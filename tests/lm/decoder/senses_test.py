"""A Gemma 3 of text and images: its text alone is read, from files as transformers writes them and as the hub has them."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.lm.decoder.lm import DecoderLM
from jaxsae.parallel import make_mesh

TEXT = dict(
    vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=50, head_dim=16,
    max_position_embeddings=64, num_key_value_heads=2, query_pre_attn_scalar=24, sliding_window=5,
    layer_types=["sliding_attention", "full_attention"], rope_scaling={"rope_type": "linear", "factor": 8.0},
)  # fmt: skip
SIGHT = dict(
    hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8
)


@pytest.fixture(scope="module")
def made(transformers, make):
    config = transformers.Gemma3Config(
        text_config=TEXT, vision_config=SIGHT, mm_tokens_per_image=4, image_token_index=96, boi_token_index=95,
        eoi_token_index=94,
    )  # fmt: skip
    return make(config)


def test_the_text_of_it_is_read(made, by_torch, tokens, tools):
    tokens = np.minimum(tokens, 90)  # no image among them
    tensors = made.checkpoint().tensors
    assert made.config.model_type == "gemma3" and any("vision_tower" in name for name in tensors)
    lm = tools.decoder(made, (1, 4))
    assert lm.shape.family == "gemma3_text" and lm.shape.tied
    theirs = by_torch(made, tokens)
    assert theirs.keys() == {*lm.shape.sites, "logits"}
    assert tools.furthest(tools.whole_pass(lm, tokens), theirs) < 1e-4


@pytest.mark.parametrize("now", ["language_model.model.", "model.language_model.", "model."])
def test_under_any_prefix(now, made, tokens, tools):
    """language_model.model. is the hub's."""
    found = made.checkpoint()
    whole = tools.whole_pass(tools.decoder(made), tokens)
    before = next(name for name in found.tensors if name.endswith("embed_tokens.weight")).removesuffix(
        "embed_tokens.weight"
    )
    found.tensors = {name.replace(before, now): tensor for name, tensor in found.tensors.items()}
    lm = DecoderLM(found, make_mesh((1, 1), jax.devices()[:1]))
    np.testing.assert_array_equal(tools.whole_pass(lm, tokens)["logits"], whole["logits"])


def test_the_whole_says_whether_tables_are_one(made, tools):
    config = type(made.config).from_dict(made.config.to_dict() | {"tie_word_embeddings": False})
    with pytest.raises(InputError, match="lack weights, lm_head.weight"):
        tools.decoder(dataclasses.replace(made, config=config))


def test_caps_that_the_whole_does_not_have_are_refused(made, tools):
    said = made.config.to_dict()
    said["text_config"]["final_logit_softcapping"] = 3.0
    with pytest.raises(InputError, match="final_logit_softcapping=3.0"):
        tools.decoder(dataclasses.replace(made, config=type(made.config).from_dict(said)))
