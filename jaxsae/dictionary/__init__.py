"""What a sparse autoencoder is: parameters, methods, and the trained dictionary itself."""

from jaxsae.dictionary.base import Batch, Method, Report
from jaxsae.dictionary.config import MethodConfig
from jaxsae.dictionary.dictionary import Dictionary
from jaxsae.dictionary.methods import METHODS, make_method
from jaxsae.dictionary.parameters import (
    SPECS,
    Latents,
    Normalization,
    Params,
    fold,
    fold_row_lengths,
    is_by_latent,
    unfold,
)

__all__ = [
    "METHODS",
    "SPECS",
    "Batch",
    "Dictionary",
    "Latents",
    "Method",
    "MethodConfig",
    "Normalization",
    "Params",
    "Report",
    "fold",
    "fold_row_lengths",
    "is_by_latent",
    "make_method",
    "unfold",
]
