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
from jaxsae.exchange import provenance, weights
from jaxsae.exchange.files import check_shapes, read_safetensors, safetensors_shapes, write_safetensors
from jaxsae.exchange.holds import name_in

_NAMES = ("W_enc", "b_enc", "b_dec", "threshold")


def write(dictionary: Dictionary, output: Path) -> None:
    """Writes a cross-layer transcoder into the directory `output`.

    Raises:
      InputError: a method without a form there, layers that are not all from 0 on, sites of two widths, weights that are not
        finite.
    """
    name_in("circuit_tracer", dictionary)
    hooks = settings_of.check_all_layers(dictionary, "circuit_tracer")
    w, layers = settings_of.with_threshold(dictionary), dictionary.config.layers
    if w.d_out != layers * w.d_model:
        raise InputError(
            f"--format=circuit_tracer: reads and writes sites of one width, and this reads {w.d_model} and writes "
            f"{w.d_out // layers} numbers of a layer."
        )
    rows, own = w.W_dec.reshape(w.width, layers, w.d_model), {"b_enc": w.b_enc, **w.own}
    for layer, bias in enumerate(w.b_dec.reshape(layers, w.d_model)):
        of_layer = {"W_enc": w.W_enc[layer::layers], "b_dec": bias} | {n: a[layer::layers] for n, a in own.items()}
        tensors = {f"{name}_{layer}": np.ascontiguousarray(of_layer[name]) for name in _NAMES if name in of_layer}
        write_safetensors(output / f"W_enc_{layer}.safetensors", tensors)
        decoder = {f"W_dec_{layer}": np.ascontiguousarray(rows[layer::layers, layer:])}
        write_safetensors(output / f"W_dec_{layer}.safetensors", decoder)
    settings_of.write(output, settings_of.CROSS_LAYER, hooks, dictionary, settings_of.own_record(dictionary))


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
