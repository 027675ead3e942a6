"""The formats that are read and written, and which of them a directory holds."""

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.exchange import circuit_tracer, dictionary_learning, gemma_scope, plain, saelens, sites, sparsify
from jaxsae.exchange.files import listing

FORMATS: dict[str, ModuleType] = {
    "saelens": saelens,
    "sparsify": sparsify,
    "dictionary_learning": dictionary_learning,
    "circuit_tracer": circuit_tracer,
    "gemma_scope": gemma_scope,
    "safetensors": plain,
}
FormatName = Literal["saelens", "sparsify", "dictionary_learning", "circuit_tracer", "gemma_scope", "safetensors"]
# Flag -> the formats whose files may leave it open, and why the others do not take it.
_TAKEN = {
    "k": (("saelens", "circuit_tracer", "gemma_scope"), "says k itself"),
    "layer": (("circuit_tracer",), "holds one dictionary"),
}
_FILES = {
    "saelens": f"{saelens.CONFIG} and {saelens.WEIGHTS}",
    "sparsify": f"{sparsify.CONFIG} and {sparsify.WEIGHTS}",
    "dictionary_learning": f"{dictionary_learning.CONFIG} and {dictionary_learning.WEIGHTS}",
    "gemma_scope": f"{gemma_scope.OLD} or {gemma_scope.WEIGHTS}",
    "safetensors": f"{plain.CONFIG} and {plain.WEIGHTS} or its index",
    "circuit_tracer": f"{circuit_tracer.CONFIG} and layer_I.safetensors or W_enc_I.safetensors",
}


def find(path: Path) -> str:
    """The format whose files are in a directory.

    Raises:
      InputError: those of none; says what was looked for and what is there.
    """
    for name, module in FORMATS.items():
        if module.is_here(path):
            return name
    if sparsify.hookpoints(path):
        return "sparsify"
    wanted = "; ".join(f"{name}: {files}" for name, files in _FILES.items())
    raise InputError(f"--input={path}: holds the files of no format that is known ({wanted}). {listing(path)}")


def read_any(path: Path, format: str | None = None, site: str = "", **known: Any) -> Dictionary:
    """Reads the dictionary in a directory, of whichever format.

    Args:
      format: which; None: as `find` says. site: what jaxsae calls the activations, READS->WRITES of a transcoder; "": as the
        files say. known: what the files may leave open, `k` and `layer`; None counts as not given.

    Raises:
      InputError: files of no format, missing, damaged or of a kind that is not read; a value for what the format says
        itself; a site of an autoencoder for a transcoder, or the reverse.
    """
    format = find(path) if format is None else format
    known = {name: value for name, value in known.items() if value is not None}
    check_taken(format, known)
    if format == "gemma_scope" and sites.ARROW in site:  # whose older files do not say it
        known["transcodes"] = True
    dictionary = FORMATS[format].read(path, **known)
    if not site:
        return dictionary
    config = dictionary.config
    return dataclasses.replace(
        dictionary, metadata=dictionary.metadata | sites.given(site, config.transcode, config.layers)
    )


def check_taken(format: str, known: dict[str, Any]) -> None:
    """Raises `InputError` where one of `known` is what files of the format say themselves."""
    for name, value in known.items():
        formats, why = _TAKEN[name]
        if format not in formats:
            raise InputError(f"--{name}={value}: a directory of --format={format} {why}. Leave the flag out.")
