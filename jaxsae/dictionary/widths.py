"""How many numbers a dictionary reads and writes, and where they stand in the rows that it is trained on.

A row of a batch is those of several sites side by side, each once: those that are read, then what is written beside them.
An autoencoder writes what it reads; a transcoder reads one site and writes another; a cross-layer transcoder reads one of
each layer, of which each latent reads its own layer's.
"""

import dataclasses
from collections.abc import Sequence
from itertools import accumulate, pairwise

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Widths:
    """Of the sites of a row.

    Attributes:
      sites: numbers of each. reads: how many of them are read, from the first on.
      writes: which of them are written, by number; None: those that are read.
      layers: of a cross-layer transcoder, whose latent i reads site i mod layers; 1: each latent reads all that is read.
    """

    sites: tuple[int, ...]
    reads: int = 1
    writes: tuple[int, ...] | None = None
    layers: int = 1

    @classmethod
    def of(cls, d_model: int) -> "Widths":
        """An autoencoder's of one site."""
        return cls((d_model,))

    @property
    def numbers(self) -> int:
        """Of a row of a batch."""
        return sum(self.sites)

    @property
    def d_in(self) -> int:
        """Numbers that are read."""
        return sum(self.sites[: self.reads])

    @property
    def d_row(self) -> int:
        """Numbers that a latent reads."""
        return self.d_in // self.layers

    @property
    def targets(self) -> tuple[int, ...]:
        """The sites that are written, by number."""
        return tuple(range(self.reads)) if self.writes is None else self.writes

    @property
    def d_out(self) -> int:
        """Numbers that are written."""
        return sum(self.written_sites)

    @property
    def written_sites(self) -> tuple[int, ...]:
        """Numbers of each site that is written."""
        return tuple(self.sites[site] for site in self.targets)

    def read(self, rows: jax.Array) -> jax.Array:
        """[..., d_in] of [..., numbers]."""
        return rows if self.d_in == self.numbers else rows[..., : self.d_in]

    def written(self, rows: jax.Array) -> jax.Array:
        """[..., d_out] of [..., numbers]."""
        if self.writes is None:
            return self.read(rows)
        stretches = list(pairwise(accumulate(self.sites, initial=0)))
        parts: Sequence[jax.Array] = [rows[..., slice(*stretches[site])] for site in self.writes]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, -1)


def site_lengths(rows: jax.Array, sites: Sequence[int]) -> jax.Array:
    """float32 [..., sites]: the length of each site's part of rows [..., d_out]; the one length where `sites` is empty."""
    ends = np.cumsum(sites or (rows.shape[-1],))[:-1]
    return jnp.stack([jnp.linalg.norm(part, axis=-1) for part in jnp.split(rows, ends, -1)], -1)


def even_length(sites: Sequence[int]) -> float:
    """The sum over sites of the lengths of a row's parts, where the row has length 1 and its numbers are alike: the sites'
    number's root, where they are equally wide."""
    return float(sum((width / sum(sites)) ** 0.5 for width in sites))
