"""What a config.json says and the decoder does not do is refused by name; what it says in older words is understood."""

import json

import pytest

from jaxsae.errors import InputError
from jaxsae.lm.decoder.families import FAMILIES, FULL, SLIDING, shape_of

ROPE = {"rope_theta": 10000.0}
YARN = ROPE | {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
PROPORTIONAL = ROPE | {"rope_type": "proportional", "partial_rotary_factor": 0.5}

REFUSED = {
    "an unknown field": ("llama", {"residual_multiplier": 0.5}, "residual_multiplier=0.5"),
    "weights in a few bits": ("llama", {"quantization_config": {"quant_method": "fp8"}}, "quantization_config="),
    "attention both ways, gemma2": ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
    "attention both ways, gemma3": ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention=True"),
    "attention both ways, llama": ("llama", {"is_causal": False}, "is_causal=False"),
    "cross attention": ("gpt2", {"add_cross_attention": True}, "add_cross_attention=True"),
    "an activation function": ("llama", {"hidden_act": "mish"}, "activation function='mish'"),
    "code of its own": ("llama", {"auto_map": {"AutoModelForCausalLM": "modeling.Own"}}, "auto_map="),
    "layers of different sizes": ("llama", {"per_layer_config": {"1": {"intermediate_size": 20}}}, "per_layer_config="),
    "a window that llama has none of": ("llama", {"sliding_window": 8}, "sliding_window=8"),
    "types of layers, llama": ("llama", {"layer_types": [FULL, SLIDING], "sliding_window": 8}, "layer_types="),
    "types of layers, mistral": ("mistral", {"layer_types": [FULL, SLIDING], "sliding_window": 8}, "layer_types="),
    "an unknown type": ("qwen3", {"layer_types": [FULL, "chunked_attention"]}, "layer_types='chunked_attention'"),
    "a window that is not said": ("gemma2", {"sliding_window": None}, "sliding_window=None"),
    "a kind of rotary positions": ("llama", {"rope_parameters": PROPORTIONAL}, "rope_type='proportional'"),
    "an unknown key of them": ("llama", {"rope_parameters": YARN | {"mrope_section": [2, 2]}}, "mrope_section=[2, 2]"),
    "a share of a head that is not turned": (
        "llama",
        {"rope_parameters": ROPE | {"rope_type": "default", "partial_rotary_factor": 0.5}},
        "partial_rotary_factor=0.5",
    ),
    "what the library looks for elsewhere": (
        "gemma3_text",
        {"rope_parameters": {FULL: YARN | {"truncate": False}}, "layer_types": [SLIDING, FULL]},
        "truncate=False",
    ),
    "a cap that the library leaves unused": ("gemma3_text", {"attn_logit_softcapping": 30.0}, "attn_logit_softcapping=30"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_implemented_is_named(case, config_of):
    family, changes, named = REFUSED[case]
    with pytest.raises(InputError) as refusal:
        shape_of(config_of(family, **changes), "small")
    assert named in str(refusal.value) and "--model=small" in str(refusal.value)
    assert "--backend=torch" in str(refusal.value)


def test_a_family_that_is_not_implemented(transformers):
    config = transformers.AutoConfig.for_model("gptj")
    with pytest.raises(InputError, match="model_type='gptj'.*gemma3_text.*--backend=torch"):
        shape_of(config, "small")


def test_a_model_of_several_senses_whose_text_goes_another_way(transformers):
    """PaliGemma's text model says gemma2, and it sees what follows."""
    config = transformers.PaliGemmaConfig(text_config={"model_type": "gemma2"})
    with pytest.raises(InputError, match="model_type='paligemma'"):
        shape_of(config, "small")


def _read(transformers, tmp_path, **fields):
    (tmp_path / "config.json").write_text(json.dumps(fields))
    return shape_of(transformers.AutoConfig.from_pretrained(tmp_path), "small")


def test_what_configurations_of_the_hub_say(transformers, tmp_path):
    """Files as they were published; none is refused, and older words have their effect."""
    gemma2 = _read(
        transformers, tmp_path, model_type="gemma2", architectures=["Gemma2ForCausalLM"], attention_bias=False,
        attention_dropout=0.0, attn_logit_softcapping=50.0, bos_token_id=2, cache_implementation="hybrid", eos_token_id=1,
        final_logit_softcapping=30.0, head_dim=256, hidden_act="gelu", hidden_activation="gelu_pytorch_tanh",
        hidden_size=2304, initializer_range=0.02, intermediate_size=9216, max_position_embeddings=8192,
        num_attention_heads=8, num_hidden_layers=26, num_key_value_heads=4, pad_token_id=0, query_pre_attn_scalar=256,
        rms_norm_eps=1e-06, rope_theta=10000.0, sliding_window=4096, torch_dtype="float32",
        transformers_version="4.42.4", use_cache=True, vocab_size=256000,
    )  # fmt: skip
    assert gemma2.activation == "gelu_pytorch_tanh" and gemma2.tied and gemma2.layers[0].scale == 1 / 16
    assert [layer.window for layer in gemma2.layers[:3]] == [4096, None, 4096]
    gemma3 = _read(
        transformers, tmp_path, model_type="gemma3_text", attn_logit_softcapping=None, cache_implementation="hybrid",
        head_dim=256, hidden_size=1152, intermediate_size=6912, max_position_embeddings=32768, num_attention_heads=4,
        num_hidden_layers=26, num_key_value_heads=1, query_pre_attn_scalar=256, rope_local_base_freq=10000,
        rope_scaling={"factor": 8.0, "rope_type": "linear"}, rope_theta=1000000, sliding_window=512,
        sliding_window_pattern=6, vocab_size=262144,
    )  # fmt: skip
    assert [i for i, layer in enumerate(gemma3.layers) if layer.window is None] == [5, 11, 17, 23]
    full, local = gemma3.layers[5].rope, gemma3.layers[0].rope
    assert (full.kind, full.theta, full.settings) == ("linear", 1000000, (("factor", 8.0),))
    assert (local.kind, local.theta) == ("default", 10000)
    llama = _read(
        transformers, tmp_path, model_type="llama", attention_bias=False, head_dim=64, hidden_act="silu",
        hidden_size=2048, intermediate_size=8192, max_position_embeddings=131072, mlp_bias=False,
        num_attention_heads=32, num_hidden_layers=16, num_key_value_heads=8, pretraining_tp=1, rms_norm_eps=1e-05,
        rope_scaling={
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        rope_theta=500000.0, tie_word_embeddings=True, vocab_size=128256, eos_token_id=[128001, 128008],
    )  # fmt: skip
    assert llama.tied and llama.layers[0].rope.kind == "llama3" and llama.layers[0].rope.theta == 500000.0
    qwen = _read(
        transformers, tmp_path, model_type="qwen2", attention_dropout=0.0, hidden_act="silu", hidden_size=1536,
        intermediate_size=8960, max_position_embeddings=131072, max_window_layers=21, num_attention_heads=12,
        num_hidden_layers=28, num_key_value_heads=2, rms_norm_eps=1e-06, rope_theta=10000, sliding_window=4096,
        tie_word_embeddings=False, use_cache=True, use_mrope=False, use_sliding_window=False, vocab_size=151936,
        rope_scaling={"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"},
    )  # fmt: skip
    assert qwen.qkv_bias and not qwen.out_bias and {layer.window for layer in qwen.layers} == {None}
    assert qwen.layers[0].rope.kind == "yarn" and not qwen.tied
    pythia = _read(
        transformers, tmp_path, model_type="gpt_neox", bos_token_id=0, eos_token_id=0, hidden_act="gelu", hidden_size=512,
        initializer_range=0.02, intermediate_size=2048, layer_norm_eps=1e-05, max_position_embeddings=2048,
        num_attention_heads=8, num_hidden_layers=6, rotary_emb_base=10000, rotary_pct=0.25, tie_word_embeddings=False,
        torch_dtype="float16", use_cache=True, use_parallel_residual=True, vocab_size=50304,
    )  # fmt: skip
    assert pythia.parallel and pythia.layers[0].rope.rotated == 16 and pythia.qkv_bias
    gpt2 = _read(
        transformers, tmp_path, model_type="gpt2", activation_function="gelu_new", attn_pdrop=0.1, embd_pdrop=0.1,
        n_ctx=1024, n_embd=768, n_head=12, n_layer=12, n_positions=1024, resid_pdrop=0.1, summary_activation=None,
        summary_type="cls_index", task_specific_params={"text-generation": {"do_sample": True}}, vocab_size=50257,
    )  # fmt: skip
    assert gpt2.hidden == 3072 and gpt2.tied
    mistral = _read(
        transformers, tmp_path, model_type="mistral", hidden_size=4096, intermediate_size=14336, sliding_window=4096,
        max_position_embeddings=32768, num_attention_heads=32, num_hidden_layers=32, num_key_value_heads=8,
        rms_norm_eps=1e-05, rope_theta=10000.0, tie_word_embeddings=False, vocab_size=32000, attention_bias=False,
    )  # fmt: skip
    assert {layer.window for layer in mistral.layers} == {4096} and not mistral.qkv_bias


@pytest.mark.parametrize("family", FAMILIES)
def test_every_class_as_it_is_by_default_is_read(family, config_of):
    shape = shape_of(config_of(family), "small")
    assert shape.family == family and len(shape.layers) == 2
