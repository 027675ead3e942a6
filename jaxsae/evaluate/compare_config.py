"""Flags of the suite `compare`."""

import dataclasses

from jaxsae.config import check, check_positive, option


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """When two latents are one, and on how many rows their firing is held side by side."""

    compare_threshold: float = option(
        0.7, "compare: cosine of decoder rows from which two latents count as one, shared by both dictionaries"
    )
    compare_parts: int = option(
        3, "compare: so many latents of the other dictionary, at most, may together sum to one that is not shared"
    )
    compare_rows: int = option(
        32_768, "compare: rows of the store, at most, on which latents fire side by side; 0: decoders alone"
    )

    def __post_init__(self):
        check_positive(self, "compare_parts")
        within = 0 < self.compare_threshold < 1
        check(within, "compare_threshold", self.compare_threshold, "must be between 0 and 1")
        check(self.compare_rows >= 0, "compare_rows", self.compare_rows, "must be 0 or more")
