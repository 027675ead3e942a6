"""Learning rates and moments that a method has where no flag says others."""

import dataclasses
from collections.abc import Callable

DECODER = 4.0  # rate of the decoder's rows over that of all else (BUILD_NOTES, The start and the rates)
TRANSCODER = 8.0  # of transcoders of one layer that rank, whose decoder starts at 0 (BUILD_NOTES, Transcoders)


@dataclasses.dataclass(frozen=True)
class Rates:
    """Of Adam.

    Attributes:
      peak: (width, d_model, steps) -> the rate between rise and fall. b1: decay of the first moment. decoder: rate of the
        decoder's rows over that of all else.
    """

    peak: Callable[[int, int, int], float]
    b1: float = 0.9
    decoder: float = DECODER


def swept(width: int, d_model: int, steps: int) -> float:
    """7.5e-3 for 2,048 latents of 64 numbers each and 1,000 steps, falling with the fourth roots of width and steps: what
    sweeps came to (BUILD_NOTES, The start and the rates); below 100 steps it rises no more. With the root of d_model,
    since Adam moves each number of a row by the rate, and the numbers of a unit row are that small."""
    return 7.5e-3 * (64 / d_model) ** 0.5 * (2048 / width * 1000 / max(steps, 100)) ** 0.25


SWEPT = Rates(swept)
