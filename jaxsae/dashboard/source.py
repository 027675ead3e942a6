"""What a dictionary's latents are searched on: rows, and the tokens around them."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxsae.dashboard.places import Places

TEXT, OTHELLO, ROWS = "text", "othello", "rows"


@dataclasses.dataclass(frozen=True)
class Source:
    """Rows to encode.

    Attributes:
      kind: TEXT, OTHELLO or ROWS, which have no tokens. places: where they are from. tokenizer: of the tokens.
      batches: () -> what the dictionary reads of them, in order, float32 [B, d_in]. about: what a record says of them.
    """

    kind: str
    places: Places
    tokenizer: str
    batches: Callable[[], Iterator[np.ndarray]]
    about: dict[str, Any]
