"""`jaxsae harvest`: source -> store, continuing where an earlier harvest stopped."""

import time
from collections.abc import Iterator
from typing import Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxsae.harvest.arrays import ArraysSource
from jaxsae.harvest.config import HarvestConfig
from jaxsae.harvest.othello import OthelloSource
from jaxsae.progress import Progress, prefetched, say
from jaxsae.store import Plan, Store, StoreWriter, open_store

Shard = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


class Source(Protocol):
    """Where rows come from: a plan, and its shards in any order."""

    plan: Plan

    def shard(self, shard: int) -> Shard:
        """Activations {site: [n, d_model]} and columns {name: int32 [n]} of one shard."""


def open_source(config: HarvestConfig) -> Source:
    """The source that `--source` names."""
    if config.source == "hf":
        from jaxsae.harvest.hf import open_hf

        return open_hf(config)
    if config.source == "nnx":
        from jaxsae.harvest.nnx import open_nnx

        return open_nnx(config)
    return {"othello": OthelloSource, "arrays": ArraysSource}[config.source](config)


def harvest(config: HarvestConfig) -> Store:
    """Writes the store that the configuration describes, or what it still lacks.

    Of several processes each writes every process_count-th missing shard, and all return when the
    store is complete.

    Raises:
      InputError: an unusable source, a store begun with other settings, NaN or Inf, a full disk.
    """
    source = open_source(config)
    writer = StoreWriter(config.store, source.plan)
    plan, done = source.plan, writer.completed_shards()
    todo = [shard for shard in range(plan.shards) if shard not in done]
    # The shards' owners must not depend on what the others have written since.
    mine = [shard for shard in todo if shard % jax.process_count() == jax.process_index()]
    if not todo and writer.is_finished():
        say(f"{config.store}: complete already, {plan.rows:,} rows at {', '.join(plan.sites)}; nothing to do.")
    else:
        if done:
            say(f"{config.store}: continuing, {len(done)} of {plan.shards} shards are there.")
        write_shards(config.store, source, writer, mine)
        writer.finish()
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("jaxsae harvest")
    return open_store(config.store)


def write_shards(url: str, source: Source, writer: StoreWriter, shards: list[int], quiet: bool = False) -> None:
    """Writes `shards`, each made in a thread while the one before is written, and says how fast that was."""
    ranges = [source.plan.shard_range(shard) for shard in shards]
    rows, written, began = sum(stop - start for start, stop in ranges), 0, time.monotonic()

    def made() -> Iterator[tuple[int, Shard]]:
        for shard in shards:
            yield shard, source.shard(shard)

    with Progress(rows, "harvest", "row", scale=True) as progress:
        for shard, (activations, columns) in prefetched(made(), depth=1):
            written += writer.write_shard(shard, activations, columns)
            speed = written / 1e6 / (time.monotonic() - began)
            progress.advance(len(columns["tokens"]), MB_per_s=f"{speed:.1f}")
    if quiet:
        return
    seconds = max(time.monotonic() - began, 1e-9)
    alone = "" if jax.process_count() == 1 else f" by the first of {jax.process_count()} processes"
    say(
        f"{url}: {rows:,} rows{alone}, {written / 1e6:,.1f} MB in {seconds:.1f} s "
        f"({rows / seconds:,.0f} rows/s, {written / 1e6 / seconds:,.1f} MB/s)"
    )
