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
    ],
)
def test_the_layer_is_the_block_s(site, layer):
    assert provenance.layer({"site": site}) == layer
