"""A small store, written in one call."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from jaxsae.store import Plan, StoreWriter

PLAN = Plan(
    rows=1000,
    sites={"resid_post.1": 8, "embed": 4},
    model="random",
    tokenizer="othello",
    context=59,
    settings={"source": "test", "seed": 0},
    shard_rows=128,
    chunk_rows=16,
)


def rows_of(plan: Plan, shard: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Activations and columns of a shard: random numbers, and the row number in every column."""
    start, stop = plan.shard_range(shard)
    rng = np.random.default_rng([7, shard])
    activations = {site: rng.normal(3, 2, (stop - start, d)).astype(np.float32) for site, d in plan.sites.items()}
    return activations, {name: np.arange(start, stop) for name in ("tokens", "sequence", "position")}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """write(shards=None, **changes of the plan) -> the path of a store; finished where shards is None."""

    def make(shards: Iterable[int] | None = None, **changes) -> Path:
        plan, path = dataclasses.replace(PLAN, **changes), tmp_path / "store"
        writer = StoreWriter(path, plan)
        for shard in range(plan.shards) if shards is None else shards:
            writer.write_shard(shard, *rows_of(plan, shard))
        if shards is None:
            assert writer.finish()
        return path

    return make
