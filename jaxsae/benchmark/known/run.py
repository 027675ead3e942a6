"""`jaxsae benchmark --what=known_dictionary`: every method on every seed's rows, judged beside the truth."""

import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from jaxsae.benchmark.config import BenchmarkConfig
from jaxsae.benchmark.known.baselines import baselines
from jaxsae.benchmark.known.board import Board
from jaxsae.benchmark.known.features import Features
from jaxsae.benchmark.known.judge import judge
from jaxsae.benchmark.known.methods import Methods
from jaxsae.benchmark.known.ours import train_config, train_ours
from jaxsae.benchmark.known.peers import train_saelens
from jaxsae.benchmark.known.rows import SITE, HeldOut, write_store
from jaxsae.benchmark.known.table import show
from jaxsae.config import to_dict
from jaxsae.errors import Preempted
from jaxsae.store import open_store

SAMPLE = 65_536  # training rows, at most, that the baselines learn from


def benchmark_known(config: BenchmarkConfig) -> dict[str, Any]:
    """Trains, judges, prints and returns the figures.

    Returns:
      `flags`, `width`, `k`, `steps`, `rows` (trained on), `active` (a held-out row's true features, mean), `f1_features`
      (see `judge`; the mean over seeds); `methods`, `peers` ({package: ...}) and `baselines`: {name: `runs`, a seed each,
      `mean`, `standard_error`}, of a peer also `learning_rate`, the best of the first seed, `at_end`, "highest" or
      "lowest" where it is that of those that were tried, and `rates`, all that seed's; `seconds`.

    Raises:
      InputError: methods, switches, sizes or peers that do not do, before anything is made.
      Preempted: SIGTERM came; nothing is kept.
    """
    methods, began = Methods.of(config), time.perf_counter()
    board, active = Board(methods.runs, methods.k), []
    for seed in config.known.seeds:
        folder = Path(tempfile.mkdtemp(prefix="jaxsae-known-", dir=config.loader_dir or None))
        try:
            active.append(_one_seed(config, methods, seed, folder, board))
        except Preempted:
            raise Preempted("stopped by SIGTERM. Figures of what was done stand above; no run of it is kept") from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    figures = {
        "flags": to_dict(config),
        "width": methods.width,
        "k": methods.k,
        "steps": methods.steps,
        "rows": methods.rows,
        "active": sum(active) / len(active),
    }
    figures |= board.figures() | {"seconds": time.perf_counter() - began}
    figures["f1_features"] = figures["baselines"]["oracle"]["mean"]["f1_features"]
    show(figures)
    return figures


def _one_seed(config: BenchmarkConfig, methods: Methods, seed: int, folder: Path, board: Board) -> float:
    """All runs of a seed, onto the board; returns how many features are active on a held-out row, on average."""
    features = Features.of(config.known, config.d_model, seed)
    held_out = HeldOut.of(features, config.known.held_out)
    judged = partial(judge, directions=features.directions, held_out=held_out)
    store = write_store(folder / "store", features, methods.rows)
    sample = open_store(store).read(SITE, 0, min(SAMPLE, methods.rows))
    for name, candidate in baselines(features, sample, methods.width, methods.k).items():
        board.take(board.baselines, name, lambda made=candidate: made, judged, seed=seed)
    for name, method in methods.ours.items():
        run = train_config(config, method, store, folder / "run", seed, methods.rows)
        board.take(board.methods, name, partial(train_ours, run, methods.k), judged, seed=seed)
        shutil.rmtree(folder / "run")
    for name, method in methods.compared.items():
        run = train_config(config, method, store, folder / "run", seed, methods.rows)
        rates = [board.best_rate(name)] if name in board.peers else config.known.peer_rates
        for rate in rates:
            made = partial(train_saelens, run, rate)
            board.take(board.peers, name, made, judged, seed=seed, learning_rate=rate)
    return held_out.codes.nnz / len(held_out.x)
