"""Features that are planted in rows: random directions, each on a known share of them.

A feature is v, a random unit direction, of nothing else than itself; where it stands, a v is added to the row, a = |N(1,
0.25)| A, A the length that a planted feature has on average. Where it stands hangs on the seed and the row alone, not on
which rows are made beside it.
"""

import dataclasses
import math

import numpy as np
from scipy.sparse import csr_array

from jaxsae.evaluate.rare_config import FEWEST, RareConfig

BLOCK = 1024  # rows whose features are drawn at once
SPREAD = 0.25  # of the lengths about their mean
DIRECTIONS, ROWS, JUDGED, BESIDES, NOT_PLANTED = range(5)  # streams of random numbers under a seed
_KEY = 0x5241


def generator(seed: int, stream: int, block: int = 0) -> np.random.Generator:
    """Random numbers that depend on seed, stream and block alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([_KEY, seed, stream, block])))


def directions(seed: int, stream: int, count: int, d_model: int) -> np.ndarray:
    """float32 [count, d_model]: random directions of length 1."""
    x = generator(seed, stream).standard_normal((count, d_model))
    return np.float32(x / np.linalg.norm(x, axis=1, keepdims=True))


def grid(config: RareConfig, rows: int) -> tuple[np.ndarray, float]:
    """Frequencies float64 [levels], falling, each of which stands on FEWEST of `rows` or more; and the smallest that was
    asked for."""
    levels = math.floor(config.rare_per_decade * math.log10(config.rare_high / config.rare_low) + 1e-9) + 1
    wanted = config.rare_high * 10 ** (-np.arange(levels) / config.rare_per_decade)
    return wanted[wanted * rows >= FEWEST - 1e-9], float(wanted[-1])


@dataclasses.dataclass(frozen=True)
class Planted:
    """The features of a seed.

    Attributes:
      directions: float32 [F, d], of length 1. frequency: float64 [F], shares of the rows. length: A.
    """

    seed: int
    directions: np.ndarray
    frequency: np.ndarray
    length: float

    @classmethod
    def of(cls, frequencies: np.ndarray, each: int, d_model: int, length: float, seed: int) -> "Planted":
        """`each` features of each frequency."""
        frequency = np.repeat(frequencies, each)
        return cls(seed, directions(seed, DIRECTIONS, len(frequency), d_model), frequency, length)

    def codes(self, first: int, last: int, stream: int = ROWS) -> csr_array:
        """float32 [last - first, F], sparse: the lengths of the features on rows first:last of a stream, where they stand."""
        blocks = range(first // BLOCK, -(-last // BLOCK))
        parts = [self._block(stream, block)[max(0, first - b) : last - b] for block in blocks for b in [block * BLOCK]]
        return csr_array(
            np.concatenate([part.astype(np.float32) for part in parts]) if parts else (0, len(self.frequency))
        )

    def _block(self, stream: int, block: int) -> np.ndarray:
        """float64 [BLOCK, F]."""
        rng = generator(self.seed, stream, block)
        stands = rng.random((BLOCK, len(self.frequency))) < self.frequency
        return np.where(stands, self.lengths(rng, stands.shape), 0)

    def lengths(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """float64: |N(1, 0.25)| A."""
        return self.length * np.abs(1 + SPREAD * rng.standard_normal(shape))

    def plant(self, x_BxD: np.ndarray, codes: csr_array) -> np.ndarray:
        """float32 [B, d]: rows with what is planted on them."""
        return np.float32(x_BxD) + np.asarray(codes @ self.directions, np.float32)
