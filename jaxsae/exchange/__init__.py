"""Dictionaries in the files of SAELens, sparsify, dictionary_learning, circuit-tracer and Gemma Scope; out and in."""

from jaxsae.exchange.api import ExportConfig, export
from jaxsae.exchange.describe import describe_export
from jaxsae.exchange.importing import ImportConfig, import_

__all__ = ["ExportConfig", "ImportConfig", "describe_export", "export", "import_"]
