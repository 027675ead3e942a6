"""True features, and rows that are sums of them: Zipf frequencies, correlated groups, a two-level hierarchy.

With f_i the frequency of feature i, the most frequent first:

    f_i = min(c (i + 1)^-zipf, 1 / BOOST), c such that the sum of all is `active`
    a child fires with probability f_child / f_parent where its parent fires, and nowhere else
    any other fires with BOOST f_i where its group is on, which is so on a share ON of the rows, and less often elsewhere

so that f_i is each feature's frequency exactly, and two of a group fire together ON BOOST^2 + (1 - ON) off^2 = 2.8 times as
often as independent ones, with off = (1 - ON BOOST) / (1 - ON). A row is sum_i a_i W_i, a_i = |N(1, 0.25)| where i fires.
"""

import dataclasses

import numpy as np
from scipy.sparse import csr_array

from jaxsae.benchmark.known.config import BOOST, ON, KnownConfig

BLOCK = 1024  # rows that are made at once
SPREAD = 0.25  # of the amplitudes about 1
OFF = (1 - ON * BOOST) / (1 - ON)
TRAIN, HELD_OUT, DIRECTIONS, RANDOM = range(4)  # streams of random numbers under a seed


def generator(seed: int, stream: int, block: int = 0) -> np.random.Generator:
    """Random numbers that depend on seed, stream and block alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, block])))


def unit_rows(rng: np.random.Generator, rows: int, d_model: int) -> np.ndarray:
    """float32 [rows, d_model]: random directions of length 1."""
    x = rng.standard_normal((rows, d_model), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Features:
    """The true features of a seed.

    Attributes:
      directions: float32 [n, d], of length 1. frequency: float64 [n], shares of the rows, falling.
      parent: int [n], of a child the feature without which it does not fire; -1: none.
      group: int [n], features of one group fire together; -1: a child, which goes with its parent.
    """

    seed: int
    directions: np.ndarray
    frequency: np.ndarray
    parent: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, config: KnownConfig, d_model: int, seed: int) -> "Features":
        """Those that the flags and the seed say."""
        rng, n = generator(seed, DIRECTIONS), config.features
        directions = unit_rows(rng, n, d_model)
        frequency = frequencies(n, config.active, config.zipf)
        first = max(2, n // 8)  # the most frequent ones are nobody's children
        count = min(round(config.children * n), n - first)
        children = np.sort(rng.choice(np.arange(first, n), count, replace=False))
        roots = np.setdiff1d(np.arange(n), children)
        fitting = np.searchsorted(roots, children / 2)  # those of half the rank and less
        parent, group = np.full(n, -1), np.full(n, -1)
        parent[children] = roots[(rng.random(count) * fitting).astype(int)]
        group[rng.permutation(roots)] = np.arange(len(roots)) // config.group_size
        return cls(seed, directions, frequency, parent, group)

    @property
    def children(self) -> np.ndarray:
        """int: the features that have a parent."""
        return np.flatnonzero(self.parent >= 0)

    def codes(self, block: int, stream: int = TRAIN) -> csr_array:
        """float32 [BLOCK, n], sparse: amplitudes of the features on the rows of a block, 0 where one does not fire."""
        rng = generator(self.seed, stream, block)
        children = self.children
        parents = self.parent[children]
        high, low = BOOST * self.frequency, OFF * self.frequency
        grouped = np.bincount(self.group[self.group >= 0])[self.group] > 1  # alone in its group it has none
        high, low = (np.where(grouped, f, self.frequency) for f in (high, low))
        high[children] = low[children] = self.frequency[children] / self.frequency[parents]
        on = rng.random((BLOCK, self.group.max() + 1), np.float32) < ON
        chance = np.where(on[:, self.group], high.astype(np.float32), low.astype(np.float32))
        fires = rng.random(chance.shape, np.float32) < chance
        fires[:, children] &= fires[:, parents]
        starts = np.concatenate([[0], np.cumsum(fires.sum(1))])
        indices = np.nonzero(fires)[1]
        amplitudes = np.abs(1 + SPREAD * rng.standard_normal(len(indices), np.float32))
        return csr_array((amplitudes, indices, starts), shape=fires.shape)

    def rows(self, codes: csr_array) -> np.ndarray:
        """float32 [B, d]: the sums of the features by their codes [B, n]."""
        return np.asarray(codes @ self.directions, np.float32)


def frequencies(n: int, active: float, zipf: float) -> np.ndarray:
    """float64 [n], falling by Zipf's law, at most 1 / BOOST, their sum `active`, which is below n / BOOST."""
    law = np.arange(1, n + 1, dtype=np.float64) ** -zipf
    low, high = 0.0, 1 / (BOOST * law[-1])
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(middle * law, 1 / BOOST).sum() < active else (low, middle)
    return np.minimum(high * law, 1 / BOOST)
