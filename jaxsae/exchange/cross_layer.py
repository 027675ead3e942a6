"""circuit-tracer: a cross-layer transcoder, `W_enc_I.safetensors` and `W_dec_I.safetensors` of each layer, and `config.yaml`.

A layer's decoder is [n of the layer, layers - I, d]: what its latents write at their own layer and at each later one.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.dictionary import Dictionary, MethodConfig
from jaxsae.errors import InputError
from jaxsae.exchange import circuit_tracer_settings as settings_of
from jaxsae.exchange import provenance, stream, weights
from jaxsae.exchange.files import check_shapes, read_safetensors, safetensors_shapes
from jaxsae.exchange.holds import name_in
from jaxsae.exchange.ranges import pieces
from jaxsae.exchange.weights import Weights

_LETTERS = {"W_enc": "nd", "b_enc": "n", "b_dec": "d", "threshold": "n"}


def write(dictionary: Dictionary, output: Path, dtype: str = "float32") -> None:
    """Writes a cross-layer transcoder into the directory `output`.

    Raises:
      InputError: a method without a form there, layers that are not all from 0 on, sites of two widths, weights that are not
        finite or too large for `dtype`.
    """
    jumps = name_in("circuit_tracer", dictionary) == "jumprelu"
    hooks = settings_of.check_all_layers(dictionary, "circuit_tracer")
    layers, d = dictionary.config.layers, dictionary.d_model // dictionary.config.layers
    if (d_out := dictionary.widths.d_out // layers) != d:
        raise InputError(
            f"--format=circuit_tracer: reads and writes sites of one width, and this reads {d} and writes {d_out} numbers "
            "of a layer."
        )
    letters = {name: of for name, of in _LETTERS.items() if name != "threshold" or jumps}
    files = {}
    for layer in range(layers):
        own = {f"{name}_{layer}": (f"{name}_{layer}", of) for name, of in letters.items()}
        files[output / f"W_enc_{layer}.safetensors"] = own
        files[output / f"W_dec_{layer}.safetensors"] = {f"W_dec_{layer}": (f"W_dec_{layer}", "nld")}
    by_layer = (_by_layer(w, layers) for w in pieces(dictionary, settings_of.with_threshold(dictionary)))
    stream.write(files, by_layer, dictionary.width // layers, dtype)
    settings_of.write(output, settings_of.CROSS_LAYER, hooks, dictionary, settings_of.own_record(dictionary))


def _by_layer(w: Weights, layers: int) -> dict[str, np.ndarray]:
    """The arrays of each layer, of a range of latents that begins with one of the first layer."""
    rows, b_dec = w.W_dec.reshape(w.width, layers, -1), w.b_dec.reshape(layers, -1)
    found = {}
    for layer in range(layers):
        own = {name: array[layer::layers] for name, array in {"W_enc": w.W_enc, "b_enc": w.b_enc, **w.own}.items()}
        own |= {"W_dec": rows[layer::layers, layer:], "b_dec": b_dec[layer]}
        found |= {f"{name}_{layer}": array for name, array in own.items()}
    return found


def snippet(output: Path, settings: Mapping[str, Any]) -> str:
    """Python that loads the export."""
    return (
        "import torch\n"
        "from circuit_tracer.transcoder.cross_layer_transcoder import load_clt\n"
        f"transcoder = load_clt({json.dumps(str(output))}, {settings_of.hook_flags(settings)}, dtype=torch.float32)"
    )


def read(
    input: Path, settings: Mapping[str, Any], k: int | None = None, w: weights.Weights | None = None
) -> Dictionary:
    """Reads a cross-layer transcoder.

    Args:
      k: active latents of a row on average, of all layers, where no record says them. w: its weights, where they are of
        other files.

    Raises:
      InputError: files or tensors missing or misshapen.
    """
    if w is None:
        numbers = layers_of(input)
        check_layers(numbers, input)
        w = of_parts([_of_layer(input, layer, len(numbers)) for layer in numbers], input)
    layers = w.d_out // w.d_model
    record = settings.get("jaxsae")
    known = record.get("k", k) if isinstance(record, Mapping) else k
    config = MethodConfig(width=w.width, transcode=True, layers=layers, **settings_of.method_of(w, known, input))
    about = {"model": settings.get("model_name")} | settings_of.sites(settings, range(layers))
    metadata = provenance.imported({"jaxsae": record}, "circuit_tracer", **about)
    return weights.to_dictionary(w, config, metadata, str(input))


def check_layers(numbers: Sequence[int], input: Path) -> None:
    """Raises `InputError` unless files are of two layers or more, all from 0 on."""
    if list(numbers) != list(range(len(numbers))) or len(numbers) < 2:
        shown = ", ".join(map(str, numbers)) or "none"
        raise InputError(f"--input: {input} has files of layers {shown}; expected two or more, all from 0 on.")


def of_parts(parts: Sequence[Mapping[str, np.ndarray]], input: Path) -> weights.Weights:
    """The weights of layers' arrays: W_enc [n, d], b_enc [n], W_dec [n, layers d], b_dec [d], perhaps threshold [n].

    Raises:
      InputError: layers that differ in their shapes or in what they have.
    """
    if len({(part["W_enc"].shape, "threshold" in part) for part in parts}) > 1:
        raise InputError(f"--input: {input}: its layers have W_enc of different shapes, or only some have thresholds.")
    in_turns = lambda name: np.stack([part[name] for part in parts], 1).reshape(-1, *parts[0][name].shape[1:])
    arrays = {name: in_turns(name) for name in ("W_enc", "b_enc", "W_dec", "threshold") if name in parts[0]}
    return weights.Weights.of(arrays | {"b_dec": np.concatenate([part["b_dec"] for part in parts])})


def _of_layer(input: Path, layer: int, layers: int) -> dict[str, np.ndarray]:
    """The arrays of a layer by name, the decoder's rows with zeros at the layers before it: W_dec [n, layers d]."""
    tensors: dict[str, np.ndarray] = {}
    for side in ("W_enc", "W_dec"):
        path = input / f"{side}_{layer}.safetensors"
        found = read_safetensors(path)
        letters = {"W_enc": {"W_enc": "nd", "b_enc": "n", "b_dec": "d"}, "W_dec": {"W_dec": "nld"}}[side]
        letters |= {"threshold": "n"} if f"threshold_{layer}" in found else {}
        check_shapes(found, {f"{name}_{layer}": of for name, of in letters.items()}, path)
        tensors |= {name: found[f"{name}_{layer}"] for name in letters}
    (width, d), decoder = tensors["W_enc"].shape, tensors["W_dec"]
    if decoder.shape != (width, layers - layer, d):
        raise InputError(
            f"--input: {path}: W_dec_{layer} is {list(decoder.shape)}, expected {[width, layers - layer, d]}."
        )
    rows = np.zeros((width, layers, d), np.float32)
    rows[:, layer:] = decoder
    return tensors | {"W_dec": rows.reshape(width, -1)}


def layers_of(path: Path) -> list[int]:
    """The layers that a folder has encoders of."""
    return settings_of.numbered(path, r"W_enc_(\d+)\.safetensors")


def facts(path: Path, settings: Mapping[str, Any]) -> dict[str, object]:
    """What is in a folder, by name."""
    layers, shapes = layers_of(path), safetensors_shapes(path / "W_enc_0.safetensors")
    latents, d_model = shapes.get("W_enc_0", ([None, None], ""))[0]
    record = settings.get("jaxsae")
    return {
        "architecture": "jumprelu" if "threshold_0" in shapes else "relu",
        "trained as": record.get("architecture") if isinstance(record, Mapping) else None,
        "layers": len(layers),
        "latents": latents * len(layers) if latents else None,
        "d_model": d_model,
        "model": settings.get("model_name"),
        "site": " to ".join(settings[name] for name in settings_of.HOOKS),
    }
