"""`jaxsae harvest`: source -> store, continuing where an earlier harvest stopped."""

import time
from collections.abc import Sequence

import jax

from jaxsae.errors import InputError, Preempted
from jaxsae.harvest.arrays import ArraysSource
from jaxsae.harvest.config import HarvestConfig
from jaxsae.harvest.othello import OthelloSource
from jaxsae.harvest.source import Source
from jaxsae.hosts import processes
from jaxsae.hosts.preemption import AGAIN, StopRequest
from jaxsae.paths import check_above, check_encoding
from jaxsae.progress import Progress, prefetched, say
from jaxsae.store import Store, StoreWriter, location, open_store
from jaxsae.store.follow import wait_until


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

    Of several processes each writes every process_count-th missing shard, whole, and all return when the
    store is complete. Where a source makes shards `together`, all of them run the model over all missing shards.

    Raises:
      InputError: an unusable source, a store begun with other settings, NaN or Inf, a full disk, more processes
        than shards.
      Preempted: SIGTERM came; the shards written so far are kept.
    """
    check_encoding("--store=", config.store)
    if (path := location.local_path(config.store)) is not None:
        check_above("--store=", path)
    with StopRequest() as stop:
        with processes.busy("opening the source"):  # a large model, or a long text to tokenise
            source = open_source(config)
        plan = source.plan
        _check_processes(source)
        processes.from_first("create the store", lambda: StoreWriter(config.store, plan) and None)
        writer = StoreWriter(config.store, plan)
        # Process 0 lists for all: shards have one owner each only where all go by the same list.
        done = set(processes.from_first("list the shards", lambda: sorted(writer.completed_shards())))
        todo = [shard for shard in range(plan.shards) if shard not in done]
        if not todo and writer.is_finished():
            say(f"{config.store}: complete already, {plan.rows:,} rows at {', '.join(plan.sites)}; nothing to do.")
        else:
            if done:
                say(f"{config.store}: continuing, {len(done)} of {plan.shards} shards are there.")
            write_shards(config.store, source, writer, todo, stop, config.keep_bytes)
        if "stopped" in processes.gather("harvested", "stopped" if stop.asked else "done"):
            there = len(writer.completed_shards())
            raise Preempted(f"stopped by SIGTERM; {there} of {plan.shards} shards are written. {AGAIN}")
        processes.from_first("complete the store", writer.finish)
        if not processes.is_alone():
            say(f"{config.store}: complete, {plan.rows:,} rows by {jax.process_count()} processes.")
    return open_store(config.store)


def _check_processes(source: Source) -> None:
    """Refuses more processes than shards, and processes that would write different stores."""
    plan = source.plan
    if plan.shards < jax.process_count() and not source.together:
        raise InputError(
            f"--num_processes={jax.process_count()}: this store has {plan.shards} shards, and a shard has one writer. "
            f"Start at most {plan.shards} processes, or take a smaller --shard_rows."
        )
    attributes = {f"the plan's {name}": value for name, value in plan.attributes().items()}
    processes.agree(attributes, "Give every process the same flags and the same files.")


def write_shards(
    url: str,
    source: Source,
    writer: StoreWriter,
    shards: Sequence[int],
    stop: StopRequest | None = None,
    keep_bytes: int | None = None,
    quiet: bool = False,
) -> None:
    """Writes this process's share of `shards`, each made in a thread while the one before is written, and says how fast
    that was."""
    mine = set(shards[jax.process_index() :: jax.process_count()])
    ranges = [source.plan.shard_range(shard) for shard in mine]
    rows, written, began = sum(end - start for start, end in ranges), 0, time.monotonic()
    asked = lambda: stop is not None and stop.asked
    # What is made together has to be ended by all before the same shard.
    goes_on = (lambda: "stop" not in processes.gather("shard", "stop" if asked() else "")) if source.together else None
    made = source.shards(shards, mine.__contains__, goes_on or (lambda: not asked()))
    with processes.busy("harvest"), Progress(rows, "harvest", "row", scale=True) as progress:
        for shard, (activations, columns) in prefetched(made, depth=1):
            if keep_bytes is None or _await_room(writer, keep_bytes, stop):
                written += writer.write_shard(shard, activations, columns)
            speed = written / 1e6 / (time.monotonic() - began)
            progress.advance(len(columns["tokens"]), MB_per_s=f"{speed:.1f}")
            if asked() and not source.together:
                return
    if quiet or asked():
        return
    seconds = max(time.monotonic() - began, 1e-9)
    alone = "" if jax.process_count() == 1 else f" by process {jax.process_index()} of {jax.process_count()}"
    say(
        f"{url}: {rows:,} rows{alone}, {written / 1e6:,.1f} MB in {seconds:.1f} s "
        f"({rows / seconds:,.0f} rows/s, {written / 1e6 / seconds:,.1f} MB/s)"
    )


def _await_room(writer: StoreWriter, keep_bytes: int, stop: StopRequest) -> bool:
    """Waits until another shard stays within `keep_bytes`, which two shards always do; False once asked to stop."""
    limit = max(keep_bytes, 2 * jax.process_count() * writer.shard_bytes)
    room = lambda: writer.bytes_there() + jax.process_count() * writer.shard_bytes <= limit
    what = f"{writer.url}: holds --keep_bytes={keep_bytes}; waiting for `jaxsae train --follow --keep_bytes` to remove some"
    return wait_until(room, lambda: what, lambda: stop.asked)
