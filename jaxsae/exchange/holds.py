"""Which methods each format holds, as what, and where to go with the others."""

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError

_TOP_K = ("topk", "multi_topk", "hierarchical_topk")
# Format -> {architecture: what the format calls it}.
HOLDS: dict[str, dict[str, str]] = {
    "saelens": dict.fromkeys(_TOP_K, "topk")
    | {
        "abstopk": "abstopk",
        "batchtopk": "jumprelu",
        "matryoshka": "jumprelu",
        "jumprelu": "jumprelu",
        "jumprelu_tanh": "jumprelu",
        "gated": "gated",
        "rescaled": "gated",
        "relu": "standard",
    },
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
}
_WHY = {
    "sparsify": "its coder keeps the k largest latents of every row after a ReLU: none below 0, no threshold, no plain ReLU",
    "dictionary_learning": "none of its classes keeps latents of both signs",
}


def name_in(file_format: str, dictionary: Dictionary) -> str:
    """What the format calls a dictionary of this method.

    Raises:
      InputError: it has no form for it; names the formats that do.
    """
    architecture = dictionary.config.architecture
    if architecture in HOLDS[file_format]:
        return HOLDS[file_format][architecture]
    others = " or ".join(f"--format={name}" for name, held in HOLDS.items() if architecture in held)
    why = _WHY.get(file_format, "none of its classes is one")
    raise InputError(
        f"--format={file_format} cannot hold a dictionary of --architecture={architecture}: {why}."
        f"{f' Take {others}.' if others else ''}"
    )
