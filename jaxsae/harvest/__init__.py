"""Writes the activations of a model, or arrays that are there already, into a store."""

import importlib
from typing import TYPE_CHECKING

from jaxsae.harvest.config import HarvestConfig
from jaxsae.harvest.pipeline import harvest

if TYPE_CHECKING:
    from jaxsae.harvest.nnx_model import NNXModel

__all__ = ["HarvestConfig", "NNXModel", "harvest"]


def __getattr__(name: str):
    if name == "NNXModel":
        return importlib.import_module("jaxsae.harvest.nnx_model").NNXModel
    raise AttributeError(f"module 'jaxsae.harvest' has no attribute {name!r}")
