"""SAELens' files as a dictionary of jaxsae's."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.dictionary import SKIP, Dictionary, MethodConfig, make_method
from jaxsae.errors import InputError
from jaxsae.exchange import provenance, sites, weights
from jaxsae.exchange.files import check_setting, read_json, read_k, read_l0, read_safetensors
from jaxsae.exchange.saelens_forms import BY_NORM, CONFIG, FORMS, METHODS, RUNNING, SCALER, TRAINED_AS, WEIGHTS
from jaxsae.exchange.saelens_record import recorded_k, recorded_l0, recorded_prefixes, trained_as
from jaxsae.exchange.weights import Weights
from jaxsae.progress import say

SAME = 1e-6  # relative spread of thresholds that count as one; dividing by decoder norms leaves some rounding
_OF_A_ROW = {
    "layer_norm": "each row is centred and scaled by itself",
    "constant_norm_rescale": "each row is brought to one length by itself",
    "covariance_whitening": "rows are whitened: take what SAELens saves at the end of a training, with that folded in",
}
_NO_FORM = {
    "temporal": "what it makes of a row depends on the rows before it",
    "matching_pursuit": "its latents are chosen one after the other, each by what the ones before it left",
}


def read(input: Path, k: int | None = None) -> Dictionary:
    """Reads a directory that SAELens 6 saved, at the end of a training or in its course.

    Args:
      input: the directory. k: of a `jumprelu` that does not say it.

    Raises:
      InputError: files or tensors missing or misshapen, an architecture that `FORMS` lacks,
        a threshold that is not finite, a jumprelu of one threshold without k, a normalisation of each row at run time.
    """
    path = input / CONFIG
    settings = read_json(path)
    theirs = _architecture(settings, path)
    tensors = read_safetensors(input / WEIGHTS)
    if "log_threshold" in tensors:  # as the first JumpReLU of SAELens was trained
        tensors["threshold"] = np.exp(tensors.pop("log_threshold"))
    w = weights.of_tensors(tensors, FORMS[theirs], input / WEIGHTS)
    if more := sorted({*tensors} - {*FORMS[theirs]}):
        say(f"{input / WEIGHTS}: a {theirs} has no {', '.join(more)}: not read.")
    for name, size in (("d_in", w.d_model), ("d_sae", w.width), ("d_out", w.d_out)):
        check_setting(settings, name, size, path, f"{WEIGHTS} says so")
    if _jumps(theirs):
        w = weights.behind_relu(w, input / WEIGHTS)
    scale = _scale(settings, input, "transcoder" in theirs)
    config, threshold = _config_of(settings, theirs, w, path, k), 0.0
    by_norm = theirs in BY_NORM and settings.get("rescale_acts_by_decoder_norm", False)
    if config.has_threshold:
        own = dict(w.own)
        found = own.pop(RUNNING) if RUNNING in own else own.pop("threshold")
        threshold, w = _threshold(found, path), dataclasses.replace(w, own=own)
        threshold /= scale if by_norm else 1
    if scale != 1:
        w = dataclasses.replace(w, W_enc=w.W_enc * scale, W_dec=w.W_dec / scale, b_dec=w.b_dec / scale)
    if by_norm:
        w = weights.unit_norm(w)  # it chooses by z_i ||W_dec,i|| and so keeps its choice
    subtracted = bool(settings.get("apply_b_dec_to_input", True)) and not config.transcode
    w = weights.set_pre_bias(w, subtracted, make_method(config).pre_bias)
    return weights.to_dictionary(w, config, _metadata(settings, config.transcode), str(input), threshold)


def has_one_threshold(threshold: np.ndarray) -> bool:
    """Whether all latents of a jumprelu share a threshold, rounding apart."""
    return bool(np.ptp(threshold) <= SAME * np.abs(threshold).max())


def _threshold(found: np.ndarray, path: Path) -> float:
    threshold = float(np.median(found))
    if not 0 <= threshold < np.inf:
        raise InputError(f"--input: {path.with_name(WEIGHTS)}: {RUNNING} = {threshold:g}, expected 0 or more.")
    return threshold


def _scale(settings: Mapping[str, Any], input: Path, transcodes: bool) -> float:
    """What activations are multiplied by before they come to the weights; 1 where that is folded in.

    Raises:
      InputError: it is not in the files, or is no number above 0.
    """
    given = settings.get("normalize_activations")
    if given in (None, "none"):
        return 1.0
    if not (input / SCALER).is_file() or transcodes:
        raise InputError(
            f"--input: {input / CONFIG}: normalize_activations = {given!r}, and the factor of the activations is not there: "
            f"put the {SCALER} of an autoencoder's checkpoint beside it, or fold the factor in and save again: "
            "sae.fold_activation_norm_scaling_factor(FACTOR); sae.save_model(DIR)."
        )
    scale = read_json(input / SCALER).get("scaling_factor")
    if not isinstance(scale, int | float) or not 0 < scale < np.inf:
        raise InputError(f"--input: {input / SCALER}: scaling_factor = {scale!r}, expected a number above 0.")
    return float(scale)


def _config_of(settings: Mapping[str, Any], theirs: str, w: Weights, path: Path, k: int | None) -> MethodConfig:
    """The method that a file holds; a jumprelu is what was trained, which its thresholds tell where no record does."""
    kind = {"transcode": "transcoder" in theirs, "skip": SKIP in w.own}
    if not _jumps(theirs):
        architecture = METHODS[theirs]
    elif trained_as(settings) == "jumprelu" or not has_one_threshold(w.own["threshold"]):
        architecture = "jumprelu"
    else:
        architecture = "matryoshka" if trained_as(settings) == TRAINED_AS["matryoshka"] else "batchtopk"
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


def _architecture(settings: Mapping[str, Any], path: Path) -> str:
    """What SAELens calls it, after the settings that would change what the weights mean were refused."""
    told = settings.get("metadata") if isinstance(settings.get("metadata"), Mapping) else {}
    version = str(settings.get("sae_lens_version") or told.get("sae_lens_version") or "")
    if version.split(".")[0] != "6":
        raise InputError(
            f"--input: {path}: sae_lens_version is {version or 'missing'}, only files of SAELens 6 are read. "
            "Load it with SAELens 6 and save it again: SAE.load_from_disk(DIR).save_model(DIR)."
        )
    architecture = settings.get("architecture")
    if architecture not in FORMS:
        why = f": {_NO_FORM[architecture]}" if architecture in _NO_FORM else ""
        raise InputError(f"--input: {path}: architecture = {architecture!r}{why}; jaxsae reads {', '.join(FORMS)}.")
    given = settings.get("normalize_activations")
    if given not in (None, "none", "expected_average_only_in"):
        why = _OF_A_ROW.get(given, "that is not known")
        raise InputError(f"--input: {path}: normalize_activations = {given!r}: {why}, which no weights can hold.")
    if settings.get("reshape_activations") not in (
        None,
        "none",
        "hook_z",
    ):  # heads side by side are [B, d] in a store, too
        why = "jaxsae takes activations [B, d]"
        check_setting(settings, "reshape_activations", "none", path, why)
    return architecture


def _metadata(settings: Mapping[str, Any], transcodes: bool) -> dict[str, Any]:
    told = settings.get("metadata") or {}
    names = [told.get(f"hf_{name}") or told.get(name) for name in ("hook_name", "hook_name_out")]
    where = sites.of_transcoder(*names) if transcodes else sites.of_autoencoder(names[0])
    found = {"model": told.get("model_name"), "context": told.get("context_size"), **where}
    return provenance.imported(told, "saelens", **found)
