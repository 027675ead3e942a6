"""circuit-tracer: a transcoder of every MLP, `layer_0.safetensors` and on, and `config.yaml`.

Its transcoders have a ReLU, or a threshold for each latent (x where x > threshold, else 0): `relu`, `jumprelu` and
`jumprelu_tanh` go out as they are, `batchtopk` and `matryoshka` with their one threshold for every latent. A top-k of each
row has no form there. `config.yaml` names no files, so that the folder works from a hub as it does from a disk.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from jaxsae.dictionary import SKIP, Dictionary, MethodConfig
from jaxsae.errors import InputError
from jaxsae.exchange import provenance, weights
from jaxsae.exchange.files import read_k, read_safetensors, safetensors_shapes, write_safetensors
from jaxsae.exchange.holds import name_in
from jaxsae.exchange.weights import Form
from jaxsae.files import write_text

CONFIG, KIND = "config.yaml", "transcoder_set"
MOST_LAYERS = 1000
THRESHOLD = "activation_function.threshold"
FILES = frozenset({CONFIG, *(f"layer_{layer}.safetensors" for layer in range(MOST_LAYERS))})
FORM: Form = {"W_enc": ("W_enc", "nd"), "b_enc": ("b_enc", "n"), "W_dec": ("W_dec", "no"), "b_dec": ("b_dec", "o")}
_HOOKS = {"mlp_in": "mlp.hook_in", "mlp_out": "mlp.hook_out", "resid_mid": "hook_resid_mid"}
_SITES = {hook: site for site, hook in _HOOKS.items()} | {"hook_mlp_out": "mlp_out"}
_SITE = re.compile(r"(.+)\.(\d+)")


def write(dictionary: Dictionary, output: Path, others: Sequence[Dictionary] = ()) -> None:
    """Writes a transcoder, with `others` of the other layers, into the directory `output`.

    Raises:
      InputError: a method without a form there, sites that are not of one layer, layers that are missing or there twice,
        transcoders of other sizes or sites than the first, weights that are not finite.
    """
    for one in (dictionary, *others):
        name_in("circuit_tracer", one)
    layers: dict[int, Dictionary] = {}
    hooks = _hooks(dictionary)[1:]
    for one in (dictionary, *others):
        layer, *own = _hooks(one)
        if layer in layers:
            raise InputError(f"--also: two transcoders are of layer {layer}. Give one of each.")
        if tuple(own) != hooks or one.params.W_enc.shape != dictionary.params.W_enc.shape:
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
        w = _with_threshold(one)
        forms = FORM | ({THRESHOLD: ("threshold", "n")} if "threshold" in w.own else {})
        forms |= {SKIP: (SKIP, "od")} if SKIP in w.own else {}
        write_safetensors(output / f"layer_{layer}.safetensors", weights.to_tensors(w, forms))
    write_text(output / CONFIG, yaml.safe_dump(_config(layers, hooks), sort_keys=False))


def _with_threshold(dictionary: Dictionary) -> weights.Weights:
    w = weights.with_unit_rows(dictionary)
    if not dictionary.config.has_threshold:
        return w
    same = np.full(w.width, dictionary.threshold, np.float32)
    return dataclasses.replace(w, own=dict(w.own) | {"threshold": same})


def _hooks(dictionary: Dictionary) -> tuple[int, str, str]:
    """The layer, and what its tool calls the sites that are read and written."""
    sides = [(dictionary.metadata.get(side) or [""])[0] for side in provenance.SITES]
    found = [_SITE.fullmatch(site) for site in sides]
    if not all(found) or len({match.group(2) for match in found}) > 1:
        said = "->".join(sides)
        raise InputError(
            f"--format=circuit_tracer: reads and writes sites of one layer, such as mlp_in.3 and mlp_out.3; this is {said}."
        )
    names = (match.group(1) for match in found)
    return int(found[0].group(2)), *(_HOOKS.get(name, f"hook_{name}") for name in names)


def _config(layers: Mapping[int, Dictionary], hooks: Sequence[str]) -> dict[str, Any]:
    first = layers[0]
    records = [
        provenance.own_record(layers[layer].metadata) | {"architecture": layers[layer].config.architecture}
        for layer in sorted(layers)
    ]
    told = {layer: layers[layer].config.told_k for layer in layers}
    for layer, record in enumerate(records):
        record |= {"k": told[layer]} if told[layer] else {}
    return {
        "model_kind": KIND,
        "model_name": provenance.model_name(first.metadata),
        "feature_input_hook": hooks[0],
        "feature_output_hook": hooks[1],
        "scan": "",
        "jaxsae": records,
    }


def snippet(output: Path) -> str:
    """Python that loads the export."""
    settings = _settings(output)
    paths = f"{{i: f{json.dumps(str(output) + '/layer_{i}.safetensors')} for i in range({len(_layers(output))})}}"
    hooks = ", ".join(f"{name}={settings[name]!r}" for name in ("feature_input_hook", "feature_output_hook"))
    return (
        "from circuit_tracer.transcoder import load_transcoder_set\n"
        f"paths = {paths}\n"
        f'transcoders = load_transcoder_set(paths, scan="", {hooks})'
    )


def read(input: Path, layer: int | None = None, k: int | None = None) -> Dictionary:
    """Reads one layer's transcoder of a set.

    Args:
      layer: which; needed where there are several. k: active latents of a row on average, where no record says them.

    Raises:
      InputError: files or tensors missing or misshapen, no such layer, a cross-layer transcoder.
    """
    settings, there = _settings(input), _layers(input)
    layer = there[0] if layer is None and len(there) == 1 else layer
    if layer not in there:
        raise InputError(f"--layer={layer}: {input} has layers {', '.join(map(str, there)) or 'none'}. Name one.")
    path = input / f"layer_{layer}.safetensors"
    names = safetensors_shapes(path)
    form = FORM | {theirs: own for theirs, own in _OPTIONAL.items() if theirs in names}
    w = weights.of_tensors(read_safetensors(path), form, path)
    record = _record(settings, layer)
    known = record.get("k", k)
    if "threshold" not in w.own:
        method = {"architecture": "relu", "target_l0": 0.0}
    else:
        weights.check_thresholds(w.own["threshold"], path)
        method = {"architecture": "jumprelu", "k": read_k({"k": 32 if known is None else round(known)}, w.width, path)}
    config = MethodConfig(width=w.width, transcode=True, skip=SKIP in w.own, **method)
    sites = [f"{_SITES.get(settings[hook], settings[hook].removeprefix('hook_'))}.{layer}" for hook in _HOOK_SETTINGS]
    about = {"model": settings.get("model_name"), "site": "->".join(sites), "reads": sites[:1], "writes": sites[1:]}
    return weights.to_dictionary(
        w, config, provenance.imported({"jaxsae": record}, "circuit_tracer", **about), str(path)
    )


_OPTIONAL: Form = {THRESHOLD: ("threshold", "n"), SKIP: (SKIP, "od")}
_HOOK_SETTINGS = ("feature_input_hook", "feature_output_hook")


def _record(settings: Mapping[str, Any], layer: int) -> Mapping[str, Any]:
    records = settings.get("jaxsae")
    own = records[layer] if isinstance(records, list) and layer < len(records) else {}
    return own if isinstance(own, Mapping) else {}


def _settings(path: Path) -> dict[str, Any]:
    file = path / CONFIG
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"--input: {file} is missing. Name a directory with {CONFIG} and layer_N.safetensors."
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"--input: {file} cannot be read: {error}") from None
    if not isinstance(settings, dict) or settings.get("model_kind") != KIND:
        kind = settings.get("model_kind") if isinstance(settings, dict) else None
        raise InputError(f"--input: {file}: model_kind = {kind!r}; jaxsae reads {KIND}.")
    for name in _HOOK_SETTINGS:
        if not isinstance(settings.get(name), str):
            raise InputError(f"--input: {file}: {name} = {settings.get(name)!r}, expected the name of a hook.")
    return settings


def _layers(path: Path) -> list[int]:
    found = (re.fullmatch(r"layer_(\d+)\.safetensors", p.name) for p in path.iterdir())
    return sorted(int(match.group(1)) for match in found if match)


def is_here(path: Path) -> bool:
    """Whether `path` is a directory of this format."""
    return (path / CONFIG).is_file() and bool(_layers(path))


def facts(path: Path) -> dict[str, object]:
    """What is in a set, by name."""
    settings, layers = _settings(path), _layers(path)
    shapes = safetensors_shapes(path / f"layer_{layers[0]}.safetensors")
    latents, d_model = shapes.get("W_enc", ([None, None], ""))[0]
    return {
        "architecture": "jumprelu" if THRESHOLD in shapes else "relu",
        "trained as": _record(settings, layers[0]).get("architecture"),
        "layers": len(layers),
        "latents": latents,
        "d_model": d_model,
        "model": settings.get("model_name"),
        "site": " to ".join(settings[name] for name in _HOOK_SETTINGS),
    }
