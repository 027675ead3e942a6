"""TopK (Gao et al., 2406.04093).

z = ReLU(TopK(pre)):    the k largest pre-activations of each row, over all shards; equals by lowest index
"""

import dataclasses
from typing import ClassVar

import jax

from jaxsae.dictionary.selection.ranking import Anneal, Ranking
from jaxsae.kernels import Request
from jaxsae.kernels.tiles import row_cut


@dataclasses.dataclass(frozen=True)
class TopK(Ranking):
    """Exactly k latents of each row, or as many as are positive; more in the first steps, where `anneal` says so."""

    k: int
    encoder: str = "auto"
    anneal: Anneal | None = None
    whole_batch: ClassVar[bool] = False

    def request(self, rows: int) -> Request:
        return Request(self.anneal.start if self.anneal else self.k, encoder=self.encoder)

    def cut(self, rows: int, fraction: jax.Array | float):
        return lambda pre, used: row_cut(pre, used, self.k_at(fraction))
