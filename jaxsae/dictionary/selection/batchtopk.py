"""BatchTopK (Bussmann et al., 2412.06410).

    z = ReLU(BatchTopK(pre)):    the B k largest activations of the whole batch, over all devices

Which batch a row came in must not matter later, so inference keeps what lies above a threshold: the average over steps
of the smallest positive activation that was kept.
"""

import dataclasses
from typing import ClassVar

from jaxsae.dictionary.selection.base import Ranking
from jaxsae.kernels import Request
from jaxsae.kernels.tiles import batch_cut


@dataclasses.dataclass(frozen=True)
class BatchTopK(Ranking):
    """k latents of a row on average, at most `row_limit` of one."""

    k: int
    row_limit: int
    encoder: str = "auto"
    whole_batch: ClassVar[bool] = True

    def request(self, rows: int) -> Request:
        return Request(self.row_limit, batch_total=rows * self.k, encoder=self.encoder)

    def cut(self, rows: int):
        return lambda pre, used: batch_cut(pre, used, rows * self.k, self.row_limit)
