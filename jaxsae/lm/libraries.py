"""torch, transformers and datasets, imported where they are used: those who only train need none of them."""

import importlib
import logging
import os
import socket
import sys
from types import ModuleType
from urllib.parse import urlparse

from jaxsae.errors import InputError
from jaxsae.progress import say

HUB_SECONDS = 5.0  # what a hub gets to answer in; its own client tries for more than 20 s
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def import_torch() -> ModuleType:
    """torch, or an `InputError` that says how to install it."""
    return _import("torch")


def import_transformers() -> ModuleType:
    """transformers, quiet, or an `InputError` that says how to install it; without torch it reads tokenizers and settings."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # that torch is missing is said where it is needed
    _hide_broken_torchvision()
    transformers = _import("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def has_torch() -> bool:
    """Whether torch is installed."""
    return "torch" in sys.modules or importlib.util.find_spec("torch") is not None


def import_datasets() -> ModuleType:
    """datasets, quiet, or an `InputError` that says how to install it."""
    datasets = _import("datasets")
    datasets.utils.logging.set_verbosity(logging.CRITICAL)  # it logs what it then raises
    datasets.disable_progress_bars()
    return datasets


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{name} is needed for language models: pip install 'jaxsae[hf]' ({error})") from None


def _hide_broken_torchvision() -> None:
    """A torchvision built for another torch breaks imports of packages that only look whether it is there."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except Exception:
        sys.modules["torchvision"] = None


def reach_hub() -> str:
    """Says whether the Hugging Face hub answers; where it does not, this process uses its cache alone.

    Returns:
      What was tried, for an error message; empty where the hub answers.
    """
    constants = _import("huggingface_hub").constants
    if constants.HF_HUB_OFFLINE:
        return "the hub was not asked, since HF_HUB_OFFLINE is set"
    if any(os.environ.get(name) for name in _PROXIES):
        return ""  # only the proxy knows; the client's own timeouts hold
    place = urlparse(constants.ENDPOINT)
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        socket.create_connection((place.hostname, port), timeout=HUB_SECONDS).close()
        return ""
    except OSError as error:
        _go_offline(constants)
        say(f"{constants.ENDPOINT} cannot be reached ({error}); looking in the local cache only.")
        return f"{constants.ENDPOINT} cannot be reached ({error})"


def _go_offline(constants: ModuleType) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"  # for what is imported later
    constants.HF_HUB_OFFLINE = True
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_HUB_OFFLINE = True


def looks_like_a_path(name: str) -> bool:
    """Whether a name that is no directory here cannot be a hub id either."""
    return name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name
