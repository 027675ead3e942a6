"""Tables of rotary positions are those of transformers, below and beyond the context that a model was made for."""

import numpy as np
import pytest

from jaxsae.lm.decoder import rope
from jaxsae.lm.decoder.families import shape_of

THETA = {"rope_theta": 50000.0}
TRAINED = {"original_max_position_embeddings": 64}
LONG = {"short_factor": [1.0 + 0.1 * i for i in range(8)], "long_factor": [1.0 + i for i in range(8)]}
KINDS = {
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 3.0},
    "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0} | TRAINED,
    "yarn": {"rope_type": "yarn", "factor": 4.0} | TRAINED,
    "yarn, its own attention": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 0.9, "beta_slow": 2} | TRAINED,
    "yarn, scales": {"rope_type": "yarn", "factor": 4.0, "mscale": 1.2, "mscale_all_dim": 0.5} | TRAINED,
    "yarn, not rounded": {"rope_type": "yarn", "factor": 4.0, "truncate": False, "beta_fast": 16} | TRAINED,
    "longrope": {"rope_type": "longrope", "factor": 4.0} | LONG | TRAINED,
    "longrope, its own attention": {"rope_type": "longrope", "factor": 4.0, "attention_factor": 1.3} | LONG | TRAINED,
    "longrope, no factor": {"rope_type": "longrope"} | LONG | TRAINED,
}


@pytest.mark.parametrize("length", [40, 100, 500])
@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_those_of_transformers(kind, length, transformers, config_of):
    """64 positions were trained on, 256 is the context."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = config_of("llama", head_dim=16, max_position_embeddings=256, rope_parameters=KINDS[kind] | THETA)
    frequencies, factor = ROPE_INIT_FUNCTIONS[config.rope_parameters["rope_type"]](config, seq_len=length)
    angles = np.arange(length, dtype=np.float64)[:, None] * frequencies.numpy()
    cos, sin = rope.tables(shape_of(config, "small").layers[0].rope, length)
    # A frequency's last bit is 6e-8 of it, and so 3e-5 of an angle of 500.
    np.testing.assert_allclose(cos, np.cos(angles) * factor, atol=1e-4)
    np.testing.assert_allclose(sin, np.sin(angles) * factor, atol=1e-4)


def test_a_share_of_a_head_is_turned(config_of):
    layer = shape_of(config_of("gpt_neox", rotary_pct=0.5), "small").layers[0]
    cos, sin = rope.tables(layer.rope, 7)
    x = np.random.default_rng(0).normal(size=(1, 7, 2, 8)).astype(np.float32)
    y = np.asarray(rope.turned(x, cos, sin))
    assert layer.rope.rotated == 4 and cos.shape == (7, 2)
    np.testing.assert_array_equal(y[..., 4:], x[..., 4:])
    turn = (x[..., :2] + 1j * x[..., 2:4]) * (cos + 1j * sin)[None, :, None]
    np.testing.assert_allclose(y[..., :4], np.concatenate([turn.real, turn.imag], -1), atol=1e-6)
