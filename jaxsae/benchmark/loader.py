"""`jaxsae benchmark --what=loader`: shuffled batches against raw reads of the same chunks, in turn, from one disk."""

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae.benchmark.config import BenchmarkConfig
from jaxsae.progress import say
from jaxsae.store import Batches, Plan, StoreWriter, iterate, open_store
from jaxsae.store.schema import SHARD_ROWS, numpy_dtype, site_path

SITE = "random"
CHUNK_SPACE = 8 * 2**20  # what a raw read takes at a time


def benchmark_loader(config: BenchmarkConfig) -> dict[str, Any]:
    """Times an epoch of batches, as training reads them, and raw reads of the same files; prints and returns figures.

    The store is random rows of `--loader_bytes` in bfloat16, made for the purpose and removed again. The page cache
    is emptied of its files before each pass where the system allows it, so that both read the disk.
    """
    directory = Path(tempfile.mkdtemp(prefix="jaxsae-loader-", dir=config.loader_dir or None))
    try:
        url, rows = _write(directory / "store", config)
        files = sorted((directory / "store" / site_path(SITE)).glob("c/*/0"))
        size = sum(file.stat().st_size for file in files)
        taken: dict[str, list[float]] = {"loader": [], "raw": []}
        dropped = True
        for _ in range(config.loader_repeats):
            for name, read in (("raw", lambda: _raw(files)), ("loader", lambda: _batches(url, config))):
                dropped &= _drop_from_cache(files)
                began = time.perf_counter()
                read()
                taken[name].append(time.perf_counter() - began)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    seconds = {name: float(np.median(times)) for name, times in taken.items()}
    figures = {
        "d_model": config.d_model,
        "batch_size": config.batch_size,
        "rows": rows,
        "bytes": size,
        "dtype": "bfloat16",
        "repeats": config.loader_repeats,
        "cache_dropped": dropped,
        "raw_bytes_per_second": size / seconds["raw"],
        "loader_bytes_per_second": size / seconds["loader"],
        "loader_over_raw": seconds["raw"] / seconds["loader"],
    }
    say(
        f"d_model {config.d_model}, bfloat16, {size / 1e6:,.0f} MB: raw {figures['raw_bytes_per_second'] / 1e6:,.0f} MB/s, "
        f"shuffled batches {figures['loader_bytes_per_second'] / 1e6:,.0f} MB/s "
        f"({rows / seconds['loader']:,.0f} rows/s), ratio {figures['loader_over_raw']:.2f}"
        + ("" if dropped else " (from the page cache: it could not be emptied)")
    )
    return figures


def _write(path: Path, config: BenchmarkConfig) -> tuple[str, int]:
    rng = np.random.default_rng(config.seed)
    row_bytes = config.d_model * 2
    shard_rows = min(SHARD_ROWS, max(1024, config.loader_bytes // row_bytes // 4 // 1024 * 1024))
    rows = max(config.batch_size, config.loader_bytes // row_bytes) // shard_rows * shard_rows
    writer = StoreWriter(str(path), Plan(rows, {SITE: config.d_model}, dtype="bfloat16", shard_rows=shard_rows))
    block = rng.standard_normal((1024, config.d_model), np.float32).astype(numpy_dtype("bfloat16"))
    for shard in range(rows // shard_rows):
        x = np.tile(block, (shard_rows // 1024, 1))
        columns = {name: np.zeros(shard_rows, np.int32) for name in ("tokens", "sequence", "position")}
        writer.write_shard(shard, {SITE: x}, columns)
    writer.finish()
    return str(path), rows


def _batches(url: str, config: BenchmarkConfig) -> None:
    """One epoch, by the iterator that training uses."""
    store = open_store(url)
    batches = Batches(store, SITE, config.batch_size, config.seed, dtype=store.dtype(SITE))
    steps = batches.steps_per_epoch
    for step, _ in iterate(batches):
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
