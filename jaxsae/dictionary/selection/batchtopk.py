"""BatchTopK (Bussmann et al., 2412.06410).

    z = ReLU(BatchTopK(pre)):    the B k largest activations of the whole batch, over all devices

Which batch a row came in must not matter later, so inference keeps what lies above a threshold: the average over steps
of the smallest positive activation that was kept.
"""

import dataclasses
from typing import ClassVar

import jax

from jaxsae.dictionary.selection.ranking import Anneal, Ranking
from jaxsae.kernels import Request
from jaxsae.kernels.tiles import batch_cut


@dataclasses.dataclass(frozen=True)
class BatchTopK(Ranking):
    """k latents of a row on average, at most `row_limit` of one; more in the first steps, where `anneal` says so."""

    k: int
    row_limit: int
    encoder: str = "auto"
    anneal: Anneal | None = None
    whole_batch: ClassVar[bool] = True

    def request(self, rows: int) -> Request:
        most = self.anneal.start if self.anneal else self.k
        limit = max(self.row_limit, most)
        return Request(limit, batch_total=rows * most, encoder=self.encoder)

    def cut(self, rows: int, fraction: jax.Array | float):
        limit = self.request(rows).k
        return lambda pre, used: batch_cut(pre, used, rows * self.k_at(fraction), limit)
