"""Checkpoints in other types and in several files; weights that are missing, too many, of another shape, or quantised."""

import dataclasses

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.lm.decoder.layout import Layout
from jaxsae.lm.decoder.lm import DecoderLM
from jaxsae.lm.decoder.shape import Split


def _opened(tools, made, tensors):
    """A decoder of another set of tensors."""
    found = made.checkpoint()
    found.tensors = tensors
    return DecoderLM(found, tools.decoder(made).mesh)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_narrow_checkpoint_is_widened(dtype, config_of, make, by_torch, tokens, tools):
    made = make(config_of("llama"), dtype)
    lm = tools.decoder(made)
    assert {t.dtype for t in made.checkpoint().tensors.values()} == {dtype}
    assert lm.weights["embed"].dtype == np.float32
    widened = type(made.model).from_pretrained(made.directory, dtype="float32")
    theirs = by_torch(dataclasses.replace(made, model=widened), tokens)
    assert tools.furthest(tools.whole_pass(lm, tokens), theirs) < 1e-4
    assert tools.decoder(made, dtype="auto").dtype == dtype


def test_a_checkpoint_in_several_files(config_of, make, by_torch, tokens, tools):
    made = make(config_of("qwen3"), max_shard_size="20KB")
    assert len(list(made.directory.glob("*.safetensors"))) > 2
    assert tools.furthest(tools.whole_pass(tools.decoder(made, (1, 4)), tokens), by_torch(made, tokens)) < 1e-4


def test_tensors_that_say_nothing_are_let_be(config_of, make, tools):
    made = make(config_of("gpt2"))
    tensors = made.checkpoint().tensors
    mask = dataclasses.replace(next(iter(tensors.values())), shape=(1, 1, 4, 4))
    _opened(tools, made, tensors | {"transformer.h.0.attn.bias": mask, "transformer.h.0.attn.masked_bias": mask})


def test_an_unembedding_of_its_own_counts_whatever_the_configuration_says(config_of, make, by_torch, tokens, tools):
    """As in transformers, which leaves two tables apart that its configuration calls one."""
    made = make(config_of("llama", tie_word_embeddings=False))
    made.config.tie_word_embeddings = True
    lm = tools.decoder(made)
    assert not lm.shape.tied
    assert tools.furthest(tools.whole_pass(lm, tokens), by_torch(made, tokens)) < 1e-4
    tensors = made.checkpoint().tensors
    same = _opened(tools, made, tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]})
    assert same.shape.tied and "unembed" not in same.weights


def _add(name, like, **changes):
    """Adds, or replaces, a tensor of the bytes of another."""
    return lambda tensors: tensors.update({name: dataclasses.replace(tensors[like], **changes)})


UP, DOWN, NORM = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight", "model.norm.weight"
ATTENTION, EMBED = "model.layers.0.self_attn", "model.embed_tokens.weight"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda tensors: tensors.pop(UP), f"lack weights, {UP} among 1"),
        (lambda tensors: tensors.pop("lm_head.weight"), "lack weights, lm_head.weight"),
        (_add(f"{ATTENTION}.q_proj.bias", NORM), "q_proj.bias in its files"),
        (_add("model.layers.2.mlp.up_proj.weight", NORM), "layers.2.mlp.up_proj.weight"),
        (_add("model.vision_tower_of_another_kind.weight", NORM), "vision_tower_of_another_kind"),
        (_add(EMBED, EMBED, shape=(96, 32)), r"embed_tokens.weight is \[96, 32\].*is \[97, 32\]"),
        (_add(NORM, NORM, shape=(31,)), r"model.norm.weight is \[31\]"),
        (_add(DOWN, UP), r"down_proj.weight is \[50, 32\]"),
        (_add(f"{ATTENTION}.o_proj.weight", f"{ATTENTION}.k_proj.weight"), r"o_proj.weight is \[16, 32\]"),
        (_add(NORM, NORM, type="I8"), "model.norm.weight is in int8: quantised"),
    ],
)
def test_weights_that_are_not_those_of_the_configuration(changed, message, config_of, make, tools):
    made = make(config_of("llama"))
    tensors = made.checkpoint().tensors
    changed(tensors)
    with pytest.raises(InputError, match="--model=small: .*" + message):
        _opened(tools, made, tensors)


@pytest.mark.parametrize("shards", [1, 3, 8])
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2"])
def test_parts_of_weights_come_together(family, shards, config_of, make, tools):
    """What shards read, side by side, is what one reads, with copies and zeros where the layout says."""
    made = make(config_of(family))
    shape, tensors = tools.decoder(made).shape, made.checkpoint().tensors
    for leaf in Layout.of(shape, Split.of(shape, shards), tensors).leaves():
        tensor = tensors[leaf.tensor].mapped()
        everything = tuple(map(slice, leaf.shape))
        whole = leaf.read(tensor, everything, np.float32)
        assert whole.shape == leaf.shape
        if leaf.axis is None:
            continue
        assert leaf.shape[leaf.axis] % shards == 0
        size = leaf.shape[leaf.axis] // shards
        cut = lambda i, a=leaf.axis, e=everything, n=size: (*e[:a], slice(i * n, (i + 1) * n), *e[a + 1 :])
        parts = [leaf.read(tensor, cut(i), np.float32) for i in range(shards)]
        np.testing.assert_array_equal(np.concatenate(parts, leaf.axis), whole)
        view = leaf.view(tensor)
        assert np.isclose(np.abs(whole).sum(), leaf.copies * np.abs(view).sum(), rtol=1e-5)
