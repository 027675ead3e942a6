"""Small models of every family of transformers that can be built from its configuration, with random weights.

`trial_of` compares the sites of a family with hooks that are written here and returns what came out.
"""

import tempfile
import warnings

import numpy as np

from jaxsae.errors import InputError
from jaxsae.lm import libraries, sites
from jaxsae.lm.options import HFConfig
from jaxsae.lm.torch_lm import TorchLM

LAYERS, D, VOCABULARY = 3, 32, 64
MLP_SIZES = {40, 80, 24, 48, 4 * D}  # of MLPs, experts and both halves of gated ones: no attention has them
SIZES = dict(
    vocab_size=VOCABULARY, hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=40, head_dim=8, max_position_embeddings=64, moe_intermediate_size=24, num_experts=4,
    num_local_experts=4, n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, num_shared_experts=1,
    shared_expert_intermediate_size=24, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8,
    v_head_dim=16, n_group=1, topk_group=1, first_k_dense_replace=1, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    residual_multiplier=0.22, embedding_size=D, shared_intermediate_size=40, ffn_hidden_size=40, decoder_layers=LAYERS,
    d_model=D, decoder_attention_heads=4, decoder_ffn_dim=40, n_embd=D, n_layer=LAYERS, n_head=4, n_layers=LAYERS,
    n_heads=4, n_positions=64, rotary_dim=8, dim=D, hidden_dim=40, sliding_window=8, type_vocab_size=2,
    encoder_layers=LAYERS, encoder_attention_heads=4, encoder_ffn_dim=40, mlp_only_layers=[],
    vocab_size_per_layer_input=VOCABULARY, hidden_size_per_layer_input=8, global_head_dim=8, num_kv_shared_layers=0,
)  # fmt: skip


def families() -> list[tuple[str, bool]]:
    """(model type, whether it predicts the next token) of all causal and masked models."""
    auto = libraries.import_transformers().models.auto.modeling_auto
    causal, masked = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return [(name, True) for name in causal] + [(name, False) for name in masked if name not in causal]


def build(name: str, causal: bool):
    """A small model whose norms and biases are random too; raises whatever the library does."""
    import torch

    transformers = libraries.import_transformers()
    kind = transformers.models.auto.configuration_auto.CONFIG_MAPPING[name]
    known = set(kind().to_dict()) | set(getattr(kind, "attribute_map", {}))
    extra = {"is_decoder": True} if causal and "is_decoder" in known else {}
    config = kind(**{key: value for key, value in (SIZES | extra).items() if key in known})
    auto = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForMaskedLM
    torch.manual_seed(0)
    with torch.device("meta"):
        if (size := sum(p.numel() for p in auto.from_config(config).parameters())) > 3e6:
            raise ValueError(f"{size:,} parameters")
    model = auto.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        parameter.data = parameter.data.nan_to_num() + 0.05 * torch.randn_like(parameter)
    return model.eval()


def by_hooks(model, tokens: np.ndarray, layer: int, causal: bool) -> dict[str, list]:
    """What a plain pass has in a block, float64 [rows, d], by hooks on the list of blocks that this function finds.

    `pre` and `post`: what enters and leaves it. `read`: what its modules without children read,
    and `mlp` those of them with a parameter as wide as an MLP. `norms`: (input, output).
    """
    import torch

    count = getattr(model.config.get_text_config(), "num_hidden_layers", LAYERS)
    lists = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    found, handles = {"pre": [], "post": [], "read": [], "mlp": [], "norms": []}, []
    if not lists:
        return found
    block = min(lists, key=lambda pair: pair[0].count("."))[1][layer]

    def rows(x):
        x = x[0] if isinstance(x, tuple | list) else x
        if isinstance(x, torch.Tensor) and x.is_floating_point():
            return x.detach().double().numpy().copy().reshape(-1, x.shape[-1])
        return None

    def leaf(module, args, kwargs, out):
        x = rows(args or tuple(kwargs.values()))
        if x is not None:
            found["read"].append(x)
            found["mlp"] += [x] if any(MLP_SIZES & set(p.shape) for p in module.parameters()) else []
            found["norms"] += [(x, rows(out))] if "norm" in type(module).__name__.lower() else []

    def enter(_, args, kwargs):
        found["pre"].append(rows(args or kwargs.get("hidden_states")))

    handles.append(block.register_forward_pre_hook(enter, with_kwargs=True))
    handles.append(block.register_forward_hook(lambda _, args, out: found["post"].append(rows(out))))
    for module in block.modules():
        if module is not block and ("norm" in type(module).__name__.lower() or not list(module.children())):
            handles.append(module.register_forward_hook(leaf, with_kwargs=True))
    cache = {"use_cache": False} if causal else {}
    with torch.no_grad():
        model(input_ids=torch.tensor(tokens.astype(np.int64)), **cache)
    for handle in handles:
        handle.remove()
    return found


