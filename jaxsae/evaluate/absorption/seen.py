"""Rows of a model at the sites that a dictionary reads and writes, and which parents hold on each."""

import dataclasses

import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.evaluate.absorption.parents import Part
from jaxsae.evaluate.context import Context, check_finite
from jaxsae.evaluate.encoding import encode_rows
from jaxsae.evaluate.subject import Batch, Subject


@dataclasses.dataclass(frozen=True)
class Seen:
    """N rows.

    Attributes:
      read: float32 [N, d_in]. written: float32 [N, d_out], the same of an autoencoder. cluster: int [N], the game or word.
      parents: bool [N, P].
    """

    read: np.ndarray
    written: np.ndarray
    cluster: np.ndarray
    parents: np.ndarray

    def encoded(self, dictionary: Dictionary, batch_size: int) -> Part:
        """The same with latents."""
        return Part(self.written, encode_rows(dictionary, self.read, batch_size), self.cluster, self.parents)

    def take(self, rows: np.ndarray) -> "Seen":
        """Some rows."""
        return Seen(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def read_both(context: Context, subject: Subject, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """float32 [kept, d_in] and [kept, d_out]: what the dictionary reads of a batch, and what it is to write.

    Raises:
      InputError: NaN or Inf there.
    """
    found = subject.read(batch, tuple(dict.fromkeys((*context.reads, *context.writes))))
    out = []
    for sites in (context.reads, context.writes):
        out.append(np.concatenate([found[site] for site in sites], 1))
        check_finite(out[-1], f"{subject.name}, site {'+'.join(sites)}", 0)
    return out[0], out[1]
