"""config.json -> the shape of a decoder, family by family."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxsae.errors import InputError
from jaxsae.lm.decoder.fields import Fields
from jaxsae.lm.decoder.forward import ACTIVATIONS
from jaxsae.lm.decoder.rope import SETTINGS
from jaxsae.lm.decoder.shape import Decoder, Layer, Rope, root

FULL, SLIDING = "full_attention", "sliding_attention"
_SEVERAL_SENSES = {"gemma3": "gemma3_text"}  # models of text and images whose text alone is one of a family


def shape_of(config: Any, model: str) -> Decoder:
    """The shape of a model.

    Args:
      config: of transformers. model: it, for messages.

    Raises:
      InputError: a family or a field of the configuration that is not implemented, by name.
    """
    text, whole = config.get_text_config(), config.model_type
    family = text.model_type
    if family not in FAMILIES or (whole != family and _SEVERAL_SENSES.get(whole) != family):
        raise InputError(
            f"--model={model}: model_type={whole!r} in its config.json is not implemented by --backend=jax, which has "
            f"{', '.join(FAMILIES)}. Take --backend=torch."
        )
    fields = Fields(text.to_dict(), type(text)().to_dict(), model)
    fields.must_be("is_causal", True)
    if whole != family:
        fields.must_be("final_logit_softcapping")  # the library has none there
    shape = FAMILIES[family](fields)
    fields.finish()
    if whole != family:
        shape = dataclasses.replace(shape, tied=bool(config.tie_word_embeddings))
    if shape.activation not in ACTIVATIONS:
        raise fields.refusal("the activation function", shape.activation)
    return shape


def _llama(fields: Fields) -> Decoder:
    return _alike(fields, _all(fields, None), mlp_bias=fields.take("mlp_bias", False))


def _mistral(fields: Fields) -> Decoder:
    return _alike(fields, _all(fields, fields.take("sliding_window")), qkv_bias=False, out_bias=False)


def _qwen2(fields: Fields) -> Decoder:
    fields.take("attention_bias")  # which the library does not look at: a bias too many is found among the weights
    return _alike(fields, _by_type(fields), qkv_bias=True, out_bias=False)


def _qwen3(fields: Fields) -> Decoder:
    return _alike(fields, _by_type(fields), qk_norm=True)


def _gemma2(fields: Fields, **more: Any) -> Decoder:
    fields.must_be("use_bidirectional_attention", False)
    given = {
        "activation": fields.take("hidden_activation"),
        "scale": root(fields.take("query_pre_attn_scalar")),
        "norm_offset": True,
        "post_norms": True,
        "attention_cap": fields.take("attn_logit_softcapping"),
        "logit_cap": fields.take("final_logit_softcapping"),
        "embedding_scale": fields.take("hidden_size") ** 0.5,
    }
    return _alike(fields, _by_type(fields), **given | more)


def _gemma3(fields: Fields) -> Decoder:
    fields.take("sliding_window_pattern")  # the layers' types say it
    fields.take("_sliding_window_pattern")
    fields.must_be("attn_logit_softcapping")  # read by the library, and left unused
    return _gemma2(fields, qk_norm=True, rope_by_type=True)


def _alike(
    fields: Fields, windows: list[int | None], rope_by_type: bool = False, scale: float | None = None, **more: Any
) -> Decoder:
    """Llama, and what those that came after share with it."""
    d_model, heads = fields.take("hidden_size"), fields.take("num_attention_heads")
    d_head = fields.take("head_dim", d_model // heads)
    context = fields.take("max_position_embeddings")
    act = fields.take("hidden_act")
    if "qkv_bias" not in more:
        more["qkv_bias"] = more["out_bias"] = fields.take("attention_bias", False)
    ropes = _ropes(fields, d_head, context, rope_by_type)
    scale = scale or root(d_head)
    return Decoder(
        family=fields.take("model_type"),
        vocabulary=fields.take("vocab_size"),
        d_model=d_model,
        heads=heads,
        kv_heads=fields.take("num_key_value_heads", heads),
        d_head=d_head,
        hidden=fields.take("intermediate_size"),
        context=context,
        layers=tuple(Layer(rope, window, scale) for rope, window in zip(ropes, windows, strict=True)),
        norm="rms",
        epsilon=fields.take("rms_norm_eps"),
        tied=fields.take("tie_word_embeddings", False),
        **{"activation": act} | more,
    )


def _gpt_neox(fields: Fields) -> Decoder:
    bias = fields.take("attention_bias", True)
    fields.must_be("is_decoder", True, False)
    d_model, heads = fields.take("hidden_size"), fields.take("num_attention_heads")
    d_head, context = d_model // heads, fields.take("max_position_embeddings")
    ropes = _ropes(fields, d_head, context, partial=True)
    return Decoder(
        family="gpt_neox",
        vocabulary=fields.take("vocab_size"),
        d_model=d_model,
        heads=heads,
        kv_heads=heads,
        d_head=d_head,
        hidden=fields.take("intermediate_size"),
        context=context,
        layers=tuple(Layer(rope, None, root(d_head)) for rope in ropes),
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
        tied=fields.take("tie_word_embeddings", False),
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
    )


def _types(fields: Fields, default: str = FULL) -> list[str]:
    """Each layer's type."""
    count = fields.take("num_hidden_layers")
    types = fields.take("layer_types", [default] * count)
    if unknown := sorted(set(types) - {FULL, SLIDING}):
        raise fields.refusal("layer_types", unknown[0])
    if len(types) != count:
        raise fields.refusal("layer_types", types)
    return types


