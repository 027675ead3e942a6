"""The forward pass: the program of one device of a mesh, whose weights are split over `model` (Shoeybi et al., 1909.08053).

Each shard has some of the heads, of an MLP's hidden numbers and of the vocabulary; what it adds to the stream is summed over
shards. Activations are whole on every shard; a device has its `data` shard's sequences. Gradients by what is put at a site
are right as they come: what enters a split product passes through `copy_to_model`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsae.lm.decoder import rope
from jaxsae.lm.decoder.shape import Decoder, Layer
from jaxsae.lm.taps import Taps
from jaxsae.parallel import MODEL, copy_to_model, sum_over_model
from jaxsae.platform import full_precision

QUERIES_AT_ONCE = 512  # of which scores stand; a longer context is gone through in pieces
Tap = Callable[[str, jax.Array], jax.Array]
Weights = dict[str, Any]

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_new": partial(jax.nn.gelu, approximate=True),
    "gelu_fast": partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": partial(jax.nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "relu2": lambda x: jnp.square(jax.nn.relu(x)),
}


def stream(weights: Weights, shape: Decoder, tokens: jax.Array, tap: Tap, remember: bool = True) -> jax.Array:
    """What leaves the last block that there are weights of, [B, T, d_model].

    Args:
      weights: this device's, as `layout` has them. tokens: int32 [B, T].
      tap: called with each site and what stands there, [B, T, d_model]; what it gives goes on in its place.
      remember: whether a gradient's backward pass keeps what is within blocks; else it makes each block again, and `tap`
        has to be `Taps`.
    """
    x = tap("embed", _embedded(weights, shape, tokens))
    length = tokens.shape[1]
    turns = {layer.rope: rope.tables(layer.rope, length) for layer in shape.layers if layer.rope}
    for number, block in enumerate(weights["blocks"]):
        layer = shape.layers[number]
        run = partial(_block, shape=shape, layer=layer, turns=turns.get(layer.rope), number=number)
        x = run(block, x, tap=tap) if remember else _forgotten(run, block, x, tap)
    return x


def _forgotten(run: Callable, block: Weights, x: jax.Array, taps: Taps) -> jax.Array:
    def apart(block: Weights, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        own = taps.apart()
        return run(block, x, tap=own), own.seen

    x, seen = jax.checkpoint(apart)(block, x)
    taps.seen |= seen
    return x


def logits(weights: Weights, shape: Decoder, x: jax.Array) -> jax.Array:
    """float32 [..., vocabulary of this shard] of what leaves the last block, [..., d_model]; -inf where no token is."""
    x = copy_to_model(_norm(x, weights["final_norm"], shape))
    table = weights["embed"] if shape.tied else weights["unembed"]
    out = _product("...d,vd->...v", x, table, jnp.float32)
    if "unembed_bias" in weights:
        out = out + weights["unembed_bias"].astype(jnp.float32)
    if shape.logit_cap is not None:
        out = _capped(out, shape.logit_cap)
    return jnp.where(tokens_there(shape, table.shape[0]), out, -jnp.inf)


def tokens_there(shape: Decoder, count: int) -> jax.Array:
    """bool [count]: which of this shard's part of the vocabulary are tokens, and not what fills it up."""
    return jax.lax.axis_index(MODEL) * count + jnp.arange(count) < shape.vocabulary


def _embedded(weights: Weights, shape: Decoder, tokens: jax.Array) -> jax.Array:
    table = weights["embed"]
    mine = tokens - jax.lax.axis_index(MODEL) * table.shape[0]
    there = (mine >= 0) & (mine < table.shape[0])
    x = sum_over_model(jnp.where(there[..., None], table[jnp.where(there, mine, 0)], 0))
    x = x * jnp.asarray(shape.embedding_scale, x.dtype)
    return x + weights["positions"][: tokens.shape[1]] if shape.learned_positions else x


def _block(
    weights: Weights, x: jax.Array, *, shape: Decoder, layer: Layer, turns: Any, number: int, tap: Tap
) -> jax.Array:
    site = lambda name, y: tap(f"{name}.{number}", y)
    x = site("resid_pre", x)
    added = _attention(weights, shape, layer, turns, _norm(x, weights["attention_norm"], shape))
    if shape.post_norms:
        added = _norm(added, weights["post_attention_norm"], shape)
    middle = x + site("attn_out", added)
    y = site("mlp_in", _norm(x if shape.parallel else middle, weights["mlp_norm"], shape))
    y = _mlp(weights, shape, y)
    if shape.post_norms:
        y = _norm(y, weights["post_mlp_norm"], shape)
    return site("resid_post", middle + site("mlp_out", y))


