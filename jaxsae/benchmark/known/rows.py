"""Rows of known features: a store of them for training, and others in memory that are judged."""

import dataclasses
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array, vstack

from jaxsae.benchmark.known.features import BLOCK, HELD_OUT, Features
from jaxsae.progress import Progress
from jaxsae.store import Plan, StoreWriter
from jaxsae.store.schema import COLUMNS, SHARD_ROWS

SITE = "known"


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Rows that are judged: x float32 [B, d], and the amplitudes of the true features, sparse [B, n]."""

    x: np.ndarray
    codes: csr_array

    @classmethod
    def of(cls, features: Features, rows: int) -> "HeldOut":
        """So many rows, none of which is trained on."""
        blocks = [features.codes(block, HELD_OUT) for block in range(-(-rows // BLOCK))]
        codes = csr_array(vstack(blocks, format="csr")[:rows])
        return cls(features.rows(codes), codes)


def write_store(path: Path, features: Features, rows: int) -> str:
    """Writes `rows` training rows, float32; returns the store's URL."""
    d_model = features.directions.shape[1]
    settings = {"source": "known_dictionary", "seed": features.seed, "features": len(features.directions)}
    plan = Plan(rows, {SITE: d_model}, settings=settings)
    writer = StoreWriter(path, plan)
    with Progress(rows, f"rows of seed {features.seed}", "row", scale=True) as bar:
        for shard in range(plan.shards):
            first, last = plan.shard_range(shard)
            x = np.empty((last - first, d_model), np.float32)
            for start in range(0, last - first, BLOCK):
                made = features.rows(features.codes((first + start) // BLOCK))[: last - first - start]
                x[start : start + len(made)] = made
                bar.advance(len(made))
            writer.write_shard(shard, {SITE: x}, {name: np.zeros(len(x), np.int32) for name in COLUMNS})
    writer.finish()
    return str(path)


assert SHARD_ROWS % BLOCK == 0