def _by_type(fields: Fields) -> list[int | None]:
    """What each layer attends to, by its type."""
    window, types = fields.take("sliding_window"), _types(fields)
    if window is None and SLIDING in types:
        raise fields.refusal("sliding_window", window)
    return [window if kind == SLIDING else None for kind in types]


def _all(fields: Fields, window: int | None) -> list[int | None]:
    """The same window for all layers of a family in which the library does not look at types."""
    kind = FULL if window is None else SLIDING
    types = _types(fields, kind)
    if set(types) - {kind}:
        raise fields.refusal("layer_types", types)
    return [window] * len(types)


def _ropes(fields: Fields, d_head: int, context: int, by_type: bool = False, partial: bool = False) -> list[Rope]:
    """Rotary positions of every layer, where `by_type` those of its type; `partial`: whether a share of a head may turn."""
    said = fields.take("rope_parameters", {})
    if not by_type:
        return [_rope(fields, said, d_head, context, partial)] * fields.take("num_hidden_layers")
    of = {kind: _rope(fields, said.get(kind) or {}, d_head, context, partial) for kind in set(_types(fields))}
    for kind, rope in of.items():
        if ("truncate", False) in rope.settings:  # the library looks for it elsewhere
            raise fields.refusal(f"rope_parameters.{kind}.truncate", False)
    return [of[kind] for kind in _types(fields)]


def _rope(fields: Fields, said: Mapping[str, Any], d_head: int, context: int, partial: bool) -> Rope:
    said = {name: value for name, value in said.items() if value is not None}
    older = said.pop("type", "default")
    kind = said.pop("rope_type", older)
    theta, share = said.pop("rope_theta", None), said.pop("partial_rotary_factor", 1.0)
    if kind not in SETTINGS:
        raise fields.refusal("rope_type", kind)
    if share != 1 and not partial:  # half of the library turns all of a head then, half none
        raise fields.refusal("partial_rotary_factor", share)
    if unknown := sorted(set(said) - set(SETTINGS[kind])):
        raise fields.refusal(f"rope_parameters.{unknown[0]}", said[unknown[0]])
    if theta is None:
        raise fields.refusal("rope_theta", theta)
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
