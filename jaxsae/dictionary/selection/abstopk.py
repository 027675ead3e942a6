"""AbsTopK (2510.00404).

z = AbsTopK(pre):    the k pre-activations of each row that are largest in size, with their signs

One latent stands for a direction and its opposite, where ReLU needs two.
"""

import dataclasses
from typing import ClassVar

from jaxsae.dictionary.selection.topk import TopK
from jaxsae.kernels import Request


@dataclasses.dataclass(frozen=True)
class AbsTopK(TopK):
    """Exactly k latents of each row, of either sign."""

    signed: ClassVar[bool] = True

    def request(self, rows: int) -> Request:
        return dataclasses.replace(super().request(rows), signed=True)
