"""What circuit-tracer's two kinds of files have in common: `config.yaml`, names of sites, thresholds, and their methods."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.exchange import provenance, weights
from jaxsae.exchange.files import read_k
from jaxsae.files import write_text

CONFIG = "config.yaml"
LISTED = "transcoders"  # a list of files, one a layer, where they are not beside it
MOST_LAYERS = 1000
SET, CROSS_LAYER = "transcoder_set", "cross_layer_transcoder"
HOOKS = ("feature_input_hook", "feature_output_hook")
_HOOKS = {"mlp_in": "mlp.hook_in", "mlp_out": "mlp.hook_out", "resid_mid": "hook_resid_mid"}
_SITES = {hook: site for site, hook in _HOOKS.items()} | {"hook_mlp_out": "mlp_out"}
_SITE = re.compile(r"(.+)\.(\d+)")


def layers_and_hooks(dictionary: Dictionary) -> tuple[list[int], tuple[str, str]]:
    """The layers, and what the tool calls the sites that are read and written.

    Raises:
      InputError: sites have no layers, or are not one of each side a layer.
    """
    sides = [dictionary.metadata.get(side) or [""] for side in provenance.SITES]
    found = [[_SITE.fullmatch(site) for site in side] for side in sides]
    layers = [[int(match.group(2)) for match in side if match] for side in found]
    names = [{match.group(1) for match in side if match} for side in found]
    if (
        layers[0] != layers[1]
        or [len(side) for side in layers] != [len(side) for side in sides]
        or max(map(len, names)) > 1
    ):
        said = "->".join("+".join(side) for side in sides)
        wanted = "reads and writes sites of the same layers, such as mlp_in.3 and mlp_out.3"
        raise InputError(f"--format=circuit_tracer: {wanted}; this is {said}.")
    return layers[0], tuple(_HOOKS.get(name, f"hook_{name}") for side in names for name in side)


def check_all_layers(dictionary: Dictionary, file_format: str) -> tuple[str, str]:
    """What the tool calls the sites of a cross-layer transcoder, which must be of all layers from 0 on.

    Raises:
      InputError: as `layers_and_hooks`; other layers.
    """
    numbers, hooks = layers_and_hooks(dictionary)
    if numbers != list(range(dictionary.config.layers)):
        shown = ", ".join(map(str, numbers))
        raise InputError(f"--format={file_format}: has every layer of a model from 0 on, and this is of {shown}.")
    return hooks


def sites(settings: Mapping[str, Any], layers: Sequence[int]) -> dict[str, Any]:
    """`site`, `reads` and `writes` of a dictionary of these layers, as a store calls them."""
    names = [_SITES.get(settings[hook], settings[hook].removeprefix("hook_")) for hook in HOOKS]
    reads, writes = ([f"{name}.{layer}" for layer in layers] for name in names)
    return {"site": f"{'+'.join(reads)}->{'+'.join(writes)}", "reads": reads, "writes": writes}


def with_threshold(dictionary: Dictionary) -> Callable[[weights.Weights], weights.Weights]:
    """What makes the dictionary's weights the tool's: a threshold for each latent where it has one for all."""
    return lambda w: weights.one_threshold(weights.unit_rows(w, dictionary.config), dictionary)


def own_record(dictionary: Dictionary) -> dict[str, Any]:
    """What a file keeps of a dictionary for its way back."""
    record = provenance.own_record(dictionary.metadata) | {"architecture": dictionary.config.architecture}
    told = dictionary.config.told_k
    return record | ({"k": told} if told else {})


def method_of(w: weights.Weights, known: float | None, path: Path) -> dict[str, Any]:
    """Architecture, and k where there are thresholds; `known`: active latents of a row, where that is said."""
    if "threshold" not in w.own:
        return {"architecture": "relu", "target_l0": 0.0}
    weights.check_thresholds(w.own["threshold"], path)
    return {
        "architecture": "jumprelu",
        "k": read_k({"k": min(32, w.width) if known is None else round(known)}, w.width, path),
    }


def write(output: Path, kind: str, hooks: Sequence[str], dictionary: Dictionary, records: Any) -> None:
    """Writes `config.yaml`; it names no files, so that the folder works from a hub as it does from a disk."""
    content = {
        "model_kind": kind,
        "model_name": provenance.model_name(dictionary.metadata),
        **dict(zip(HOOKS, hooks, strict=True)),
        "scan": "",
        "jaxsae": records,
    }
    write_text(output / CONFIG, yaml.safe_dump(content, sort_keys=False))


def read(path: Path) -> dict[str, Any]:
    """The settings of a folder.

    Raises:
      InputError: there are none, or they are not of a kind that is known.
    """
    file = path / CONFIG
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"--input: {file} is missing. Name a directory with {CONFIG} and its .safetensors files."
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"--input: {file} cannot be read: {error}") from None
    kind = settings.get("model_kind") if isinstance(settings, dict) else None
    if kind not in (SET, CROSS_LAYER):
        raise InputError(f"--input: {file}: model_kind = {kind!r}; jaxsae reads {SET} and {CROSS_LAYER}.")
    for name in HOOKS:
        if not isinstance(settings.get(name), str):
            raise InputError(f"--input: {file}: {name} = {settings.get(name)!r}, expected the name of a hook.")
    return settings


def lists_files(path: Path) -> bool:
    """Whether the settings of a folder say where the files are."""
    try:
        return read(path).get(LISTED) is not None
    except InputError:
        return False


def hook_flags(settings: Mapping[str, Any]) -> str:
    """The hooks as arguments of the tool's loaders."""
    return ", ".join(f"{name}={settings[name]!r}" for name in HOOKS)


def numbered(path: Path, pattern: str) -> list[int]:
    """Layers of the files of a folder whose names match."""
    found = (re.fullmatch(pattern, p.name) for p in path.iterdir())
    return sorted(int(match.group(1)) for match in found if match)