def _attention(weights: Weights, shape: Decoder, layer: Layer, turns: Any, x: jax.Array) -> jax.Array:
    x = copy_to_model(x)
    q = _with_bias(_product("btd,krhd->btkrh", x, weights["q"]), weights, "q_bias")
    k = _with_bias(_product("btd,khd->btkh", x, weights["k"]), weights, "k_bias")
    v = _with_bias(_product("btd,khd->btkh", x, weights["v"]), weights, "v_bias")
    if shape.qk_norm:
        q, k = (_norm(part, weights[name], shape) for part, name in ((q, "q_norm"), (k, "k_norm")))
    if turns is not None:
        q, k = (rope.turned(part, *turns) for part in (q, k))
    each = [_attended(q, k, v, piece, shape, layer) for piece in pieces(x.shape[1], layer.window)]
    mixed = each[0] if len(each) == 1 else jnp.concatenate(each, 1)
    return _with_bias(sum_over_model(_product("btkrh,dkrh->btd", mixed, weights["o"])), weights, "o_bias")


def pieces(length: int, window: int | None) -> list[tuple[int, int, int]]:
    """(begin, first, last) of each piece of a sequence: queries at first to last - 1, which see keys from `begin` on."""
    size = QUERIES_AT_ONCE if length % QUERIES_AT_ONCE == 0 else length
    begin = lambda first: 0 if window is None else max(0, first - window + 1)
    return [(begin(first), first, first + size) for first in range(0, length, size)]


def _attended(
    q: jax.Array, k: jax.Array, v: jax.Array, piece: tuple[int, int, int], shape: Decoder, layer: Layer
) -> jax.Array:
    """[B, t, K, R, h] for the queries of a piece, of [B, T, K, R, h], and keys and values [B, T, K, h]."""
    begin, first, last = piece
    q, k, v = q[:, first:last], k[:, begin:last], v[:, begin:last]
    scores = _product("btkrh,bskh->bkrts", q, k, jnp.float32) * layer.scale
    if shape.attention_cap is not None:
        scores = _capped(scores, shape.attention_cap)
    at, of = jnp.arange(first, last)[:, None], jnp.arange(begin, last)
    seen = at >= of
    if layer.window is not None:
        seen &= at - of < layer.window
    shares = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1).astype(v.dtype)
    return _product("bkrts,bskh->btkrh", shares, v)


def _mlp(weights: Weights, shape: Decoder, x: jax.Array) -> jax.Array:
    x, act = copy_to_model(x), ACTIVATIONS[shape.activation]
    up = _with_bias(_product("btd,fd->btf", x, weights["up"]), weights, "up_bias")
    gate = _with_bias(_product("btd,fd->btf", x, weights["gate"]), weights, "gate_bias") if shape.gated else None
    hidden = act(up) if gate is None else act(gate) * up
    return _with_bias(sum_over_model(_product("btf,df->btd", hidden, weights["down"])), weights, "down_bias")


def _norm(x: jax.Array, weights: Weights, shape: Decoder) -> jax.Array:
    """Over the last axis, in float32: root mean square (Zhang and Sennrich, 1910.07467) or mean and variance."""
    y = x.astype(jnp.float32)
    if shape.norm == "layer":
        y = y - y.mean(-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + shape.epsilon)
    weight = weights["weight"].astype(jnp.float32)
    if shape.norm == "layer":
        y = y * weight + weights["bias"].astype(jnp.float32)
    elif shape.norm_offset:
        y = y * (1 + weight)
    else:  # Llama rounds before it multiplies
        return weights["weight"] * y.astype(x.dtype)
    return y.astype(x.dtype)


def _with_bias(x: jax.Array, weights: Weights, name: str) -> jax.Array:
    return x + weights[name] if name in weights else x


def _capped(x: jax.Array, cap: float) -> jax.Array:
    return cap * jnp.tanh(x / cap)


def _product(how: str, x: jax.Array, y: jax.Array, dtype: Any = None) -> jax.Array:
    return jnp.einsum(how, x, y, precision=full_precision(x.dtype), preferred_element_type=dtype or x.dtype)
