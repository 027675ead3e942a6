"""Where a Hugging Face model keeps the activations that have names.

`embed` is what enters the first block; `resid_pre.L` and `resid_post.L` are what enters and leaves block L;
`attn_out.L` and `mlp_out.L` are what attention and MLP add to the residual stream, after the norms that
Gemma 2 and 3 put behind them and times Granite's and MiniCPM 3's multiplier; `mlp_in.L` is the MLP's input,
normalised. BERT normalises after each sum, so its `resid_post.L` is normalised and its `mlp_in.L` is the stream
itself. Anything else is a module's path: its output, or with `.input` behind it its first argument. `trial.py` sees
that these hold.
"""

import dataclasses
import difflib
import re
from typing import Any

from jaxsae.errors import InputError

NAMES = ("resid_pre", "attn_out", "mlp_in", "mlp_out", "resid_post")
_NAMED = re.compile(rf"({'|'.join(NAMES)})\.(0|[1-9]\d*)")


@dataclasses.dataclass(frozen=True)
class Family:
    """Modules of a block, by their paths in it; `mlp` is the module whose input is `mlp_in`."""

    attn_out: tuple[str, ...]
    mlp: tuple[str, ...]
    mlp_out: tuple[str, ...]
    beside: tuple[str, ...] = ()  # what the block must have besides


# The first path that a block has counts. Special families come before the plain one, and only where all their paths
# are there: Llama calls the norm in front of its MLP `post_attention_layernorm`.
_SPECIAL = (
    Family(("attention.output.dense",), ("intermediate.dense",), ("output.dense",)),  # BERT
    Family(("post_self_attn_layernorm",), ("mlp",), ("post_mlp_layernorm",)),  # GLM-4
    Family(("post_attention_layernorm",), ("mlp",), ("post_feedforward_layernorm",)),  # Gemma 2, OLMo 2
    Family(("post_attention_layernorm",), ("mlp",), ("post_mlp_layernorm",), ("pre_mlp_layernorm",)),  # AFMoE
    Family(("post_norm1",), ("mlp",), ("post_norm2",)),  # HyperCLOVA X
    Family(("self_attention.dense",), ("mlp",), ("mlp.dense_4h_to_h",)),  # BLOOM, whose modules add the stream
    Family(("attn",), ("ffn",), ("ffn.down_proj",)),  # MPT, likewise
)
_PLAIN = Family(
    ("self_attn", "attn", "attention", "self_attention"),
    ("mlp", "feed_forward", "ffn", "block_sparse_moe", "shared_mlp"),
    (),
)
_SCALES = "residual_multiplier", "residual_scale"  # what a block multiplies before it adds: Granite, MiniCPM 3


@dataclasses.dataclass(frozen=True)
class Place:
    """A module, whether its input or its output is meant, and what that is multiplied by where it goes."""

    path: str
    input: bool = False
    scale: float = 1.0


def reached(site: str) -> tuple[int, int, str]:
    """A key that sorts sites as a model comes to them: by block, then by what stands where in one, as far as names tell."""
    block, name = re.search(r"\d+", site), site.split(".")[0]
    return int(block.group()) if block else -1, NAMES.index(name) if name in NAMES else len(NAMES), site


def blocks_path(model: Any) -> str | None:
    """The path of the list of a model's blocks: its longest list of modules, the outermost where several are."""
    import torch

    lists = [(name, m) for name, m in model.named_modules() if isinstance(m, torch.nn.ModuleList) and len(m)]
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    fitting = [(name, m) for name, m in lists if len(m) == layers] or lists
    return max(fitting, key=lambda pair: (len(pair[1]), -pair[0].count(".")), default=(None, None))[0]


def site_names(model: Any) -> list[str]:
    """Readable names of the sites that a model has."""
    found = ["embed"] if blocks_path(model) is not None else []
    for layer in range(_layers(model)):
        found += [f"{name}.{layer}" for name in NAMES if locate(model, f"{name}.{layer}") is not None]
    return found


def find(model: Any, site: str, flag: str = "sites") -> Place:
    """Where a site is.

    Raises:
      InputError: there is none of that name; lists those that there are.
    """
    place = locate(model, site)
    if place is not None:
        return place
    paths = {name for name, _ in model.named_modules() if name}
    if site in paths:
        return Place(site)
    if site.endswith(".input") and site.removesuffix(".input") in paths:
        return Place(site.removesuffix(".input"), input=True)
    near = difflib.get_close_matches(site, paths, n=3, cutoff=0.7)
    last = _layers(model) - 1
    names = sorted({name.split(".")[0] for name in site_names(model)}, key=("embed", *NAMES).index)
    told = ", ".join(name if name == "embed" else f"{name}.0 to {name}.{last}" for name in names)
    raise InputError(
        f"--{flag}={site}: no such site. This model has: {told or 'no readable names'}; or give a module's path"
        + (f", such as {', '.join(near)}." if near else ", as model.named_modules() lists them.")
    )


def _layers(model: Any) -> int:
    path = blocks_path(model)
    return 0 if path is None else len(model.get_submodule(path))


def locate(model: Any, site: str) -> Place | None:
    """The place of a readable name, None where the model has no such site."""
    path, match = blocks_path(model), _NAMED.fullmatch(site)
    if path is None or (match is None and site != "embed"):
        return None
    if match is None:
        return Place(f"{path}.0", input=True)
    name, layer = match.group(1), int(match.group(2))
    if layer >= _layers(model):
        return None
    block = f"{path}.{layer}"
    if name in ("resid_pre", "resid_post"):
        return Place(block, input=name == "resid_pre")
    return _in_block(model, block, name)


def _in_block(model: Any, block: str, name: str) -> Place | None:
    module = model.get_submodule(block)
    paths = {n for n, _ in module.named_modules()}
    family = next((f for f in _SPECIAL if {f.attn_out[0], f.mlp[0], f.mlp_out[0], *f.beside} <= paths), _PLAIN)
    candidates = {"attn_out": family.attn_out, "mlp_in": family.mlp, "mlp_out": family.mlp_out or family.mlp}[name]
    found = next((c for c in candidates if c in paths), None)
    if found is None:
        return None
    if name == "mlp_in":
        return Place(f"{block}.{found}", input=True)
    scale = next((s for n in _SCALES if isinstance(s := getattr(module, n, None), int | float)), 1.0)
    return Place(f"{block}.{found}", scale=float(scale))
