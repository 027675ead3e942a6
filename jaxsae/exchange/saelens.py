"""SAELens: `sae_weights.safetensors`, `cfg.json`, and `sparsity.safetensors` where frequencies are known.

`topk` goes out as it is. `relu` becomes `standard` with decoder rows of length 1: its latents are then
||W_dec,i|| z_i, its reconstructions the same.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary, MethodConfig
from jaxsae.errors import InputError
from jaxsae.exchange import provenance, weights
from jaxsae.exchange.files import (
    check_setting,
    check_shapes,
    read_json,
    read_k,
    read_safetensors,
    write_json,
    write_safetensors,
)
from jaxsae.exchange.weights import Weights

WEIGHTS, CONFIG, SPARSITY = "sae_weights.safetensors", "cfg.json", "sparsity.safetensors"
FILES = frozenset({WEIGHTS, CONFIG, SPARSITY})
SCHEMA_VERSION = "6.54.12"  # the SAELens whose reading of these files is tested; below 6 means another schema
SHAPES = {"W_enc": "dn", "b_enc": "n", "W_dec": "nd", "b_dec": "d"}
ARCHITECTURES = {"topk": "topk", "relu": "standard"}


def write(dictionary: Dictionary, output: Path) -> None:
    """Writes `dictionary` into the directory `output`.

    Raises:
      InputError: a method that SAELens has no class for, weights that are not finite.
    """
    weights.check_architecture(dictionary, "saelens", ARCHITECTURES)
    w = weights.of_dictionary(dictionary)
    if dictionary.config.architecture == "relu":
        w = weights.unit_norm(w)
    write_safetensors(output / WEIGHTS, {"W_enc": w.W_enc.T, "b_enc": w.b_enc, "W_dec": w.W_dec, "b_dec": w.b_dec})
    write_json(output / CONFIG, _config(dictionary))


def write_sparsity(output: Path, frequency: np.ndarray) -> None:
    """Writes log10 of each latent's firing `frequency` [n], with SAELens' own floor of 1e-10."""
    write_safetensors(output / SPARSITY, {"sparsity": np.log10(frequency + 1e-10).astype(np.float32)})


def snippet(output: Path) -> str:
    """Python that loads the export."""
    load = f"sae = SAE.load_from_disk({json.dumps(str(output))})"
    return f"from sae_lens import SAE\n{load}\nx_hat = sae.decode(sae.encode(x))"


def read(input: Path) -> Dictionary:
    """Reads a directory that `write` or SAELens 6 saved.

    Raises:
      InputError: files or tensors missing or misshapen, an architecture other than topk and standard,
        a normalisation at run time.
    """
    path = input / CONFIG
    settings = read_json(path)
    architecture = _architecture(settings, path)
    tensors = read_safetensors(input / WEIGHTS)
    sizes = check_shapes(tensors, SHAPES, input / WEIGHTS)
    for name, letter in (("d_in", "d"), ("d_sae", "n")):
        why = f"{WEIGHTS} says so"
        check_setting(settings, name, sizes[letter], path, why)
    w = Weights(np.ascontiguousarray(tensors["W_enc"].T), tensors["b_enc"], tensors["W_dec"], tensors["b_dec"])
    if settings.get("rescale_acts_by_decoder_norm", False):
        w = weights.unit_norm(w)  # it chooses by z_i ||W_dec,i|| and so keeps its choice
    pre_bias = settings.get("apply_b_dec_to_input", True)
    if architecture == "topk":
        w = w if pre_bias else weights.with_pre_bias(w)
        config = MethodConfig(width=w.width, architecture="topk", k=read_k(settings, w.width, path))
    else:
        w = weights.without_pre_bias(w) if pre_bias else w
        config = MethodConfig(width=w.width, architecture="relu")
    return weights.to_dictionary(w, config, _metadata(settings), str(input))


def _config(dictionary: Dictionary) -> dict[str, Any]:
    metadata = dictionary.metadata
    config = {
        "architecture": ARCHITECTURES[dictionary.config.architecture],
        "d_in": dictionary.d_model,
        "d_sae": dictionary.width,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": dictionary.pre_bias,
        "normalize_activations": "none",  # folded into the weights
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": SCHEMA_VERSION,
            "sae_lens_training_version": None,
            "model_name": provenance.model_name(metadata),
            "hook_name": provenance.hook_name(metadata),
            "hook_layer": provenance.layer(metadata),
            "hook_head_index": None,
            "context_size": provenance.context_size(metadata),
            "prepend_bos": bool(metadata.get("prepend_bos", False)),
            "jaxsae": provenance.own_record(metadata),
        },
    }
    if dictionary.config.architecture == "topk":
        config |= {"k": dictionary.config.k, "rescale_acts_by_decoder_norm": False}
    return config


def _architecture(settings: Mapping[str, Any], path: Path) -> str:
    """ "topk" or "standard", after the settings that would change what the weights mean were refused."""
    told = settings.get("metadata") if isinstance(settings.get("metadata"), Mapping) else {}
    version = str(settings.get("sae_lens_version") or told.get("sae_lens_version") or "")
    if not version.split(".")[0].isdigit() or int(version.split(".")[0]) < 6:
        raise InputError(
            f"--input: {path}: sae_lens_version is {version or 'missing'}, only files of SAELens 6 are read. "
            "Load it with SAELens 6 and save it again: SAE.load_from_disk(DIR).save_model(DIR)."
        )
    architecture = settings.get("architecture")
    if architecture not in ARCHITECTURES.values():
        raise InputError(f"--input: {path}: architecture = {architecture!r}; jaxsae reads topk and standard.")
    check_setting(settings, "normalize_activations", "none", path, "the weights must take activations as they are")
    check_setting(settings, "reshape_activations", "none", path, "jaxsae takes activations [B, d]")
    return architecture


def _metadata(settings: Mapping[str, Any]) -> dict[str, Any]:
    told = settings.get("metadata") or {}
    found = {"model": told.get("model_name"), "site": told.get("hook_name"), "context": told.get("context_size")}
    return provenance.imported(told, "saelens", **found)


def is_here(path: Path) -> bool:
    """Whether `path` is a directory of this format."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()
