"""Latents by matrix products: a chunk of rows and a tile of latents at a time.

The route for many latents of a row, or few latents in all, where lists of (row, latent) pairs cost more: `ranked.py`
keeps the largest pre-activations of a row among some latents (AuxK's dead ones, a small dictionary's all),
`elementwise.py` takes each latent by itself (ReLU, JumpReLU, Gated).
"""

from jaxsae.kernels.tiles.cut import Cut, batch_cut, row_cut
from jaxsae.kernels.tiles.elementwise import (
    Counts,
    Given,
    Rows,
    TileFunction,
    forward,
    latent_gradient,
    latents_of_a_tile,
)
from jaxsae.kernels.tiles.linear import decoded, pre_activations
from jaxsae.kernels.tiles.ranked import Ranked, ranked_pass
from jaxsae.kernels.tiles.tables import Tables, all_latents, gathered

__all__ = [
    "Counts",
    "Cut",
    "Given",
    "Ranked",
    "Rows",
    "Tables",
    "TileFunction",
    "all_latents",
    "batch_cut",
    "decoded",
    "forward",
    "gathered",
    "latent_gradient",
    "latents_of_a_tile",
    "pre_activations",
    "ranked_pass",
    "row_cut",
]
