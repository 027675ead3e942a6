"""Gemma Scope: `params.npz`; Gemma Scope 2: `params.safetensors` and `config.json`, or `params_layer_I.safetensors` of each
layer of a cross-layer transcoder.

JumpReLU with a threshold for each latent: x W_enc + b_enc where that is above it, else 0, with no b_dec subtracted. `relu`
goes out with thresholds of 0, `batchtopk` and `matryoshka` with their one threshold for every latent. Files are written as
those of Gemma Scope 2, and autoencoders and single-site transcoders with decoder rows as `saelens` has them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.dictionary import SKIP, Dictionary, MethodConfig
from jaxsae.errors import InputError
from jaxsae.exchange import circuit_tracer_settings as settings_of
from jaxsae.exchange import cross_layer, gemma_scope_names, provenance, stream, weights
from jaxsae.exchange.files import (
    check_setting,
    check_shapes,
    read_json,
    read_npz,
    read_safetensors,
    safetensors_shapes,
)
from jaxsae.exchange.holds import name_in
from jaxsae.exchange.ranges import pieces
from jaxsae.exchange.weights import Form, Weights
from jaxsae.files import write_json

OLD, WEIGHTS, CONFIG = "params.npz", "params.safetensors", "config.json"
OF_LAYER = "params_layer_{}.safetensors"
ARCHITECTURE, PAST = "jump_relu", "affine_skip_connection"
FILES = frozenset({OLD, WEIGHTS, CONFIG, *map(OF_LAYER.format, range(settings_of.MOST_LAYERS))})
FORM: Form = {
    "w_enc": ("W_enc", "dn"),
    "b_enc": ("b_enc", "n"),
    "w_dec": ("W_dec", "no"),
    "b_dec": ("b_dec", "o"),
    "threshold": ("threshold", "n"),
}
_ACROSS = FORM | {"w_dec": ("W_dec", "nlo")}
_SHAPES = {name: letters for name, (_, letters) in _ACROSS.items()}


def write(dictionary: Dictionary, output: Path, dtype: str = "float32") -> None:
    """Writes a dictionary, a transcoder or a cross-layer one into the directory `output`.

    Raises:
      InputError: a method without a form there, weights that are not finite or too large for `dtype`.
    """
    name_in("gemma_scope", dictionary)
    config = dictionary.config
    if config.layers > 1:
        settings_of.check_all_layers(dictionary, "gemma_scope")
        files = {
            output / OF_LAYER.format(layer): {t: (f"{ours}_{layer}", of) for t, (ours, of) in _ACROSS.items()}
            for layer in range(config.layers)
        }
    else:
        files = {output / WEIGHTS: FORM | ({PAST: (PAST, "do")} if config.skip else {})}
    arrays = (_arrays(w, config.layers) for w in pieces(dictionary, _as_theirs(dictionary)))
    stream.write(files, arrays, dictionary.width // config.layers, dtype)
    write_json(output / CONFIG, _config(dictionary))


def _as_theirs(dictionary: Dictionary) -> Callable[[Weights], Weights]:
    """What makes the dictionary's weights theirs: a threshold for each latent, and no b_dec subtracted."""
    change = settings_of.with_threshold(dictionary)

    def theirs(w: Weights) -> Weights:
        w = change(w)
        own = {"threshold": np.zeros(w.width, np.float32)} | dict(w.own)
        return weights.set_pre_bias(Weights.of(w.arrays | own), now=dictionary.pre_bias, wanted=False)

    return theirs


def snippet(output: Path) -> str:
    """Python that loads the export."""
    name = WEIGHTS if (output / WEIGHTS).is_file() else OF_LAYER.format(0)
    return (
        "from safetensors.torch import load_file\n"
        f"p = load_file({json.dumps(str(output / name))})\n"
        'pre = x @ p["w_enc"] + p["b_enc"]; z = pre.relu() * (pre > p["threshold"])'
    )


