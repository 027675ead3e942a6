"""Plain safetensors: `model.safetensors`, or shards of it with `model.safetensors.index.json`, and `config.json`.

The arrays by the field's names, as jaxsae's encoder uses them: every dictionary has a form here, transcoders with a top k,
cross-layer transcoders and crosscoders too. Shards and their index are in Hugging Face's form: whole tensors, and which file
each is in. No other tool's class reads it; `snippet` does in a few lines, and `jaxsae import`.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.config import from_dict, to_dict
from jaxsae.dictionary import SKIP, Dictionary, MethodConfig
from jaxsae.errors import InputError
from jaxsae.exchange import provenance, stream, weights
from jaxsae.exchange.files import check_setting, check_shapes, read_json, read_safetensors
from jaxsae.exchange.holds import ACTIVATIONS
from jaxsae.exchange.plain_code import code
from jaxsae.exchange.ranges import pieces
from jaxsae.exchange.weights import Form, Weights
from jaxsae.files import write_json

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SHARD, MOST_SHARDS = "model-{:05d}-of-{:05d}.safetensors", 9  # there are no more tensors
_SHARDS = {SHARD.format(i + 1, n) for n in range(2, MOST_SHARDS + 1) for i in range(n)}
FILES = frozenset({CONFIG, WEIGHTS, INDEX, *_SHARDS})
KIND, VERSION = "jaxsae", 1  # of config.json
SHARD_BYTES = 5e9
FORM: Form = {
    "b_dec": ("b_dec", "o"),
    "b_enc": ("b_enc", "n"),
    "W_enc": ("W_enc", "dn"),
    "W_dec": ("W_dec", "no"),
}
_OWN = {"jumprelu": {"threshold"}} | {name: {"r_mag", "b_mag"} for name in ("gated", "rescaled")}
_METHOD = ("architecture", "k", "prefixes", "target_l0", "transcode", "skip", "layers", "site_widths")


def write(dictionary: Dictionary, output: Path, dtype: str = "float32", shard_bytes: float = SHARD_BYTES) -> None:
    """Writes `dictionary` into the directory `output`.

    Args:
      shard_bytes: of a file at most, but for a tensor that is larger by itself.

    Raises:
      InputError: weights that are not finite or too large for `dtype`.
    """
    form = _form(dictionary)
    sizes = _sizes(dictionary, form, stream.DTYPES[dtype])
    shards = _shards(sizes, shard_bytes)
    files = [SHARD.format(i + 1, len(shards)) for i in range(len(shards))] if len(shards) > 1 else [WEIGHTS]
    forms = {output / file: {name: form[name] for name in names} for file, names in zip(files, shards, strict=True)}
    arrays = (_arrays(w, dictionary) for w in pieces(dictionary))
    stream.write(forms, arrays, dictionary.width, dtype)
    if len(shards) > 1:
        where = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": dict(sorted(where.items()))}
        write_json(output / INDEX, index)
    write_json(output / CONFIG, _config(dictionary, dtype))


def snippet(output: Path) -> str:
    """Python that loads the export."""
    return code(output, read_json(output / CONFIG), (output / INDEX).is_file())


def read(input: Path) -> Dictionary:
    """Reads a directory that `write` wrote, or one of the same form.

    Raises:
      InputError: files or tensors missing or misshapen, a config of another kind or of a version that is not known.
    """
    path = input / CONFIG
    settings = read_json(path)
    check_setting(settings, "model_type", KIND, path, "another tool wrote this directory")
    check_setting(
        {"version": None} | dict(settings), "version", VERSION, path, "a later jaxsae wrote it: read it with that one"
    )
    tensors = _read_tensors(input)
    config = _method(settings, tensors, path)
    form = FORM if config.transcode else FORM | {"W_dec": ("W_dec", "nd"), "b_dec": ("b_dec", "d")}
    form = form | {name: (name, "n") for name in sorted({*tensors} - {*FORM, SKIP})}
    w = weights.of_tensors(tensors, form | ({SKIP: (SKIP, "od")} if config.skip else {}), input)
    own, threshold = dict(w.own), 0.0
    if "threshold" in own:
        weights.check_thresholds(own["threshold"], input)
    if config.has_threshold:
        if "threshold" not in own:
            raise InputError(f"--input: {input} has no tensor 'threshold', which a {config.architecture} needs.")
        threshold = settings.get("threshold", float(np.median(own.pop("threshold"))))
        own.pop("threshold", None)
    wanted, there = _OWN.get(config.architecture, set()), {*own} - {SKIP}
    if there != wanted:
        has, wants = (", ".join(sorted(names)) or "none" for names in (there, wanted))
        raise InputError(
            f"--input: {input}: tensors beside weights and biases are {has}, and those of a {config.architecture} {wants}."
        )
    w = dataclasses.replace(w, own=own)
    return weights.to_dictionary(w, config, provenance.imported(settings, "safetensors"), str(input), threshold)


def _form(dictionary: Dictionary) -> Form:
    own = {"threshold" if name == "log_threshold" else name for name in dictionary.params.latent} - {*FORM}
    own |= {"threshold"} if dictionary.config.has_threshold else set()
    past = {SKIP: (SKIP, "od")} if dictionary.config.skip else {}
    return {name: (name, "n") for name in sorted(own)} | past | FORM


def _arrays(w: Weights, dictionary: Dictionary) -> dict[str, np.ndarray]:
    own = dict(w.own)
    if "log_threshold" in own:
        own["threshold"] = np.exp(own.pop("log_threshold"))
    return weights.one_threshold(dataclasses.replace(w, own=own), dictionary).arrays


def _sizes(dictionary: Dictionary, form: Form, kind: np.dtype) -> dict[str, int]:
    """Tensor -> its bytes in a file."""
    there = dictionary.params.latent | dictionary.params.shared
    numbers = {name: math.prod(there[name].shape) if name in there else dictionary.width for name in form}
    return {name: numbers[name] * (kind.itemsize if len(form[name][1]) > 1 else 4) for name in form}


def _shards(sizes: Mapping[str, int], most: float) -> list[list[str]]:
    """Tensors of each file, in their order, none with more than `most` bytes but for a single one that has."""
    shards, room = [[]], most
    for name, size in sizes.items():
        if shards[-1] and size > room:
            shards, room = [*shards, []], most
        shards[-1].append(name)
        room -= size
    return shards


def _config(dictionary: Dictionary, dtype: str) -> dict[str, Any]:
    method, metadata = to_dict(dictionary.config), dictionary.metadata
    return {
        "model_type": KIND,
        "version": VERSION,
        "activation": ACTIVATIONS[dictionary.config.architecture],
        "d_in": dictionary.d_model,
        "d_sae": dictionary.width,
        "d_out": dictionary.widths.d_out,
        "apply_b_dec_to_input": dictionary.pre_bias,
        "dtype": dtype,
        **{name: method[name] for name in _METHOD},
        **({"threshold": dictionary.threshold} if dictionary.config.has_threshold else {}),
        "model_name": provenance.model_name(metadata),
        "site": provenance.site_name(metadata),
        "jaxsae": provenance.own_record(metadata),
    }


def _method(settings: Mapping[str, Any], tensors: Mapping[str, np.ndarray], path: Path) -> MethodConfig:
    """The method, checked against the tensors; training's own switches are at their defaults."""
    check_shapes(tensors, {"b_enc": "n"}, path.parent)
    width, architecture = len(tensors["b_enc"]), settings.get("architecture")
    if architecture not in ACTIVATIONS:
        raise InputError(f"--input: {path}: architecture = {architecture!r}; jaxsae reads {', '.join(ACTIVATIONS)}.")
    check_setting(settings, "d_sae", width, path, f"{WEIGHTS} says so")
    known = {name: settings[name] for name in _METHOD if settings.get(name) is not None}
    if architecture == "jumprelu_tanh":  # whose thresholds are written as they are compared
        known["architecture"] = "jumprelu"
    try:
        return from_dict(MethodConfig, known | {"width": width})
    except (TypeError, ValueError) as error:
        raise InputError(f"--input: {path}: does not describe a dictionary ({error}).") from None


