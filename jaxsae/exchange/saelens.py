"""SAELens: `sae_weights.safetensors`, `cfg.json`, and `sparsity.safetensors` where frequencies are known.

`topk` and its kin, `abstopk`, `jumprelu` and `gated` go out as they are. `batchtopk` and `matryoshka` become `jumprelu` with
the same threshold for every latent, as SAELens saves its own. `relu` becomes `standard`, `jumprelu_tanh` `jumprelu` and
`rescaled` `gated`, with decoder rows of length 1: their latents are then ||W_dec,i|| z_i, their reconstructions the same.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary, MethodConfig
from jaxsae.exchange import provenance, stream, weights
from jaxsae.exchange.files import write_safetensors
from jaxsae.exchange.holds import name_in
from jaxsae.exchange.ranges import pieces
from jaxsae.exchange.saelens_forms import CONFIG, FILES, FORMS, SCHEMA_VERSION, SPARSITY, TRAINED_AS, WEIGHTS
from jaxsae.exchange.saelens_read import has_one_threshold, read
from jaxsae.files import write_json

_HEADS = re.compile(r"blocks\.\d+\.attn\.hook_z")  # which has a dimension for them, and SAELens puts them side by side

__all__ = ["CONFIG", "FILES", "SPARSITY", "WEIGHTS", "has_one_threshold", "is_here", "read", "snippet", "write"]


def write(dictionary: Dictionary, output: Path, dtype: str = "float32") -> None:
    """Writes `dictionary` into the directory `output`.

    Raises:
      InputError: a method that SAELens has no class for, weights that are not finite or too large for `dtype`.
    """
    theirs = name_in("saelens", dictionary)
    change = lambda w: weights.one_threshold(weights.unit_rows(w, dictionary.config), dictionary)
    arrays = (w.arrays for w in pieces(dictionary, change))
    stream.write({output / WEIGHTS: FORMS[theirs]}, arrays, dictionary.width, dtype)
    write_json(output / CONFIG, _config(dictionary, dtype))


def write_sparsity(output: Path, frequency: np.ndarray) -> None:
    """Writes log10 of each latent's firing `frequency` [n], with SAELens' own floor of 1e-10."""
    write_safetensors(output / SPARSITY, {"sparsity": np.log10(frequency + 1e-10).astype(np.float32)})


def snippet(output: Path) -> str:
    """Python that loads the export."""
    load = f"sae = SAE.load_from_disk({json.dumps(str(output))})"
    return f"from sae_lens import SAE\n{load}\nx_hat = sae(x)"


def _config(dictionary: Dictionary, dtype: str) -> dict[str, Any]:
    metadata, transcodes = dictionary.metadata, dictionary.config.transcode
    hook = provenance.hook_name(provenance.read(metadata))
    past = {"hook_name_out": provenance.hook_name(provenance.written(metadata))} if transcodes else {}
    config = {
        "architecture": name_in("saelens", dictionary),
        "d_in": dictionary.d_model,
        "d_sae": dictionary.width,
        **({"d_out": dictionary.widths.d_out} if transcodes else {}),
        "dtype": dtype,
        "device": "cpu",
        "apply_b_dec_to_input": dictionary.pre_bias,
        "normalize_activations": "none",  # folded into the weights
        "reshape_activations": "hook_z" if _HEADS.fullmatch(hook) else "none",
        "metadata": {
            "sae_lens_version": SCHEMA_VERSION,
            "sae_lens_training_version": None,
            "model_name": provenance.model_name(metadata),
            "hook_name": hook,
            **past,
            "hook_layer": provenance.layer(metadata),
            "hook_head_index": None,
            "context_size": provenance.context_size(metadata),
            "prepend_bos": bool(metadata.get("prepend_bos", False)),
            "jaxsae": provenance.own_record(metadata),
        },
    }
    if dictionary.config.k_of_a_row:
        config |= {"k": dictionary.config.k, "rescale_acts_by_decoder_norm": False}
    elif dictionary.config.architecture in TRAINED_AS:  # where SAELens itself keeps it
        record = {"training_architecture": TRAINED_AS[dictionary.config.architecture]}
        config["metadata"] |= record | {"training_architecture_details": _training(dictionary.config)}
    return config


def _training(config: MethodConfig) -> dict[str, Any]:
    """What SAELens calls the settings of a training that a jumprelu does not have."""
    if config.takes("target_l0"):
        return {"target_l0": config.l0_target or None}
    nested = {"matryoshka_widths": list(config.nested_prefixes)} if config.architecture == "matryoshka" else {}
    return {"k": config.k} | nested


def is_here(path: Path) -> bool:
    """Whether `path` is a directory of this format."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()
