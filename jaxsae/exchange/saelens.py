"""SAELens: `sae_weights.safetensors`, `cfg.json`, and `sparsity.safetensors` where frequencies are known.

`topk` and its kin, `abstopk`, `jumprelu` and `gated` go out as they are. `batchtopk` and `matryoshka` become `jumprelu` with
the same threshold for every latent, as SAELens saves its own. `relu` becomes `standard`, `jumprelu_tanh` `jumprelu` and
`rescaled` `gated`, with decoder rows of length 1: their latents are then ||W_dec,i|| z_i, their reconstructions the same.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.dictionary import SKIP, Dictionary, MethodConfig, make_method
from jaxsae.errors import InputError
from jaxsae.exchange import provenance, stream, weights
from jaxsae.exchange.files import (
    check_setting,
    read_json,
    read_k,
    read_l0,
    read_safetensors,
    write_safetensors,
)
from jaxsae.exchange.holds import name_in
from jaxsae.exchange.ranges import pieces
from jaxsae.exchange.saelens_record import recorded_k, recorded_l0, recorded_prefixes, trained_as
from jaxsae.exchange.weights import Form, Weights
from jaxsae.files import write_json

WEIGHTS, CONFIG, SPARSITY = "sae_weights.safetensors", "cfg.json", "sparsity.safetensors"
FILES = frozenset({WEIGHTS, CONFIG, SPARSITY})
SCHEMA_VERSION = "6.54.12"  # the SAELens whose reading of these files is tested; below 6 means another schema
METHODS = {"topk": "topk", "abstopk": "abstopk", "gated": "gated", "standard": "relu"}
METHODS |= dict.fromkeys(("transcoder", "skip_transcoder"), "relu")
_TRAINED_AS = {"batchtopk": "batchtopk", "matryoshka": "matryoshka_batchtopk", "jumprelu": "jumprelu"}
_TRAINED_AS["jumprelu_tanh"] = "jumprelu"
_DECODER: Form = {"W_dec": ("W_dec", "nd"), "b_dec": ("b_dec", "d")}
_WRITTEN: Form = {"W_dec": ("W_dec", "no"), "b_dec": ("b_dec", "o")}
_PAST: Form = {SKIP: (SKIP, "od")}
_PLAIN: Form = {"W_enc": ("W_enc", "dn"), "b_enc": ("b_enc", "n")} | _DECODER
_THRESHOLD: Form = {"threshold": ("threshold", "n")}
_MAGNITUDES: Form = {"r_mag": ("r_mag", "n"), "b_mag": ("b_mag", "n")}
FORMS: dict[str, Form] = {  # by SAELens' architecture
    "topk": _PLAIN,
    "abstopk": _PLAIN,
    "jumprelu": _PLAIN | _THRESHOLD,
    "gated": {"W_enc": ("W_enc", "dn"), "b_gate": ("b_enc", "n")} | _MAGNITUDES | _DECODER,
    "standard": _PLAIN,
    "transcoder": _PLAIN | _WRITTEN,
    "skip_transcoder": _PLAIN | _WRITTEN | _PAST,
    "jumprelu_transcoder": _PLAIN | _WRITTEN | _THRESHOLD,
    "jumprelu_skip_transcoder": _PLAIN | _WRITTEN | _THRESHOLD | _PAST,
}
SAME = 1e-6  # relative spread of thresholds that count as one; dividing by decoder norms leaves some rounding


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


def read(input: Path, k: int | None = None) -> Dictionary:
    """Reads a directory that `write` or SAELens 6 saved.

    Args:
      input: the directory. k: of a `jumprelu` that does not say it.

    Raises:
      InputError: files or tensors missing or misshapen, an architecture that `FORMS` lacks,
        a threshold that is negative or not finite, a jumprelu of one threshold without k, a normalisation at run time.
    """
    path = input / CONFIG
    settings = read_json(path)
    theirs = _architecture(settings, path)
    w = weights.of_tensors(read_safetensors(input / WEIGHTS), FORMS[theirs], input / WEIGHTS)
    for name, size in (("d_in", w.d_model), ("d_sae", w.width), ("d_out", w.d_out)):
        check_setting(settings, name, size, path, f"{WEIGHTS} says so")
    if _jumps(theirs):
        weights.check_thresholds(w.own["threshold"], input / WEIGHTS)
    config, threshold = _config_of(settings, theirs, w, path, k), 0.0
    if config.has_threshold:
        own = dict(w.own)
        threshold, w = float(np.median(own.pop("threshold"))), dataclasses.replace(w, own=own)
    if theirs in ("topk", "abstopk") and settings.get("rescale_acts_by_decoder_norm", False):
        w = weights.unit_norm(w)  # it chooses by z_i ||W_dec,i|| and so keeps its choice
    subtracted = bool(settings.get("apply_b_dec_to_input", True)) and not config.transcode
    w = weights.set_pre_bias(w, subtracted, make_method(config).pre_bias)
    return weights.to_dictionary(w, config, _metadata(settings), str(input), threshold)


def has_one_threshold(threshold: np.ndarray) -> bool:
    """Whether all latents of a jumprelu share a threshold, rounding apart."""
    return bool(np.ptp(threshold) <= SAME * np.abs(threshold).max())


def _config_of(settings: Mapping[str, Any], theirs: str, w: Weights, path: Path, k: int | None) -> MethodConfig:
    """The method that a file holds; a jumprelu is what was trained, which its thresholds tell where no record does."""
    kind = {"transcode": "transcoder" in theirs, "skip": SKIP in w.own}
    if not _jumps(theirs):
        architecture = METHODS[theirs]
    elif trained_as(settings) == "jumprelu" or not has_one_threshold(w.own["threshold"]):
        architecture = "jumprelu"
    else:
        architecture = "matryoshka" if trained_as(settings) == _TRAINED_AS["matryoshka"] else "batchtopk"
    if architecture in ("gated", "relu"):
        if k is not None:
            raise InputError(f"--k={k}: {path} is a {theirs} dictionary, which has no k. Leave --k out.")
        return MethodConfig(width=w.width, architecture=architecture, target_l0=0.0, **kind)  # which no file says
    k = _k(settings, architecture, w.width, path, k)
    prefixes = recorded_prefixes(settings, w.width) if architecture == "matryoshka" else ()
    return MethodConfig(width=w.width, architecture=architecture, k=k, prefixes=prefixes, **kind)


def _jumps(theirs: str) -> bool:
    return theirs.startswith("jumprelu")


def _k(settings: Mapping[str, Any], architecture: str, width: int, path: Path, given: int | None) -> int:
    recorded = recorded_l0(settings) if architecture == "jumprelu" else recorded_k(settings)
    if recorded is None and architecture not in ("topk", "abstopk") and given is not None:
        return given
    if recorded is None and architecture in ("batchtopk", "matryoshka"):
        raise InputError(
            f"--input: {path} does not say k, the active latents of a row on average, of this jumprelu: "
            "encoding does not need it, but training on does. Give it with --k=K."
        )
    if given not in (None, recorded):
        raise InputError(f"--k={given}: {path} says {recorded}. Leave --k out.")
    return read_l0(recorded, width, path) if architecture == "jumprelu" else read_k({"k": recorded}, width, path)


def _config(dictionary: Dictionary, dtype: str) -> dict[str, Any]:
    metadata, transcodes = dictionary.metadata, dictionary.config.transcode
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
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": SCHEMA_VERSION,
            "sae_lens_training_version": None,
            "model_name": provenance.model_name(metadata),
            "hook_name": provenance.hook_name(provenance.read(metadata)),
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
    elif dictionary.config.architecture in _TRAINED_AS:  # where SAELens itself keeps it
        record = {"training_architecture": _TRAINED_AS[dictionary.config.architecture]}
        config["metadata"] |= record | {"training_architecture_details": _training(dictionary.config)}
    return config


def _training(config: MethodConfig) -> dict[str, Any]:
    """What SAELens calls the settings of a training that a jumprelu does not have."""
    if config.takes("target_l0"):
        return {"target_l0": config.l0_target or None}
    nested = {"matryoshka_widths": list(config.nested_prefixes)} if config.architecture == "matryoshka" else {}
    return {"k": config.k} | nested


def _architecture(settings: Mapping[str, Any], path: Path) -> str:
    """What SAELens calls it, after the settings that would change what the weights mean were refused."""
    told = settings.get("metadata") if isinstance(settings.get("metadata"), Mapping) else {}
    version = str(settings.get("sae_lens_version") or told.get("sae_lens_version") or "")
    if not version.split(".")[0].isdigit() or int(version.split(".")[0]) < 6:
        raise InputError(
            f"--input: {path}: sae_lens_version is {version or 'missing'}, only files of SAELens 6 are read. "
            "Load it with SAELens 6 and save it again: SAE.load_from_disk(DIR).save_model(DIR)."
        )
    architecture = settings.get("architecture")
    if architecture not in FORMS:
        raise InputError(f"--input: {path}: architecture = {architecture!r}; jaxsae reads {', '.join(FORMS)}.")
    check_setting(settings, "normalize_activations", "none", path, "the weights must take activations as they are")
    check_setting(settings, "reshape_activations", "none", path, "jaxsae takes activations [B, d]")
    return architecture


def _metadata(settings: Mapping[str, Any]) -> dict[str, Any]:
    told = settings.get("metadata") or {}
    found = {"model": told.get("model_name"), "site": told.get("hook_name"), "context": told.get("context_size")}
    if out := told.get("hook_name_out"):
        found |= {"site": f"{told.get('hook_name')}->{out}", "reads": [told.get("hook_name")], "writes": [out]}
    return provenance.imported(told, "saelens", **found)


def is_here(path: Path) -> bool:
    """Whether `path` is a directory of this format."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()
