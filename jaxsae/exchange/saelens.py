"""SAELens: `sae_weights.safetensors`, `cfg.json`, and `sparsity.safetensors` where frequencies are known.

`topk` goes out as it is. `batchtopk` becomes `jumprelu` with the same threshold for every latent, as SAELens saves
its own. `relu` becomes `standard` with decoder rows of length 1: its latents are then
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
    write_safetensors,
)
from jaxsae.exchange.weights import Weights
from jaxsae.files import write_json

WEIGHTS, CONFIG, SPARSITY = "sae_weights.safetensors", "cfg.json", "sparsity.safetensors"
FILES = frozenset({WEIGHTS, CONFIG, SPARSITY})
SCHEMA_VERSION = "6.54.12"  # the SAELens whose reading of these files is tested; below 6 means another schema
SHAPES = {"W_enc": "dn", "b_enc": "n", "W_dec": "nd", "b_dec": "d"}
ARCHITECTURES = {"topk": "topk", "batchtopk": "jumprelu", "relu": "standard"}
SAME = 1e-6  # relative spread of thresholds that count as one; dividing by decoder norms leaves some rounding


def write(dictionary: Dictionary, output: Path) -> None:
    """Writes `dictionary` into the directory `output`.

    Raises:
      InputError: a method that SAELens has no class for, weights that are not finite.
    """
    weights.check_architecture(dictionary, "saelens", ARCHITECTURES)
    w = weights.of_dictionary(dictionary)
    if dictionary.config.architecture == "relu":
        w = weights.unit_norm(w)
    tensors = {"W_enc": w.W_enc.T, "b_enc": w.b_enc, "W_dec": w.W_dec, "b_dec": w.b_dec}
    if dictionary.config.architecture == "batchtopk":
        tensors["threshold"] = np.full(w.width, dictionary.threshold, np.float32)
    write_safetensors(output / WEIGHTS, tensors)
    write_json(output / CONFIG, _config(dictionary))


def write_sparsity(output: Path, frequency: np.ndarray) -> None:
    """Writes log10 of each latent's firing `frequency` [n], with SAELens' own floor of 1e-10."""
    write_safetensors(output / SPARSITY, {"sparsity": np.log10(frequency + 1e-10).astype(np.float32)})


def snippet(output: Path) -> str:
    """Python that loads the export."""
    load = f"sae = SAE.load_from_disk({json.dumps(str(output))})"
    return f"from sae_lens import SAE\n{load}\nx_hat = sae.decode(sae.encode(x))"


def read(input: Path, k: int | None = None) -> Dictionary:
    """Reads a directory that `write` or SAELens 6 saved.

    Args:
      input: the directory. k: of a `jumprelu` that does not say it.

    Raises:
      InputError: files or tensors missing or misshapen, an architecture other than topk, jumprelu and standard,
        a jumprelu with several thresholds or without k, a normalisation at run time.
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
    threshold = _threshold(tensors, input / WEIGHTS) if architecture == "batchtopk" else 0.0
    if architecture == "topk" and settings.get("rescale_acts_by_decoder_norm", False):
        w = weights.unit_norm(w)  # it chooses by z_i ||W_dec,i|| and so keeps its choice
    pre_bias = settings.get("apply_b_dec_to_input", True)
    if architecture == "relu":
        w = weights.without_pre_bias(w) if pre_bias else w
        config = MethodConfig(width=w.width, architecture="relu")
    else:
        w = w if pre_bias else weights.with_pre_bias(w)
        config = MethodConfig(width=w.width, architecture=architecture, k=_k(settings, architecture, w.width, path, k))
    return weights.to_dictionary(w, config, _metadata(settings), str(input), threshold)


def recorded_k(settings: Mapping[str, Any]) -> Any:
    """k as the settings have it; SAELens keeps a BatchTopK's, which may be a fraction, in the record of its training."""
    told = settings.get("metadata")
    details = told.get("training_architecture_details") if isinstance(told, Mapping) else None
    k = details.get("k") if isinstance(details, Mapping) else None
    return settings.get("k", max(1, round(k)) if isinstance(k, float) and np.isfinite(k) else k)


def has_one_threshold(threshold: np.ndarray) -> bool:
    """Whether all latents of a jumprelu share a threshold, rounding apart."""
    return bool(np.ptp(threshold) <= SAME * np.abs(threshold).max())


def _threshold(tensors: Mapping[str, np.ndarray], path: Path) -> float:
    """The threshold of a jumprelu."""
    check_shapes(tensors, {"b_enc": "n", "threshold": "n"}, path)
    low, high = tensors["threshold"].min(), tensors["threshold"].max()
    if not (low >= 0 and high < np.inf):
        raise InputError(f"--input: {path}: thresholds from {low:g} to {high:g}, expected finite numbers of 0 or more.")
    if not has_one_threshold(tensors["threshold"]):
        raise InputError(
            f"--input: {path}: thresholds from {low:g} to {high:g}; jaxsae reads a jumprelu whose latents all have the "
            "same one, as batchtopk, and has no method with a threshold for each latent."
        )
    return float(np.median(tensors["threshold"]))


def _k(settings: Mapping[str, Any], architecture: str, width: int, path: Path, given: int | None) -> int:
    recorded = recorded_k(settings)
    if recorded is None and architecture == "batchtopk":
        if given is None:
            raise InputError(
                f"--input: {path} does not say k, the active latents of a row on average, of this jumprelu: "
                "encoding does not need it, but training on does. Give it with --k=K."
            )
        return given
    if given not in (None, recorded):
        raise InputError(f"--k={given}: {path} says {recorded}. Leave --k out.")
    return read_k({"k": recorded}, width, path)


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
    elif dictionary.config.architecture == "batchtopk":  # where SAELens itself keeps it
        details = {"training_architecture": "batchtopk", "training_architecture_details": {"k": dictionary.config.k}}
        config["metadata"] |= details
    return config


def _architecture(settings: Mapping[str, Any], path: Path) -> str:
    """What jaxsae calls it, after the settings that would change what the weights mean were refused."""
    told = settings.get("metadata") if isinstance(settings.get("metadata"), Mapping) else {}
    version = str(settings.get("sae_lens_version") or told.get("sae_lens_version") or "")
    if not version.split(".")[0].isdigit() or int(version.split(".")[0]) < 6:
        raise InputError(
            f"--input: {path}: sae_lens_version is {version or 'missing'}, only files of SAELens 6 are read. "
            "Load it with SAELens 6 and save it again: SAE.load_from_disk(DIR).save_model(DIR)."
        )
    names = {theirs: ours for ours, theirs in ARCHITECTURES.items()}
    architecture = settings.get("architecture")
    if architecture not in names:
        raise InputError(f"--input: {path}: architecture = {architecture!r}; jaxsae reads {', '.join(names)}.")
    check_setting(settings, "normalize_activations", "none", path, "the weights must take activations as they are")
    check_setting(settings, "reshape_activations", "none", path, "jaxsae takes activations [B, d]")
    return names[architecture]


def _metadata(settings: Mapping[str, Any]) -> dict[str, Any]:
    told = settings.get("metadata") or {}
    found = {"model": told.get("model_name"), "site": told.get("hook_name"), "context": told.get("context_size")}
    return provenance.imported(told, "saelens", **found)


def is_here(path: Path) -> bool:
    """Whether `path` is a directory of this format."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()
