"""config.json -> the shape of a decoder, family by family."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxsae.errors import InputError
from jaxsae.lm.decoder.fields import Fields
from jaxsae.lm.decoder.forward import ACTIVATIONS
from jaxsae.lm.decoder.rope import SETTINGS
from jaxsae.lm.decoder.shape import Decoder, Layer, Rope, root

FULL, SLIDING = "full_attention", "sliding_attention"


def shape_of(config: Any, model: str) -> Decoder:
    """The shape of a model.

    Args:
      config: of transformers. model: it, for messages.

    Raises:
      InputError: a family or a field of the configuration that is not implemented, by name.
    """
    text = config.get_text_config()
    family = text.model_type
    if family not in FAMILIES:
        raise InputError(
            f"--model={model}: model_type={family!r} in its config.json is not implemented by --backend=jax, which has "
            f"{', '.join(FAMILIES)}. Take --backend=torch."
        )
    fields = Fields(text.to_dict(), type(text)().to_dict(), model)
    shape = FAMILIES[family](fields)
    fields.finish()
    if shape.activation not in ACTIVATIONS:
        raise fields.refusal("the activation function", shape.activation)
    return shape


def _llama(fields: Fields, **more: Any) -> Decoder:
    """Llama, and what those that came after share with it."""
    bias = fields.take("attention_bias", False)
    d_model, heads = fields.take("hidden_size"), fields.take("num_attention_heads")
    d_head = fields.take("head_dim", d_model // heads)
    context = fields.take("max_position_embeddings")
    given = {
        "norm": "rms",
        "epsilon": fields.take("rms_norm_eps"),
        "activation": fields.take("hidden_act"),
        "layers": _layers(fields, d_head, root(d_head), context, _windows(fields)),
        "tied": fields.take("tie_word_embeddings", False),
        "qkv_bias": bias,
        "out_bias": bias,
        "mlp_bias": fields.take("mlp_bias", False),
    }
    return Decoder(
        family=fields.take("model_type"),
        vocabulary=fields.take("vocab_size"),
        d_model=d_model,
        heads=heads,
        kv_heads=fields.take("num_key_value_heads", heads),
        d_head=d_head,
        hidden=fields.take("intermediate_size"),
        context=context,
        **given | more,
    )


def _mistral(fields: Fields) -> Decoder:
    d_head = fields.take("head_dim", fields.take("hidden_size") // fields.take("num_attention_heads"))
    window, count = fields.take("sliding_window"), fields.take("num_hidden_layers")
    context = fields.take("max_position_embeddings")
    return _llama(fields, layers=_layers(fields, d_head, root(d_head), context, [window] * count))


def _qwen2(fields: Fields) -> Decoder:
    return _llama(fields, qkv_bias=True)


def _qwen3(fields: Fields) -> Decoder:
    return _llama(fields, qk_norm=True)


def _gemma2(fields: Fields, **more: Any) -> Decoder:
    fields.must_be("use_bidirectional_attention", False)
    d_head, context = fields.take("head_dim"), fields.take("max_position_embeddings")
    scale = root(fields.take("query_pre_attn_scalar"))
    given = {
        "activation": fields.take("hidden_activation"),
        "layers": _layers(fields, d_head, scale, context, _windows(fields)),
        "norm_offset": True,
        "post_norms": True,
        "attention_cap": fields.take("attn_logit_softcapping"),
        "logit_cap": fields.take("final_logit_softcapping"),
        "embedding_scale": fields.take("hidden_size") ** 0.5,
        "tied": fields.take("tie_word_embeddings", True),
    }
    return _llama(fields, **given | more)


def _gemma3(fields: Fields) -> Decoder:
    fields.take("sliding_window_pattern")  # the layers' types say it
    fields.take("_sliding_window_pattern")
    return _gemma2(fields, qk_norm=True)


def _gpt_neox(fields: Fields) -> Decoder:
    bias = fields.take("attention_bias", True)
    fields.must_be("is_decoder", True, False)
    d_model, heads = fields.take("hidden_size"), fields.take("num_attention_heads")
    d_head, count = d_model // heads, fields.take("num_hidden_layers")
    context = fields.take("max_position_embeddings")
    return Decoder(
        family="gpt_neox",
        vocabulary=fields.take("vocab_size"),
        d_model=d_model,
        heads=heads,
        kv_heads=heads,
        d_head=d_head,
        hidden=fields.take("intermediate_size"),
        context=context,
        layers=_layers(fields, d_head, root(d_head), context, [None] * count),
        activation=fields.take("hidden_act"),
        norm="layer",
        epsilon=fields.take("layer_norm_eps"),
        parallel=fields.take("use_parallel_residual", True),
        gated=False,
        tied=fields.take("tie_word_embeddings", False),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=True,
    )


def _gpt2(fields: Fields) -> Decoder:
    fields.must_be("add_cross_attention", False)
    d_model, heads, count = (fields.take(name) for name in ("n_embd", "n_head", "n_layer"))
    d_head = d_model // heads
    scale = root(d_head) if fields.take("scale_attn_weights", True) else 1.0
    by_layer = fields.take("scale_attn_by_inverse_layer_idx", False)
    return Decoder(
        family="gpt2",
        vocabulary=fields.take("vocab_size"),
        d_model=d_model,
        heads=heads,
        kv_heads=heads,
        d_head=d_head,
        hidden=fields.take("n_inner", 4 * d_model),
        context=fields.take("n_positions"),
        layers=tuple(Layer(None, None, scale / (i + 1) if by_layer else scale) for i in range(count)),
        activation=fields.take("activation_function"),
        norm="layer",
        epsilon=fields.take("layer_norm_epsilon"),
        gated=False,
        learned_positions=True,
        tied=fields.take("tie_word_embeddings", True),
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
    )


def _windows(fields: Fields) -> list[int | None]:
    """What each layer attends to, by its type."""
    window, count = fields.take("sliding_window"), fields.take("num_hidden_layers")
    types = fields.take("layer_types", [FULL] * count)
    if unknown := sorted(set(types) - {FULL, SLIDING}):
        raise fields.refusal("layer_types", unknown[0])
    return [window if kind == SLIDING else None for kind in types]


def _layers(fields: Fields, d_head: int, scale: float, context: int, windows: list[int | None]) -> tuple[Layer, ...]:
    """Every layer, with the rotary positions that hold for its type where types have their own."""
    said = fields.take("rope_parameters", {})
    types = fields.take("layer_types", [FULL] * len(windows))
    by_type = {kind: said[kind] for kind in (FULL, SLIDING) if kind in said} or None
    ropes = [_rope(fields, said if by_type is None else by_type[kind], d_head, context) for kind in types]
    return tuple(Layer(rope, window, scale) for rope, window in zip(ropes, windows, strict=True))


def _rope(fields: Fields, said: Mapping[str, Any], d_head: int, context: int) -> Rope:
    said = {name: value for name, value in said.items() if value is not None}
    kind = said.pop("rope_type", said.pop("type", "default"))
    said.pop("type", None)
    theta, share = said.pop("rope_theta"), said.pop("partial_rotary_factor", 1.0)
    if kind not in SETTINGS:
        raise fields.refusal("rope_type", kind)
    if unknown := sorted(set(said) - set(SETTINGS[kind])):
        raise fields.refusal(f"rope_parameters.{unknown[0]}", said[unknown[0]])
    settings = tuple((n, tuple(v) if isinstance(v, list) else v) for n, v in sorted(said.items()))
    return Rope(kind, theta, int(d_head * share), context, settings)


FAMILIES: dict[str, Callable[[Fields], Decoder]] = {
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "gpt_neox": _gpt_neox,
    "gpt2": _gpt2,
}