def _read_tensors(input: Path) -> dict[str, np.ndarray]:
    """The tensors of the file, or of the files that the index names."""
    if not (input / INDEX).is_file():
        return read_safetensors(input / WEIGHTS)
    where = read_json(input / INDEX).get("weight_map")
    if not isinstance(where, Mapping) or not {*where.values()} <= _SHARDS:
        raise InputError(f"--input: {input / INDEX}: weight_map must name files such as {SHARD.format(1, 2)} alone.")
    of_file: dict[str, list[str]] = {}
    for name, file in where.items():
        of_file.setdefault(file, []).append(name)
    tensors = {}
    for file, names in of_file.items():
        tensors |= read_safetensors(input / file, names)
    return tensors


def is_here(path: Path) -> bool:
    """Whether `path` is a directory of this format."""
    if not (path / CONFIG).is_file() or not any((path / name).is_file() for name in (WEIGHTS, INDEX)):
        return False
    return read_json(path / CONFIG).get("model_type") == KIND


def facts(path: Path) -> dict[str, object]:
    """What is in a folder, by name."""
    settings = read_json(path / CONFIG)
    told = {"architecture": "architecture", "latents": "d_sae", "d_model": "d_in", "k": "k", "dtype": "dtype"}
    found = {name: settings.get(theirs) for name, theirs in told.items()}
    return found | {"model": settings.get("model_name"), "site": settings.get("site")}
