"""The decoder rows of a meta-SAE's source, out of its store, and what the source's evaluation says of its latents."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.errors import InputError
from jaxsae.evaluate.context import Context
from jaxsae.training.run import find_dictionary


@dataclasses.dataclass(frozen=True)
class DecoderRows:
    """All rows of a store, in order, as float32 [B, d] batches.

    Attributes:
      context: whose store. mean: float64 [d], of the rows that have a direction.
      spectrum: float64 [d], descending eigenvalues of their scatter matrix about the mean.
    """

    context: Context
    mean: np.ndarray
    spectrum: np.ndarray

    @classmethod
    def of(cls, context: Context) -> "DecoderRows":
        """Reads them once for mean and spectrum.

        Raises:
          InputError: rows are missing, or not as wide as the dictionary takes them.
        """
        store, url = context.store, context.store.url
        if store.missing:
            raise InputError(f"--store={url}: some of the decoder's rows are missing. Train again, with --source_run.")
        d = len(context.mean)  # looks at the width, too
        count, total, scatter = 0, np.zeros(d), np.zeros((d, d))
        for _, x in cls(context, np.zeros(0), np.zeros(0)).batches():
            y = np.float64(x[x.any(1)])
            count, total, scatter = count + len(y), total + y.sum(0), scatter + y.T @ y
        if not count:
            raise InputError(f"--store={url}: no row has a direction: the decoder is 0. Name another --source_run.")
        mean = total / count
        scatter -= count * np.outer(mean, mean)  # rows are of length 1, so no digits are lost
        return cls(context, mean, np.maximum(np.linalg.eigvalsh(scatter)[::-1], 0))

    @property
    def count(self) -> int:
        """Rows there are."""
        return self.context.store.rows

    def batches(self) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, rows [at most batch_size, d])."""
        size = self.context.config.batch_size
        for first in range(0, self.count, size):
            rows = self.context.store.read(self.context.site, first, min(first + size, self.count))
            yield first, rows.astype(np.float32)

    def explained_by_components(self, k: int) -> float | None:
        """Variance that the first k principal components explain; None where the rows are all alike."""
        total = self.spectrum.sum()
        return float(self.spectrum[:k].sum() / total) if total > 0 else None


@dataclasses.dataclass(frozen=True)
class Fired:
    """Which latents [n] fired in an evaluation, and on how many rows that looked."""

    fired: np.ndarray
    rows: int


def fired_in_source(metadata: Mapping[str, Any], latents: int, step: int | None) -> Fired | None:
    """By the source's eval/frequencies.npz; None where there is none, or it is of other latents or of another step."""
    run = Path(metadata.get("source_run") or "")
    for directory in (run, run.parent.parent) if metadata.get("source_run") else ():  # a run, or one of its checkpoints
        file = directory / "eval" / "frequencies.npz"
        if file.is_file():
            with np.load(file) as found:
                count, of = found["count"], int(found["step"]) if "step" in found else step
                return Fired(count > 0, int(found["rows"])) if len(count) == latents and of == step else None
    return None


def newest_step(run: str | None) -> int | None:
    """The step of a run, or of the checkpoint that is named; None where there is none."""
    with suppress(InputError):
        return find_dictionary(run)[1] if run else None
    return None
