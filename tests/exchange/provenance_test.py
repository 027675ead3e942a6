"""The layer that exports name."""

import pytest

from jaxsae.exchange import provenance


@pytest.mark.parametrize(
    ("site", "layer"),
    [
        ("resid_post.7", 7),
        ("embed", 0),
        ("blocks.4.hook_resid_post", 4),
        ("model.decoder.layers.7.fc2", 7),
        ("model.layers.5.mlp.experts.3.down_proj", 5),
        ("model.layers.12.mlp.experts.3.w2.input", 12),
        ("transformer.h.3.mlp", 3),
        ("gpt_neox.layers.10.mlp.dense_4h_to_h", 10),
        ("bert.encoder.layer.6.attention.output.dense", 6),
        ("encoder.block.2.layer.1.DenseReluDense", 2),
        ("model.layers.21", 21),
        ("conv1d_3", 1),
        ("qwen2.5.resid_post.7", 7),
        ("qwen3.layer12", 12),
    ],
)
def test_the_layer_is_the_block_s(site, layer):
    assert provenance.layer({"site": site}) == layer


@pytest.mark.parametrize(
    ("site", "hook"),
    [
        ("resid_mid.7", "blocks.7.hook_resid_mid"),
        ("model.layers.7", "blocks.7.hook_resid_post"),
        ("transformer.h.3", "blocks.3.hook_resid_post"),
        ("model.layers.7.mlp.layers.1", "model.layers.7.mlp.layers.1"),
        ("encoder.layers.3.blocks.1", "encoder.layers.3.blocks.1"),
        ("model.vision_tower.encoder.layers.2", "model.vision_tower.encoder.layers.2"),
    ],
)
def test_a_list_nested_in_a_layer_or_beside_the_text_is_no_layer_of_the_stream(site, hook):
    assert provenance.hook_name({"site": site}) == hook
