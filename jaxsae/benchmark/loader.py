"""`jaxsae benchmark --what=loader`: shuffled batches against raw reads of the same chunks, in turn, from one disk."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.benchmark.clock import Timing
from jaxsae.benchmark.config import BenchmarkConfig
from jaxsae.config import check
from jaxsae.parallel import batch_sharding, make_mesh
from jaxsae.progress import say
from jaxsae.store import Batches, Plan, StoreWriter, iterate, open_store
from jaxsae.store.schema import SHARD_ROWS, numpy_dtype, site_path

SITE = "random"
PLACES = {"disk": "from the disk", "page_cache": "from the page cache"}
CHUNK_SPACE = 8 * 2**20  # what a raw read takes at a time


def benchmark_loader(config: BenchmarkConfig) -> dict[str, Any]:
    """Times an epoch of batches, as training reads them, and raw reads of the same files; prints and returns figures.

    The store is random rows of `--loader_bytes` in bfloat16, made for the purpose and removed again. A raw read is one
    thread that reads the files from end to end into one piece of memory: no checksums, nothing kept. Both are
    timed in turn, with the files on the disk alone (the page cache emptied of them before each pass) and with the files in
    the page cache, where the disk costs nothing and the floor is a copy. A first round is not counted.

    Raises:
      InputError: `--loader_bytes` is less than a batch.
    """
    directory = Path(tempfile.mkdtemp(prefix="jaxsae-loader-", dir=config.loader_dir or None))
    try:
        url, rows = _write(directory / "store", config)
        files = sorted((directory / "store" / site_path(SITE)).glob("c/*/0"))
        size = sum(file.stat().st_size for file in files)
        passes = {"raw": lambda: _raw(files), "loader": lambda: _batches(url, config)}
        taken = {(place, name): [] for place in PLACES for name in passes}
        dropped = True
        for number in range(config.loader_repeats + 1):
            for place, name in taken:
                if place == "disk":
                    dropped &= _drop_from_cache(files)
                timing = _timed(passes[name])
                if number:
                    taken[place, name].append(timing)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    figures = {
        "d_model": config.d_model,
        "batch_size": config.rows_of_a_batch,
        "rows": rows,
        "bytes": size,
        "dtype": "bfloat16",
        "repeats": config.loader_repeats,
        "cache_dropped": dropped,
    }
    figures |= {place: _figures(taken[place, "raw"], taken[place, "loader"], size) for place in PLACES}
    figures["loader_over_raw"] = figures["disk"]["loader_over_raw"]
    _show(figures)
    return figures


def _timed(work: Callable[[], None]) -> Timing:
    began, cpu_began = time.perf_counter(), time.process_time()
    work()
    return Timing(time.perf_counter() - began, time.process_time() - cpu_began)


def _figures(raw: list[Timing], loader: list[Timing], size: int) -> dict[str, Any]:
    """Medians; the ratio is that of neighbours in time, since a disk's speed drifts."""
    middle = lambda values: float(np.median(list(values)))
    ratios = [r.seconds / b.seconds for r, b in zip(raw, loader, strict=True)]
    return {
        "raw_bytes_per_second": size / middle(t.seconds for t in raw),
        "loader_bytes_per_second": size / middle(t.seconds for t in loader),
        "raw_cpu_seconds": middle(t.cpu_seconds for t in raw),
        "loader_cpu_seconds": middle(t.cpu_seconds for t in loader),
        "loader_over_raw": middle(ratios),
        "ratios": ratios,
    }


def _show(figures: dict[str, Any]) -> None:
    say(f"d_model {figures['d_model']}, bfloat16, {figures['bytes'] / 1e6:,.0f} MB, medians of {figures['repeats']}")
    for place, name in PLACES.items():
        of = figures[place]
        note = (
            "" if place != "disk" or figures["cache_dropped"] else " (which could not be emptied: no reads of the disk)"
        )
        say(
            f"{name}: raw {of['raw_bytes_per_second'] / 1e6:,.0f} MB/s ({of['raw_cpu_seconds']:.2f} CPU s), "
            f"shuffled batches on the device {of['loader_bytes_per_second'] / 1e6:,.0f} MB/s "
            f"({of['loader_cpu_seconds']:.2f} CPU s), ratio {of['loader_over_raw']:.2f} "
            f"(from {min(of['ratios']):.2f} to {max(of['ratios']):.2f}){note}"
        )


def _write(path: Path, config: BenchmarkConfig) -> tuple[str, int]:
    rng = np.random.default_rng(config.seed)
    row_bytes = config.d_model * 2
    shard_rows = min(SHARD_ROWS, max(1024, config.loader_bytes // row_bytes // 4 // 1024 * 1024))
    rows = config.loader_bytes // row_bytes // shard_rows * shard_rows
    least = max(config.rows_of_a_batch, 1024) * row_bytes
    check(rows >= config.rows_of_a_batch, "loader_bytes", config.loader_bytes, f"give at least {4 * least}")
    writer = StoreWriter(str(path), Plan(rows, {SITE: config.d_model}, dtype="bfloat16", shard_rows=shard_rows))
    block = rng.standard_normal((1024, config.d_model), np.float32).astype(numpy_dtype("bfloat16"))
    for shard in range(rows // shard_rows):
        x = np.tile(block, (shard_rows // 1024, 1))
        columns = {name: np.zeros(shard_rows, np.int32) for name in ("tokens", "sequence", "position")}
        writer.write_shard(shard, {SITE: x}, columns)
    writer.finish()
    return str(path), rows


def _batches(url: str, config: BenchmarkConfig) -> None:
    """One epoch, by the iterator that training uses, up to where a step would take its batch."""
    store = open_store(url)
    batches = Batches(store, SITE, config.rows_of_a_batch, config.seed, dtype=store.dtype(SITE))
    steps = batches.steps_per_epoch
    for step, batch in iterate(batches, sharding=batch_sharding(make_mesh(config.mesh))):
        batch.block_until_ready()
        if step + 1 == steps:
            return


def _raw(files: list[Path]) -> None:
    space = bytearray(CHUNK_SPACE)
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(space):
                pass


def _drop_from_cache(files: list[Path]) -> bool:
    """Makes the next read come from the disk; False where the system has no such call."""
    if not hasattr(os, "posix_fadvise"):
        return False
    os.sync()
    for file in files:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True
