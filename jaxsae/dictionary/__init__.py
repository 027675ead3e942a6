"""What a sparse autoencoder is: parameters, methods, and the trained dictionary itself."""

from jaxsae.dictionary.architectures import ARCHITECTURES, make_method
from jaxsae.dictionary.base import Batch, Report
from jaxsae.dictionary.config import SWITCHES, MethodConfig
from jaxsae.dictionary.dictionary import Dictionary
from jaxsae.dictionary.method import Method
from jaxsae.dictionary.parameters import (
    SKIP,
    SPECS,
    Latents,
    Normalization,
    Params,
    fold,
    fold_row_lengths,
    is_by_latent,
    shifted,
    unfold,
)
from jaxsae.dictionary.switches import check_switches, idle_switches
from jaxsae.dictionary.widths import Widths

__all__ = [
    "ARCHITECTURES",
    "SKIP",
    "SPECS",
    "SWITCHES",
    "Batch",
    "Dictionary",
    "Latents",
    "Method",
    "MethodConfig",
    "Normalization",
    "Params",
    "Report",
    "Widths",
    "check_switches",
    "fold",
    "fold_row_lengths",
    "idle_switches",
    "is_by_latent",
    "make_method",
    "shifted",
    "unfold",
]
