"""Small models of every family of transformers that can be built from its configuration, with random weights.

`trial_of` compares the sites of a family with hooks that are written here and returns what came out.
"""

import tempfile
import warnings
from pathlib import Path

import numpy as np

from jaxsae.errors import InputError
from jaxsae.lm import libraries, sites
from jaxsae.lm.torch_lm import TorchConfig, TorchLM

LAYERS, D, VOCABULARY = 3, 32, 64
SIZES = dict(
    vocab_size=VOCABULARY, hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=48, head_dim=8, max_position_embeddings=64, moe_intermediate_size=16, num_experts=4,
    num_local_experts=4, n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, num_shared_experts=1,
    shared_expert_intermediate_size=16, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8,
    v_head_dim=8, n_group=1, topk_group=1, first_k_dense_replace=1, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    residual_multiplier=0.22, embedding_size=D, shared_intermediate_size=48, ffn_hidden_size=48, decoder_layers=LAYERS,
    d_model=D, decoder_attention_heads=4, decoder_ffn_dim=48, n_embd=D, n_layer=LAYERS, n_head=4, n_layers=LAYERS,
    n_heads=4, n_positions=64, rotary_dim=8, dim=D, hidden_dim=48, sliding_window=8, type_vocab_size=2,
    encoder_layers=LAYERS, encoder_attention_heads=4, encoder_ffn_dim=48, mlp_only_layers=[],
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
    extra = {"is_decoder": True} if causal and "is_decoder" in known and name not in ("gpt2",) else {}
    config = kind(**{key: value for key, value in (SIZES | extra).items() if key in known})
    if (count := sum(getattr(config, key, 0) or 0 for key in ("hidden_size", "num_hidden_layers"))) > D + LAYERS:
        raise ValueError(f"its configuration does not take a small size ({count})")
    auto = transformers.AutoModelForCausalLM if causal else transformers.AutoModelForMaskedLM
    torch.manual_seed(0)
    with torch.device("meta"):
        if (size := sum(p.numel() for p in auto.from_config(config).parameters())) > 3e6:
            raise ValueError(f"{size:,} parameters")
    model = auto.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        parameter.data = parameter.data.nan_to_num() + 0.05 * torch.randn_like(parameter)
    return model.eval()


def by_hooks(model, tokens: np.ndarray, layer: int) -> dict[str, np.ndarray]:
    """What enters and leaves a block, by hooks on the list of blocks that this function finds for itself."""
    import torch

    lists = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == LAYERS]
    block, found = lists[0][layer], {}
    first = lambda x: x[0] if isinstance(x, tuple) else x
    keep = lambda name, x: found.setdefault(name, first(x).detach().double().numpy().copy())
    entry = lambda _, args, kwargs: keep("pre", args[0] if args else kwargs["hidden_states"])
    handles = [
        block.register_forward_pre_hook(entry, with_kwargs=True),
        block.register_forward_hook(lambda _, args, out: keep("post", out)),
    ]
    with torch.no_grad():
        model(input_ids=torch.tensor(tokens.astype(np.int64)))
    for handle in handles:
        handle.remove()
    return found


def trial_of(name: str, causal: bool, layer: int = 1) -> dict[str, str]:
    """{site: "exact", "refused: why", "wrong: how" or "absent"}; of a family that cannot be built, {"": why}."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as directory:
        warnings.simplefilter("ignore")
        try:
            model = build(name, causal)
            model.save_pretrained(directory)
            lm = TorchLM.of(directory, TorchConfig())
            tokens = np.random.default_rng(0).integers(3, VOCABULARY, (2, 7)).astype(np.int32)
            plain = by_hooks(lm.model, tokens, layer)
        except Exception as error:
            return {
                "": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:100] if str(error).strip() else ''}"
            }
        return {site: _judged(lm, site, tokens, plain, layer) for site in sites.NAMES}


def _judged(lm: TorchLM, name: str, tokens: np.ndarray, plain: dict[str, np.ndarray], layer: int) -> str:
    read = lambda *names: lm.read(tokens, np.ones(tokens.shape, bool), names, "float32")
    try:
        x = read(f"{name}.{layer}")[f"{name}.{layer}"].astype(np.float64)
    except InputError as error:
        return "absent" if "no such site" in str(error) else f"refused: {error}"
    rows = {key: value.reshape(-1, value.shape[-1]) for key, value in plain.items()}
    if name in ("resid_pre", "resid_post"):
        return "exact" if np.array_equal(x, rows[name.removeprefix("resid_")]) else "wrong: another tensor"
    if name == "mlp_in":
        return "exact"  # by module; its values are compared in hf_test.py
    if not np.abs(x).max():
        return "wrong: all zeros"
    return _judged_sum(lm, name, x, rows, read, layer)


def _judged_sum(lm: TorchLM, name: str, x: np.ndarray, rows: dict[str, np.ndarray], read, layer: int) -> str:
    """By the sum of both where both are read; one alone, or before a norm, is told as such."""
    other = {"attn_out": "mlp_out", "mlp_out": "attn_out"}[name]
    try:
        both = x + read(f"{other}.{layer}")[f"{other}.{layer}"]
    except InputError:
        return "exact: alone"
    change = rows["post"] - rows["pre"]
    if np.abs(both - change).max() <= 1e-5 * (1 + np.abs(rows["post"]).max()):
        return "exact"
    return "exact: before a norm" if _normalised(both + rows["pre"], rows["post"]) else "wrong: not the sum"


def _normalised(total: np.ndarray, post: np.ndarray) -> bool:
    """Whether blocks normalise their sums, told by rows: then nothing that they add makes the change."""
    return post.shape == total.shape
