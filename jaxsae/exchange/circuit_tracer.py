"""circuit-tracer: a transcoder of every MLP, `layer_0.safetensors` and on, and `config.yaml`; or a cross-layer one.

Its transcoders have a ReLU, or a threshold for each latent (x where x > threshold, else 0): `relu`, `jumprelu` and
`jumprelu_tanh` go out as they are, `batchtopk` and `matryoshka` with their one threshold for every latent. A top-k of each
row has no form there.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsae.dictionary import SKIP, Dictionary, MethodConfig
from jaxsae.errors import InputError
from jaxsae.exchange import circuit_tracer_settings as settings_of
from jaxsae.exchange import cross_layer, provenance, stream, weights
from jaxsae.exchange.circuit_tracer_settings import CONFIG, CROSS_LAYER, SET
from jaxsae.exchange.files import read_safetensors, safetensors_shapes
from jaxsae.exchange.holds import name_in
from jaxsae.exchange.ranges import pieces
from jaxsae.exchange.weights import Form

MOST_LAYERS = 1000
THRESHOLD = "activation_function.threshold"
_FILES = ("layer_{}.safetensors", "W_enc_{}.safetensors", "W_dec_{}.safetensors")
FILES = frozenset({CONFIG, *(name.format(layer) for name in _FILES for layer in range(MOST_LAYERS))})
FORM: Form = {"W_enc": ("W_enc", "nd"), "b_enc": ("b_enc", "n"), "W_dec": ("W_dec", "no"), "b_dec": ("b_dec", "o")}
_THRESHOLD: Form = {THRESHOLD: ("threshold", "n")}
_PAST: Form = {SKIP: (SKIP, "od")}


def write(dictionary: Dictionary, output: Path, others: Sequence[Dictionary] = (), dtype: str = "float32") -> None:
    """Writes a transcoder, with `others` of the other layers, or a cross-layer one, into the directory `output`.

    Raises:
      InputError: a method without a form there, sites that are not of one layer, layers that are missing or there twice,
        transcoders of other sizes or sites than the first, weights that are not finite or too large for `dtype`.
    """
    if dictionary.config.layers > 1:
        if others:
            raise InputError("--also: --run is a cross-layer transcoder, which has all layers. Leave the flag out.")
        cross_layer.write(dictionary, output, dtype)
        return
    for one in (dictionary, *others):
        name_in("circuit_tracer", one)
    layers: dict[int, Dictionary] = {}
    hooks = settings_of.layers_and_hooks(dictionary)[1]
    for one in (dictionary, *others):
        (layer, *more), own = settings_of.layers_and_hooks(one)
        if more:
            raise InputError("--also: names a cross-layer transcoder, which has all layers. Export it alone.")
        if layer in layers:
            raise InputError(f"--also: two transcoders are of layer {layer}. Give one of each.")
        if own != hooks or one.params.W_enc.shape != dictionary.params.W_enc.shape:
            said = f"{one.width} latents of {one.d_model}, {' to '.join(own)}"
            wanted = f"{dictionary.width} of {dictionary.d_model}, {' to '.join(hooks)}"
            raise InputError(f"--also: that of layer {layer} has {said}, and the first {wanted}. A set has one kind.")
        layers[layer] = one
    if missing := sorted(set(range(max(layers) + 1)) - set(layers)):
        raise InputError(
            f"--format=circuit_tracer: a set has every layer from 0 on, and {', '.join(map(str, missing))} "
            f"{'is' if len(missing) == 1 else 'are'} missing. Give the runs of these with --also=RUN,RUN."
        )
    for layer, one in layers.items():
        form = FORM | (_THRESHOLD if name_in("circuit_tracer", one) == "jumprelu" else {})
        form |= _PAST if one.config.skip else {}
        arrays = (w.arrays for w in pieces(one, settings_of.with_threshold(one)))
        stream.write({output / f"layer_{layer}.safetensors": form}, arrays, one.width, dtype)
    records = [settings_of.own_record(layers[layer]) for layer in sorted(layers)]
    settings_of.write(output, SET, hooks, layers[0], records)


def snippet(output: Path) -> str:
    """Python that loads the export."""
    settings = settings_of.read(output)
    if settings["model_kind"] == CROSS_LAYER:
        return cross_layer.snippet(output, settings)
    paths = f"{{i: f{json.dumps(str(output) + '/layer_{i}.safetensors')} for i in range({len(_layers(output))})}}"
    return (
        "from circuit_tracer.transcoder import load_transcoder_set\n"
        f"paths = {paths}\n"
        f'transcoders = load_transcoder_set(paths, scan="", {settings_of.hook_flags(settings)})'
    )


def read(input: Path, layer: int | None = None, k: int | None = None) -> Dictionary:
    """Reads one layer's transcoder of a set, or a cross-layer one.

    Args:
      layer: which; needed where there are several. k: active latents of a row on average, where no record says them.

    Raises:
      InputError: files or tensors missing or misshapen, no such layer, one layer of a cross-layer transcoder.
    """
    settings = settings_of.read(input)
    if settings["model_kind"] == CROSS_LAYER:
        if layer is not None:
            raise InputError(f"--layer={layer}: {input} is a cross-layer transcoder, which comes whole. Leave it out.")
        return cross_layer.read(input, settings, k)
    there = _layers(input)
    layer = there[0] if layer is None and len(there) == 1 else layer
    if layer not in there:
        raise InputError(f"--layer={layer}: {input} has layers {', '.join(map(str, there)) or 'none'}. Name one.")
    path = input / f"layer_{layer}.safetensors"
    names = safetensors_shapes(path)
    form = FORM | {theirs: own for theirs, own in (_THRESHOLD | _PAST).items() if theirs in names}
    w = weights.of_tensors(read_safetensors(path), form, path)
    record = _record(settings, layer)
    method = settings_of.method_of(w, record.get("k", k), path)
    config = MethodConfig(width=w.width, transcode=True, skip=SKIP in w.own, **method)
    about = {"model": settings.get("model_name")} | settings_of.sites(settings, [layer])
    return weights.to_dictionary(
        w, config, provenance.imported({"jaxsae": record}, "circuit_tracer", **about), str(path)
    )


def _record(settings: Mapping[str, Any], layer: int) -> Mapping[str, Any]:
    records = settings.get("jaxsae")
    own = records[layer] if isinstance(records, list) and layer < len(records) else {}
    return own if isinstance(own, Mapping) else {}


def _layers(path: Path) -> list[int]:
    return settings_of.numbered(path, r"layer_(\d+)\.safetensors")


def is_here(path: Path) -> bool:
    """Whether `path` is a directory of this format."""
    return (path / CONFIG).is_file() and bool(_layers(path) or cross_layer.layers_of(path))


def facts(path: Path) -> dict[str, object]:
    """What is in a folder, by name."""
    settings = settings_of.read(path)
    if settings["model_kind"] == CROSS_LAYER:
        return cross_layer.facts(path, settings)
    layers = _layers(path)
    shapes = safetensors_shapes(path / f"layer_{layers[0]}.safetensors")
    latents, d_model = shapes.get("W_enc", ([None, None], ""))[0]
    return {
        "architecture": "jumprelu" if THRESHOLD in shapes else "relu",
        "trained as": _record(settings, layers[0]).get("architecture"),
        "layers": len(layers),
        "latents": latents,
        "d_model": d_model,
        "model": settings.get("model_name"),
        "site": " to ".join(settings[name] for name in settings_of.HOOKS),
    }
