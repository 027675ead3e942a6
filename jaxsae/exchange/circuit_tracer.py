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
from jaxsae.exchange import circuit_tracer_files as files_of
from jaxsae.exchange import circuit_tracer_settings as settings_of
from jaxsae.exchange import cross_layer, gemma_scope, provenance, stream, weights
from jaxsae.exchange.circuit_tracer_settings import CONFIG, CROSS_LAYER, LISTED, MOST_LAYERS, SET
from jaxsae.exchange.files import safetensors_shapes
from jaxsae.exchange.holds import name_in
from jaxsae.exchange.ranges import pieces

_FILES = ("layer_{}.safetensors", "W_enc_{}.safetensors", "W_dec_{}.safetensors")
FILES = frozenset({CONFIG, *(name.format(layer) for name in _FILES for layer in range(MOST_LAYERS))})


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
        optional = {"threshold": name_in("circuit_tracer", one) == "jumprelu", SKIP: one.config.skip}
        form = files_of.FORM | {theirs: laid for theirs, laid in files_of.OPTIONAL.items() if optional[laid[0]]}
        arrays = (w.arrays for w in pieces(one, settings_of.with_threshold(one)))
        stream.write({output / f"layer_{layer}.safetensors": form}, arrays, one.width, dtype)
    records = [settings_of.own_record(layers[layer]) for layer in sorted(layers)]
    settings_of.write(output, SET, hooks, layers[0], records)


def snippet(output: Path) -> str:
    """Python that loads the export."""
    settings = settings_of.read(output)
    if settings["model_kind"] == CROSS_LAYER:
        return cross_layer.snippet(output, settings)
    paths = f"{{i: f{json.dumps(str(output) + '/layer_{i}.safetensors')} for i in range({len(files_of.numbers_of(output))})}}"
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
    there = files_of.layers_of(input, settings)
    if settings["model_kind"] == CROSS_LAYER:
        if layer is not None:
            raise InputError(f"--layer={layer}: {input} is a cross-layer transcoder, which comes whole. Leave it out.")
        listed = settings.get(LISTED) is not None
        w = gemma_scope.across_layers([files_of.file_of(one, input) for one in there.values()]) if listed else None
        return cross_layer.read(input, settings, k, w)
    layer = next(iter(there)) if layer is None and len(there) == 1 else layer
    if layer not in there:
        flag = "--layer" if layer is None else f"--layer={layer}"
        raise InputError(f"{flag}: {input} has layers {', '.join(map(str, there)) or 'none'}. Name one.")
    path = files_of.file_of(there[layer], input)
    w = files_of.read_layer(path)
    record = _record(settings, layer)
    method = settings_of.method_of(w, record.get("k", k), path)
    config = MethodConfig(width=w.width, transcode=True, skip=SKIP in w.own, **method)
    about = {"model": settings.get("model_name")} | settings_of.sites(settings, [layer])
    return weights.to_dictionary(
        w, config, provenance.imported({"jaxsae": record}, "circuit_tracer", **about), str(path)
    )


def members(input: Path) -> list[int]:
    """The layers of a set of several, each of which is a dictionary; none of what is one dictionary."""
    settings = settings_of.read(input)
    there = files_of.layers_of(input, settings)
    return list(there) if settings["model_kind"] == SET and len(there) > 1 else []


def _record(settings: Mapping[str, Any], layer: int) -> Mapping[str, Any]:
    records = settings.get("jaxsae")
    own = records[layer] if isinstance(records, list) and layer < len(records) else {}
    return own if isinstance(own, Mapping) else {}


def is_here(path: Path) -> bool:
    """Whether `path` is a directory of this format."""
    if not (path / CONFIG).is_file():
        return False
    return bool(files_of.numbers_of(path) or cross_layer.layers_of(path)) or settings_of.lists_files(path)


def facts(path: Path) -> dict[str, object]:
    """What is in a folder, by name."""
    settings = settings_of.read(path)
    if settings["model_kind"] == CROSS_LAYER:
        return cross_layer.facts(path, settings)
    layers = files_of.layers_of(path, settings)
    here = settings.get(LISTED) is None  # what is elsewhere is not looked at
    shapes = safetensors_shapes(Path(next(iter(layers.values())))) if here else {}
    latents, d_model = shapes.get("W_enc", ([None, None], ""))[0]
    return {
        "architecture": ("jumprelu" if files_of.THRESHOLD in shapes else "relu") if here else None,
        "trained as": _record(settings, 0).get("architecture"),
        "layers": len(layers),
        "latents": latents,
        "d_model": d_model,
        "model": settings.get("model_name"),
        "site": " to ".join(settings[name] for name in settings_of.HOOKS),
    }