def read(input: Path, k: int | None = None, transcodes: bool = False) -> Dictionary:
    """Reads a directory of Gemma Scope's or Gemma Scope 2's files, of one layer or of a cross-layer transcoder.

    Args:
      k: active latents of a row on average, where neither the settings nor the name of the directory say them.
      transcodes: that they are of a transcoder, where nothing else says so.

    Raises:
      InputError: files or tensors missing or misshapen, Python objects, thresholds that are not finite, other architectures.
    """
    settings = read_json(input / CONFIG) if (input / CONFIG).is_file() else {}
    path = input / CONFIG
    why = "the files of this family have a threshold for each latent"
    check_setting(settings, "architecture", ARCHITECTURE, path, why)
    numbers = layers_of(input)
    if numbers:
        cross_layer.check_layers(numbers, input)
        w = across_layers([input / OF_LAYER.format(layer) for layer in numbers])
    else:
        file = input / (OLD if (input / OLD).is_file() else WEIGHTS)
        w = of_layer(read_tensors(file), file)
    about = gemma_scope_names.about(input, settings, numbers, transcodes or w.d_out != w.d_model or SKIP in w.own)
    record = settings.get("jaxsae") if isinstance(settings.get("jaxsae"), Mapping) else {}
    known = next((n for n in (record.get("k"), k, about.pop("l0", None)) if n is not None), None)
    method = settings_of.method_of(w, known, path)
    kind = {"transcode": bool(about.pop("transcodes")), "skip": SKIP in w.own, "layers": max(1, len(numbers))}
    metadata = provenance.imported(settings, "gemma_scope", **about)
    return weights.to_dictionary(w, MethodConfig(width=w.width, **method, **kind), metadata, str(input))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file by their lower-case names, which Gemma Scope 2 has.

    Raises:
      InputError: it is missing, damaged, or holds Python objects or a scale that is not folded.
    """
    tensors = read_npz(path) if path.suffix == ".npz" else read_safetensors(path)
    tensors = {name.lower(): tensor for name, tensor in tensors.items()}
    scale = tensors.get("scaling_factor", np.ones(1))
    if not np.allclose(scale, 1):
        raise InputError(f"--input: {path}: scaling_factor is not 1 throughout: fold it into w_dec, and leave it out.")
    return tensors


def of_layer(tensors: Mapping[str, np.ndarray], path: Path) -> Weights:
    """The weights in the file of one layer.

    Raises:
      InputError: a tensor is missing or does not fit; the file is a part of a cross-layer transcoder, or a crosscoder.
    """
    if tensors.get("w_dec", np.zeros(0)).ndim == 3 or tensors.get("w_enc", np.zeros(0)).ndim == 3:
        raise InputError(
            f"--input: {path}: w_dec writes several layers, as of a crosscoder or of one layer of a cross-layer transcoder: "
            f"of the latter give the directory with {OF_LAYER.format('I')} of every layer; crosscoders are not read."
        )
    w = weights.behind_relu(weights.of_tensors(tensors, FORM, path), path)
    if PAST not in tensors:
        return w
    check_shapes(tensors, {"w_enc": "dn", "w_dec": "no", PAST: "do"}, path)  # x @ it: theirs has d_in first
    return Weights.of(w.arrays | {SKIP: np.ascontiguousarray(tensors[PAST].T)})


def across_layers(paths: Sequence[Path]) -> Weights:
    """The weights of a cross-layer transcoder from the files of its layers, whose w_dec is [n, layers, d].

    Raises:
      InputError: tensors missing or misshapen, a map past the latents, rows that write layers before their own.
    """
    found, layers = [], len(paths)
    for layer, path in enumerate(paths):
        tensors = read_tensors(path)
        if PAST in tensors:
            raise InputError(
                f"--input: {path} has {PAST}: nothing skips the latents of jaxsae's cross-layer transcoders."
            )
        sizes = check_shapes(tensors, _SHAPES, path)
        rows = tensors["w_dec"]
        if sizes["l"] != layers:
            raise InputError(f"--input: {path}: w_dec writes {sizes['l']} layers, and there are files of {layers}.")
        if rows[:, :layer].any():
            raise InputError(f"--input: {path}: w_dec writes layers before its own, {layer}; expected 0 there.")
        one = weights.behind_relu(weights.of_tensors(tensors, _ACROSS, path), path).arrays
        found.append(one | {"W_dec": rows.reshape(len(rows), -1)})
    return cross_layer.of_parts(found, paths[0].parent)


def _arrays(w: Weights, layers: int) -> dict[str, np.ndarray]:
    """The arrays by name; those of each layer of a cross-layer transcoder, of a range that begins with the first layer's."""
    if layers == 1:
        return w.arrays | ({PAST: w.own[SKIP].T} if SKIP in w.own else {})
    rows, found = w.W_dec.reshape(w.width, layers, -1), {}
    for layer, bias in enumerate(np.split(w.b_dec, layers)):
        own = {"W_enc": w.W_enc, "b_enc": w.b_enc, "W_dec": rows, "threshold": w.own["threshold"]}
        found |= {f"{name}_{layer}": array[layer::layers] for name, array in own.items()} | {f"b_dec_{layer}": bias}
    return found


def _config(dictionary: Dictionary) -> dict[str, Any]:
    metadata, config = dictionary.metadata, dictionary.config
    record = provenance.own_record(metadata) | {"architecture": config.architecture}
    told = config.told_k
    return {
        "architecture": ARCHITECTURE,
        "model_name": provenance.model_name(metadata),
        "width": dictionary.width,
        **gemma_scope_names.hooks(metadata, config.transcode),
        **({"affine_connection": config.skip} if config.transcode else {}),
        **({"l0": told} if told else {}),
        "jaxsae": record | ({"k": told} if told else {}),
    }


def layers_of(path: Path) -> list[int]:
    """The layers that a folder has files of."""
    return settings_of.numbered(path, r"params_layer_(\d+)\.safetensors") if path.is_dir() else []


def is_here(path: Path) -> bool:
    """Whether `path` is a directory of this format."""
    return (path / OLD).is_file() or (path / WEIGHTS).is_file() or len(layers_of(path)) > 1


def facts(path: Path) -> dict[str, object]:
    """What is in a folder, by name."""
    settings = read_json(path / CONFIG) if (path / CONFIG).is_file() else {}
    if (path / OLD).is_file():
        shapes = {name: (list(array.shape), "") for name, array in read_npz(path / OLD).items()}
        latents, d_model = shapes.get("W_dec", ([None, None], ""))[0]
    else:
        name = WEIGHTS if (path / WEIGHTS).is_file() else OF_LAYER.format(0)
        d_model, latents = safetensors_shapes(path / name).get("w_enc", ([None, None], ""))[0]
    record = settings.get("jaxsae") if isinstance(settings.get("jaxsae"), Mapping) else {}
    return {
        "architecture": "jumprelu",
        "trained as": record.get("architecture"),
        "layers": len(layers_of(path)) or None,
        "latents": latents,
        "d_model": d_model,
        "model": settings.get("model_name"),
        "site": settings.get("hf_hook_point_in"),
    }