def trial_of(name: str, causal: bool, layer: int = 1) -> dict[str, str]:
    """{site: "exact", "refused: why", "wrong: how" or "absent"}; of a family that cannot be built, {"": why}."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as directory:
        warnings.simplefilter("ignore")
        tokens = np.random.default_rng(0).integers(3, VOCABULARY, (2, 7)).astype(np.int32)
        try:
            build(name, causal).save_pretrained(directory)
            lm = TorchLM.of(directory, HFConfig())
            plain = by_hooks(lm.model, tokens, layer, causal)
        except Exception as error:
            first = next(iter(str(error).strip().splitlines()), "")
            return {"": f"{type(error).__name__}: {first[:100]}"}
        return {site: _judged(lm, site, tokens, plain, layer) for site in sites.NAMES}


def _judged(lm: TorchLM, name: str, tokens: np.ndarray, plain: dict[str, list], layer: int) -> str:
    def read(name):
        site = f"{name}.{layer}"
        return lm.read(tokens, np.ones(tokens.shape, bool), (site,), "float32")[site].astype(np.float64)

    try:
        x = read(name)
    except InputError as error:
        return "absent" if "no such site" in str(error) else f"refused: {error}"
    if len(plain["post"]) != 1:
        return f"wrong: the block runs {len(plain['post'])} times"
    pre, post = plain["pre"][0], plain["post"][0]
    if name in ("resid_pre", "resid_post"):
        return "exact" if np.array_equal(x, pre if name == "resid_pre" else post) else "wrong: another tensor"
    if name == "mlp_in":
        # Experts read rows in another order and RWKV mixtures of them: there the last norm's output is the MLP's input.
        readers = (plain["mlp"] or plain["read"]) + [b for _, b in plain["norms"][-1:] if b is not None]
        return "exact" if any(np.array_equal(x, other) for other in readers) else "wrong: no MLP reads it"
    try:
        other = read({"attn_out": "mlp_out", "mlp_out": "attn_out"}[name])
    except InputError:
        other = None
    return _judged_sum(name, x, other, pre, post, plain["norms"])


def _judged_sum(name: str, x, other, pre, post, norms: list) -> str:
    """Whether `x`, with `other` where there is one, is what the block adds to its stream, or to what it normalises."""
    if not np.abs(x).max():
        return "wrong: all zeros"
    close = lambda a, b: a.shape == b.shape and np.abs(a - b).max() <= 3e-6 * (1 + np.abs(b).max())
    if other is not None and close(pre + x + other, post):
        return "exact"
    norms = [(a, b) for a, b in norms if a.shape == x.shape]
    if name == "attn_out":
        return "exact: a norm reads the sum" if any(close(pre + x, a) for a, _ in norms) else "wrong: not the sum"
    if any(close(a + x, post) for a, _ in norms):
        return "exact: added to what a norm reads"
    last = [a for a, b in norms if b is not None and close(b, post)]
    after = any(close(b + x, a) for a in last for _, b in norms if b is not None and b.shape == x.shape)
    return "exact: a norm reads the sum" if after else "wrong: not the sum"
