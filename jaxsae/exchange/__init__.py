"""Dictionaries in the files of other tools: SAELens, sparsify, dictionary_learning, circuit-tracer; out and in."""

from jaxsae.exchange.api import ExportConfig, ImportConfig, export, import_
from jaxsae.exchange.describe import describe_export

__all__ = ["ExportConfig", "ImportConfig", "describe_export", "export", "import_"]
