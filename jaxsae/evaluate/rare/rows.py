"""Which rows of the store are planted and trained on, and which are judged; the planted ones as a store of their own."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from jaxsae.errors import InputError
from jaxsae.evaluate.context import Context, check_finite
from jaxsae.evaluate.rare.features import BESIDES, BLOCK, JUDGED, ROWS, Planted, generator
from jaxsae.evaluate.rare_config import FEWEST
from jaxsae.progress import Progress, say
from jaxsae.store import Plan, StoreWriter, select
from jaxsae.store.schema import COLUMNS, SHARD_ROWS

SITE = "planted"
FEWEST_ROWS = 1024  # that can be trained on
_SPARE = 1.2  # of the disk that is free: beside the store lie checkpoints


@dataclasses.dataclass(frozen=True)
class Split:
    """Rows of the store, as ranges: those that are planted and trained on, its first, and those that are judged, its last."""

    trained: list[tuple[int, int]]
    judged: list[tuple[int, int]]

    @classmethod
    def of(cls, context: Context) -> "Split":
        """As many as the flags ask for, and at least an eighth of the store to judge on, where it has not enough of both.

        Raises:
          InputError: too few rows to train on.
        """
        flags, store = context.config.rare, context.store
        rows = store.rows
        judged = min(flags.rare_judged, max(rows - flags.rare_rows, rows // 8))
        trained = min(flags.rare_rows, rows - judged)
        least = max(FEWEST_ROWS, int(np.ceil(FEWEST / flags.rare_high)))
        if trained < least:
            raise InputError(
                f"--rare_rows={flags.rare_rows}: {store.url} has {rows:,} rows, which leave {trained:,} to train on, and "
                f"features on a share of {flags.rare_high:g} of them need {least:,}. Give more, or another --store."
            )
        return cls(select(store.available, 0, trained), select(store.available, rows - judged, rows))

    @property
    def count(self) -> int:
        """Rows that are trained on."""
        return _count(self.trained)

    @property
    def judged_count(self) -> int:
        """Rows that are judged."""
        return _count(self.judged)


def _count(ranges: list[tuple[int, int]]) -> int:
    return sum(stop - start for start, stop in ranges)


def bytes_of(context: Context, rows: int) -> int:
    """Of a store of so many planted rows."""
    return rows * (context.store.d_model(context.site) * context.store.dtype(context.site).itemsize + 4 * len(COLUMNS))


def check_disk(context: Context, split: Split) -> None:
    """Says how large the planted rows are, and raises `InputError` where the disk has no room for them."""
    needed, place = bytes_of(context, split.count), Path(context.config.run)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    size = f"{needed / 1e6:,.0f} MB"
    if needed * _SPARE > free:
        raise InputError(
            f"--rare_rows={context.config.rare.rare_rows}: {split.count:,} planted rows take {size}, and the disk of "
            f"{context.config.run} has {free / 1e6:,.0f} MB left. Free some space, or plant fewer rows."
        )
    say(f"rare: {split.count:,} planted rows take {size} in {context.config.run}/eval/rare, one seed's at a time")


def read(context: Context, ranges: list[tuple[int, int]], first: int, last: int) -> np.ndarray:
    """float32 [last - first, d]: rows of ranges, counted end to end.

    Raises:
      InputError: NaN or Inf there.
    """
    parts = []
    for start, stop in select(ranges, first, last):
        parts.append(context.store.read(context.site, start, stop).astype(np.float32))
        check_finite(parts[-1], f"{context.store.url}, site {context.site}", start)
    return np.concatenate(parts)


def write_planted(path: Path, context: Context, planted: Planted, split: Split, settings: dict) -> np.ndarray:
    """Writes the planted rows, or what is missing of them, in the store's own type.

    Returns:
      int64 [F], on how many of them each feature stands.
    """
    d_model, rows = context.store.d_model(context.site), split.count
    plan = Plan(rows, {SITE: d_model}, context.store.dtype(context.site).name, settings=settings)
    writer = StoreWriter(path, plan)
    done, counts = writer.completed_shards(), np.zeros(len(planted.frequency), np.int64)
    with Progress(rows, "rare: planting", "row", scale=True) as bar:
        for shard in range(plan.shards):
            first, last = plan.shard_range(shard)
            codes = planted.codes(first, last, ROWS)
            counts += np.bincount(codes.indices, minlength=len(counts))
            if shard not in done:
                x = planted.plant(read(context, split.trained, first, last), codes)
                columns = {name: np.zeros(last - first, np.int32) for name in COLUMNS}
                writer.write_shard(shard, {SITE: x}, columns)
            bar.advance(last - first)
    writer.finish()
    return counts


class Judged:
    """Rows that nothing here is trained on: as they are, with features planted at their own frequencies, and others on which
    one feature stands besides, EACH of every feature."""

    EACH, AMONG = 64, 4096

    def __init__(self, context: Context, planted: Planted, split: Split):
        self._context, self.planted, self._split = context, planted, split
        self.rows = split.judged_count

    def natural(self, size: int) -> Iterator[tuple[np.ndarray, csr_array]]:
        """(rows float32 [at most size, d], lengths of the features [the same, F]), in order."""
        for first in range(0, self.rows, size):
            last = min(first + size, self.rows)
            codes = self.planted.codes(first, last, JUDGED)
            yield self.planted.plant(read(self._context, self._split.judged, first, last), codes), codes

    def besides(self) -> np.ndarray:
        """float32 [F, EACH or fewer, d]: rows of the first AMONG, on which that feature stands."""
        x = read(self._context, self._split.judged, 0, min(self.AMONG, self.rows))
        rng = generator(self.planted.seed, BESIDES)
        features = len(self.planted.frequency)
        chosen = np.stack([rng.choice(len(x), min(self.EACH, len(x)), replace=False) for _ in range(features)])
        lengths = np.float32(self.planted.lengths(rng, chosen.shape))
        return x[chosen] + lengths[..., None] * self.planted.directions[:, None]


assert SHARD_ROWS % BLOCK == 0
