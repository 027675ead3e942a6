"""Writes the activations of a model, or arrays that are there already, into a store."""

from jaxsae.harvest.config import HarvestConfig
from jaxsae.harvest.pipeline import harvest

__all__ = ["HarvestConfig", "harvest"]
