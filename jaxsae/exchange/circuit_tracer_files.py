"""Where the layers of a set of circuit-tracer's are: beside its `config.yaml`, or where `transcoders` there says.

An entry of that list is a file, or one of a hub, `hf://OWNER/NAME/FILE`; it may be of Gemma Scope's, which circuit-tracer
reads as well.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsae.dictionary import SKIP
from jaxsae.errors import InputError
from jaxsae.exchange import circuit_tracer_settings as settings_of
from jaxsae.exchange import gemma_scope, hub, weights
from jaxsae.exchange.circuit_tracer_settings import CONFIG, LISTED
from jaxsae.exchange.files import read_safetensors, safetensors_shapes
from jaxsae.exchange.weights import Form, Weights

THRESHOLD = "activation_function.threshold"
FORM: Form = {"W_enc": ("W_enc", "nd"), "b_enc": ("b_enc", "n"), "W_dec": ("W_dec", "no"), "b_dec": ("b_dec", "o")}
OPTIONAL: Form = {THRESHOLD: ("threshold", "n"), SKIP: (SKIP, "od")}


def layers_of(input: Path, settings: Mapping[str, Any]) -> dict[int, str]:
    """{layer: its file, or its URL}, in order.

    Raises:
      InputError: `transcoders` is no list of names.
    """
    listed = settings.get(LISTED)
    if listed is None:
        return {layer: str(input / f"layer_{layer}.safetensors") for layer in numbers_of(input)}
    if not isinstance(listed, list) or not all(isinstance(one, str) and one for one in listed):
        raise InputError(
            f"--input: {input / CONFIG}: {LISTED} = {str(listed)[:80]}, expected a list of files, one a layer."
        )
    return {layer: one if _is_url(one) else str(input / one) for layer, one in enumerate(listed)}


def file_of(source: str, input: Path) -> Path:
    """The file that an entry names, fetched where it is a hub's.

    Raises:
      InputError: there is none, or it cannot be fetched.
    """
    if not _is_url(source):
        return Path(source)
    name = hub.HubName.of(source)
    if name is None or not name.inside:
        raise InputError(
            f"--input: {input / CONFIG}: {source} is no file of a hub, such as hf://OWNER/NAME/FOLDER/FILE."
        )
    return hub.file_of(name)


def read_layer(path: Path) -> Weights:
    """The weights of one layer's file.

    Raises:
      InputError: tensors missing or misshapen, thresholds that are not finite or, but of Gemma Scope's, below 0.
    """
    if path.suffix == ".npz" or "w_enc" in safetensors_shapes(path):
        return gemma_scope.of_layer(gemma_scope.read_tensors(path), path)
    names = safetensors_shapes(path)
    form = FORM | {theirs: own for theirs, own in OPTIONAL.items() if theirs in names}
    return weights.of_tensors(read_safetensors(path), form, path)


def numbers_of(path: Path) -> list[int]:
    """The layers whose files stand in a folder."""
    return settings_of.numbered(path, r"layer_(\d+)\.safetensors")


def _is_url(name: str) -> bool:
    return name.startswith("hf://")
