"""Which methods each format holds, as what, and where to go with the others."""

from jaxsae.dictionary import Dictionary
from jaxsae.dictionary.config import SWITCHES
from jaxsae.errors import InputError

_JUMPS = ("batchtopk", "matryoshka", "jumprelu", "jumprelu_tanh", "relu")
_TOP_K = ("topk", "multi_topk", "hierarchical_topk")
_WHY_KEEPS = (
    "its coder keeps the k largest latents of every row after a ReLU: none below 0, no threshold, no plain ReLU"
)
_WHY_JUMPS = "each of its latents is active above a threshold of its own, and by nothing else"
PLAIN = "safetensors"  # jaxsae's own, which holds everything
_ITSELF = {architecture: architecture for architecture in SWITCHES}
# By architecture, what makes latents of pre-activations.
ACTIVATIONS = dict.fromkeys(_TOP_K, "topk") | {
    "abstopk": "abstopk",
    "batchtopk": "jumprelu",
    "matryoshka": "jumprelu",
    "jumprelu": "jumprelu",
    "jumprelu_tanh": "jumprelu",
    "gated": "gated",
    "rescaled": "gated",
    "relu": "relu",
}
# Format -> {architecture: what the format calls it}.
HOLDS: dict[str, dict[str, str]] = {
    "saelens": ACTIVATIONS | {"relu": "standard"},
    "sparsify": dict.fromkeys(_TOP_K, "topk"),
    "dictionary_learning": dict.fromkeys(_TOP_K, "AutoEncoderTopK")
    | {
        "batchtopk": "BatchTopKSAE",
        "matryoshka": "MatryoshkaBatchTopKSAE",
        "jumprelu": "JumpReluAutoEncoder",
        "jumprelu_tanh": "JumpReluAutoEncoder",
        "gated": "GatedAutoEncoder",
        "rescaled": "GatedAutoEncoder",
        "relu": "AutoEncoder",
    },
    "circuit_tracer": {},
    "gemma_scope": dict.fromkeys(_JUMPS, "jumprelu"),
    "safetensors": _ITSELF,
}
# The same of transcoders; SAELens has names of their own for those with a map past the latents.
TRANSCODERS: dict[str, dict[str, str]] = {
    "saelens": dict.fromkeys(("batchtopk", "matryoshka", "jumprelu", "jumprelu_tanh"), "jumprelu_transcoder")
    | {"relu": "transcoder"},
    "sparsify": dict.fromkeys(_TOP_K, "topk"),
    "dictionary_learning": {},
    "circuit_tracer": dict.fromkeys(_JUMPS, "jumprelu") | {"relu": "relu"},
    "gemma_scope": dict.fromkeys(_JUMPS, "jumprelu"),
    "safetensors": _ITSELF,
}
CROSS_LAYER = ("circuit_tracer", "gemma_scope", PLAIN)
_WITH_SKIP = {"jumprelu_transcoder": "jumprelu_skip_transcoder", "transcoder": "skip_transcoder"}
_WHY_TRANSCODERS = {
    "sparsify": _WHY_KEEPS,
    "saelens": "its transcoders have a ReLU or a threshold for each latent, and no top k",
    "dictionary_learning": "none of its classes is a transcoder",
    "circuit_tracer": "its transcoders have a ReLU or a threshold for each latent, and no top k",
    "gemma_scope": _WHY_JUMPS,
}
_WHY = {
    "sparsify": _WHY_KEEPS,
    "dictionary_learning": "none of its classes keeps latents of both signs",
    "circuit_tracer": "it takes transcoders alone",
    "gemma_scope": _WHY_JUMPS,
}


def name_in(file_format: str, dictionary: Dictionary) -> str:
    """What the format calls a dictionary of this method.

    Raises:
      InputError: it has no form for it; names the formats that do.
    """
    config = dictionary.config
    if config.site_widths and file_format != PLAIN:
        raise InputError(
            f"--format={file_format} cannot hold a crosscoder: its dictionaries have one site. Take --format={PLAIN}."
        )
    architecture, transcodes = config.architecture, config.transcode
    if config.layers > 1 and file_format not in CROSS_LAYER:
        others = " or ".join(f"--format={name}" for name in CROSS_LAYER)
        raise InputError(f"--format={file_format} cannot hold a cross-layer transcoder. Take {others}.")
    table, reasons = (TRANSCODERS, _WHY_TRANSCODERS) if transcodes else (HOLDS, _WHY)
    if architecture in table[file_format]:
        name = table[file_format][architecture]
        return _WITH_SKIP.get(name, name) if config.skip else name
    others = " or ".join(f"--format={name}" for name, held in table.items() if architecture in held)
    why = reasons.get(file_format, "none of its classes is one")
    kind = "transcoder" if transcodes else "dictionary"
    raise InputError(
        f"--format={file_format} cannot hold a {kind} of --architecture={architecture}: {why}."
        f"{f' Take {others}.' if others else ''}"
    )
