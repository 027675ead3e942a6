"""Small decoders of transformers whose norms and biases are random too, and their weights on a mesh of simulated devices."""

import dataclasses
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxsae.lm.decoder import forward
from jaxsae.lm.decoder.lm import DecoderLM
from jaxsae.lm.decoder.program import OverMesh
from jaxsae.lm.tensors import tensors_of
from jaxsae.parallel import DATA, MODEL, make_mesh

# Nothing divides over 8 shards: 4 heads, 50 hidden numbers, 97 tokens.
SIZES = dict(
    vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=50,
    max_position_embeddings=64,
)  # fmt: skip
OF_GPT2 = dict(vocab_size=97, n_embd=32, n_layer=2, n_head=4, n_positions=64)
PREFIX = {"gemma3_text": "Gemma3Text", "gpt_neox": "GPTNeoX", "gpt2": "GPT2"}
GROUPED = dict(num_key_value_heads=2)
OF_GEMMA = dict(num_key_value_heads=2, head_dim=16, query_pre_attn_scalar=24, sliding_window=5)
MORE = {"llama": GROUPED, "mistral": GROUPED, "qwen2": GROUPED, "qwen3": GROUPED | {"head_dim": 16}}
MORE |= {"gemma2": OF_GEMMA, "gemma3_text": OF_GEMMA}


@dataclasses.dataclass(frozen=True)
class Made:
    """A model of transformers, and the directory that it was saved in."""

    model: Any
    directory: Any
    config: Any

    def checkpoint(self, dtype: str = "float32", name: str = "small") -> SimpleNamespace:
        """What a `DecoderLM` is made of."""
        tensors = tensors_of(sorted(self.directory.glob("*.safetensors")), name)
        return SimpleNamespace(
            name=name, config=self.config, tensors=tensors, options=SimpleNamespace(model_dtype=dtype)
        )


def decoder(made: Made, mesh=(1, 1), dtype="float32", sites=None) -> DecoderLM:
    return DecoderLM(made.checkpoint(dtype), make_mesh(mesh, jax.devices()[: mesh[0] * mesh[1]]), sites)


@lru_cache(None)
def _program(shape, mesh, pieces: int) -> OverMesh:
    """Compiled once for all tests of a shape; `pieces` tells those apart that go through queries in other pieces."""

    def device(weights, tokens):
        seen = {}

        def tap(site, x):
            seen[site] = x
            return x

        x = forward.stream(weights, shape, tokens, tap)
        return seen, forward.logits(weights, shape, x)

    return OverMesh(device, mesh, (P(DATA, None),), (P(DATA, None, None), P(DATA, None, MODEL)))


def whole_pass(lm: DecoderLM, tokens: np.ndarray) -> dict[str, np.ndarray]:
    """{site: what stands there} and `logits`, of one compiled pass."""
    seen, logits = _program(lm.shape, lm.mesh, forward.QUERIES_AT_ONCE)(lm.weights, lm.put(tokens))
    assert seen.keys() == set(lm.shape.sites)
    rows, length = tokens.shape
    found = {site: np.asarray(x)[:rows, :length] for site, x in seen.items()}
    return found | {"logits": np.asarray(logits)[:rows, :length, : lm.vocabulary]}


def furthest(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference anywhere, as a share of the largest value there."""
    assert one.keys() == other.keys()
    shares = [np.abs(one[k] - other[k]).max() / np.abs(other[k]).max() for k in one]
    return float(np.max(shares))  # NaN is the largest


@pytest.fixture(scope="session")
def config_of(transformers):
    """config_of(family, ...) -> the configuration of a small model."""

    def config(family: str, **changes):
        kind = getattr(transformers, f"{PREFIX.get(family, family.capitalize())}Config")
        return kind(**(OF_GPT2 if family == "gpt2" else SIZES | MORE.get(family, {})) | changes)

    return config


@pytest.fixture(scope="session")
def make(transformers, tmp_path_factory):
    """make(config, ...) -> `Made`; what else is given goes to `save_pretrained`."""

    def made(config, dtype: str = "float32", **saving) -> Made:
        import torch

        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        for name, parameter in model.named_parameters():
            one = "norm" in name and name.endswith("weight") and "Gemma" not in type(model).__name__
            parameter.data = torch.randn_like(parameter) * (0.3 if parameter.ndim > 1 else 0.5) + one
        model = model.to(getattr(torch, dtype)).requires_grad_(False)
        directory = tmp_path_factory.mktemp(config.model_type)
        model.save_pretrained(directory, **saving)
        return Made(model, directory, transformers.AutoConfig.from_pretrained(directory))

    return made


@pytest.fixture(scope="session")
def tokens():
    """int32 [2, 40]: longer than the windows."""
    return np.random.default_rng(0).integers(0, SIZES["vocab_size"], (2, 40)).astype(np.int32)


@pytest.fixture(scope="session")
def by_torch():
    """by_torch(made, tokens) -> what `whole_pass` gives, by hooks on the modules of transformers."""

    def run(made: Made, tokens: np.ndarray) -> dict[str, np.ndarray]:
        import torch

        seen, model = {}, made.model
        layers, names = _layers_of(model)
        family = model.config.get_text_config().model_type
        first = "drop" if family == "gpt2" else "emb_dropout" if family == "gpt_neox" else "embed_tokens"
        value = lambda x: (x[0] if isinstance(x, tuple | list) else x).detach().float().numpy()
        keep = lambda site: lambda module, args, out: seen.__setitem__(site, value(out))
        inner = next(module for name, module in model.named_modules() if name.endswith(first))
        hooks = [inner.register_forward_hook(keep("embed"))]
        for number, layer in enumerate(layers):
            before = lambda module, args, kwargs, site=f"resid_pre.{number}": seen.__setitem__(
                site, value(args or kwargs["hidden_states"])
            )
            hooks.append(layer.register_forward_pre_hook(before, with_kwargs=True))
            hooks.append(layer.register_forward_hook(keep(f"resid_post.{number}")))
            for site, name in names.items():
                hooks.append(layer.get_submodule(name).register_forward_hook(keep(f"{site}.{number}")))
        with torch.inference_mode():
            logits = model(torch.as_tensor(tokens.astype(np.int64)), use_cache=False).logits.float().numpy()
        for hook in hooks:
            hook.remove()
        return seen | {"logits": logits}

    return run


def _layers_of(model):
    """The list of blocks, and the modules whose outputs are at sites: norms after attention and MLP belong to them."""
    family = model.config.get_text_config().model_type
    if family == "gpt2":
        return model.transformer.h, {"attn_out": "attn", "mlp_in": "ln_2", "mlp_out": "mlp"}
    if family == "gpt_neox":
        return model.gpt_neox.layers, {
            "attn_out": "attention", "mlp_in": "post_attention_layernorm", "mlp_out": "mlp"
        }  # fmt: skip
    layers = next(module for name, module in model.named_modules() if name.endswith("layers") and "vision" not in name)
    if family.startswith("gemma"):
        return layers, {
            "attn_out": "post_attention_layernorm", "mlp_in": "pre_feedforward_layernorm",
            "mlp_out": "post_feedforward_layernorm",
        }  # fmt: skip
    return layers, {"attn_out": "self_attn", "mlp_in": "post_attention_layernorm", "mlp_out": "mlp"}


@pytest.fixture(scope="session")
def tools():
    """The functions of this file: `decoder`, `whole_pass`, `furthest`."""
    return SimpleNamespace(decoder=decoder, whole_pass=whole_pass, furthest=furthest)
