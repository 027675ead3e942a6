"""Every family, with every option that its config.json may set, is what transformers computes: all sites and the logits."""

import pytest

TOLERANCE = 1e-4  # of the largest value at a site, in float32: what was measured is 1e-6 to 1e-5
ROPE = {"rope_theta": 10000.0}
LINEAR = ROPE | {"rope_type": "linear", "factor": 2.0}
DYNAMIC = ROPE | {"rope_type": "dynamic", "factor": 4.0}
LLAMA3 = ROPE | {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = ROPE | {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LONG = ROPE | {
    "rope_type": "longrope", "factor": 4.0, "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 3.0, 4.0],
}  # fmt: skip
SLIDING, FULL = "sliding_attention", "full_attention"
BY_TYPE = {FULL: LINEAR | {"rope_theta": 1e6}, SLIDING: {"rope_type": "default", "rope_theta": 1e4}}

CASES = {
    "llama": ("llama", {}),
    "llama, one key head, tied, all biases, heads of another size": (
        "llama",
        dict(num_key_value_heads=1, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, head_dim=12),
    ),
    "llama, all key heads, relu": ("llama", dict(num_key_value_heads=4, hidden_act="relu2", rms_norm_eps=1e-2)),
    "llama, linear": ("llama", dict(rope_parameters=LINEAR)),
    "llama, dynamic within the context": ("llama", dict(rope_parameters=DYNAMIC)),
    "llama, dynamic beyond it": ("llama", dict(rope_parameters=DYNAMIC, max_position_embeddings=24)),
    "llama, llama3": ("llama", dict(rope_parameters=LLAMA3)),
    "llama, yarn": ("llama", dict(rope_parameters=YARN)),
    "llama, yarn, scales": (
        "llama",
        dict(rope_parameters=YARN | {"mscale": 0.7, "mscale_all_dim": 0.4, "beta_fast": 8}),
    ),
    "llama, longrope, short": ("llama", dict(rope_parameters=LONG | {"original_max_position_embeddings": 40})),
    "llama, longrope, long": ("llama", dict(rope_parameters=LONG | {"original_max_position_embeddings": 16})),
    "mistral": ("mistral", dict(sliding_window=4)),
    "mistral, no window, tied": ("mistral", dict(sliding_window=None, tie_word_embeddings=True)),
    "mistral, heads of another size": ("mistral", dict(head_dim=6, hidden_act="gelu")),
    "qwen2": ("qwen2", {}),
    "qwen2, a window from the second layer on, tied": (
        "qwen2",
        dict(use_sliding_window=True, sliding_window=4, max_window_layers=1, tie_word_embeddings=True),
    ),
    "qwen2, types of layers": ("qwen2", dict(use_sliding_window=True, sliding_window=3, layer_types=[SLIDING, FULL])),
    "qwen3": ("qwen3", {}),
    "qwen3, biases, a window, yarn": (
        "qwen3",
        dict(attention_bias=True, use_sliding_window=True, sliding_window=6, max_window_layers=1, rope_parameters=YARN),
    ),
    "gemma2": ("gemma2", {}),
    "gemma2, no caps, untied": (
        "gemma2",
        dict(final_logit_softcapping=None, attn_logit_softcapping=None, tie_word_embeddings=False),
    ),
    "gemma2, low caps, biases": (
        "gemma2",
        dict(final_logit_softcapping=3.0, attn_logit_softcapping=1.5, attention_bias=True, layer_types=[FULL, SLIDING]),
    ),
    "gemma3": ("gemma3_text", dict(layer_types=[SLIDING, FULL])),
    "gemma3, a pattern, scaled positions": (
        "gemma3_text",
        dict(num_hidden_layers=3, sliding_window_pattern=2, rope_parameters=BY_TYPE),
    ),
    "gemma3, a cap on logits, biases, untied": (
        "gemma3_text",
        dict(final_logit_softcapping=4.0, attention_bias=True, tie_word_embeddings=False, hidden_activation="silu"),
    ),
    "gpt_neox": ("gpt_neox", {}),
    "gpt_neox, sequential, no biases, half turned": (
        "gpt_neox",
        dict(use_parallel_residual=False, attention_bias=False, rope_parameters=ROPE | {"partial_rotary_factor": 0.5}),
    ),
    "gpt_neox, all turned, linear, tied": (
        "gpt_neox",
        dict(tie_word_embeddings=True, rope_parameters=LINEAR | {"partial_rotary_factor": 1.0}, hidden_act="gelu_fast"),
    ),
    "gpt_neox, an odd number turned": ("gpt_neox", dict(hidden_size=48, rope_parameters=ROPE)),
    "gpt2": ("gpt2", {}),
    "gpt2, scaled by layer, untied, a narrow MLP": (
        "gpt2",
        dict(
            scale_attn_by_inverse_layer_idx=True,
            tie_word_embeddings=False,
            n_inner=40,
            activation_function="quick_gelu",
        ),
    ),
    "gpt2, unscaled": ("gpt2", dict(scale_attn_weights=False, reorder_and_upcast_attn=True, layer_norm_epsilon=1e-2)),
}


@pytest.mark.parametrize("case", CASES)
def test_sites_and_logits_are_those_of_transformers(case, config_of, make, by_torch, tokens, tools):
    family, changes = CASES[case]
    made = make(config_of(family, **changes))
    ours = tools.whole_pass(tools.decoder(made), tokens)
    assert tools.furthest(ours, by_torch(made, tokens)) < TOLERANCE


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
def test_meshes_agree(family, config_of, make, by_torch, tokens, tools):
    """4 heads, 2 key heads, 50 hidden numbers and 97 tokens over 4 and 8 shards, 3 sequences over 2."""
    made = make(config_of(family, **({} if family == "gpt2" else {"tie_word_embeddings": family != "llama"})))
    tokens = tokens.repeat(2, 0)[:3]
    theirs = by_torch(made, tokens)
    for mesh in ((2, 4), (1, 8)):
        assert tools.furthest(tools.whole_pass(tools.decoder(made, mesh), tokens), theirs) < TOLERANCE
