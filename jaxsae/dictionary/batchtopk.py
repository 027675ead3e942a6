"""BatchTopK (Bussmann et al., 2412.06410).

    z = ReLU(BatchTopK(W_enc (x - b_dec) + b_enc)): the B k largest activations of the whole batch are kept

Everything else is TopK. Which batch a row came in must not matter later, so inference keeps what lies above
a threshold: the average over steps of the smallest positive activation that was kept.
"""

from typing import ClassVar

from jaxsae.dictionary.topk import TopK
from jaxsae.kernels import Request


class BatchTopK(TopK):
    """k latents of a row on average, over all rows of all devices."""

    name: ClassVar[str] = "batchtopk"

    def row_limit(self) -> int:
        """The most latents that one row keeps: what its list of candidates holds."""
        return min(self.config.width, self.config.row_k_max or 4 * self.config.k)

    def request(self, rows: int) -> Request:
        return Request(self.row_limit(), batch_total=rows * self.config.k, encoder=self.config.encoder)
