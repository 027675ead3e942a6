"""Harvest by --backend=jax against the bare forward pass of the same compiled program, and beside torch's, in one process."""

import tempfile
from collections.abc import Callable
from typing import Any

import jax

from jaxsae.benchmark.clock import time_in_turn
from jaxsae.benchmark.config import BenchmarkConfig
from jaxsae.config import check, to_dict
from jaxsae.files import write_json
from jaxsae.harvest.hf import open_mesh
from jaxsae.harvest.pipeline import write_shards
from jaxsae.harvest.sequences import Sequences
from jaxsae.harvest.text_source import Start, TextSource, when_asked
from jaxsae.lm import libraries
from jaxsae.lm.checkpoint import Checkpoint
from jaxsae.lm.decoder.lm import DecoderLM
from jaxsae.lm.decoder.reader import Reader
from jaxsae.lm.torch_lm import TorchLM
from jaxsae.parallel import DATA
from jaxsae.progress import say
from jaxsae.store import Plan, StoreWriter

BARE, HARVEST, TORCH = "bare forward pass up to the last site", "harvest", "harvest, --backend=torch"


def benchmark_jax(config: BenchmarkConfig, checkpoint: Checkpoint, sites: tuple[str, ...], text: Sequences) -> dict:
    """Times the compiled program that a harvest runs, alone and with everything that a harvest does, and torch's harvest
    where it is installed; prints it.

    Returns:
      `tokens_per_second` and `cpu_seconds` of each, `harvest_over_bare`, `harvest_over_torch`; see `benchmark_harvest`.
    """
    mesh, batch = open_mesh(config.mesh), config.rows_of_a_batch
    data = mesh.shape[DATA]
    check(batch % data == 0, "batch_size", batch, f"must be a multiple of the {data} data shards")
    lm = DecoderLM(checkpoint, mesh, sites)
    reader, widths = Reader(lm, sites, "float32", batch, text.longest), lm.widths(sites)
    tokens = sum(text.batch(number)[0].size for number in range(text.batches))
    with tempfile.TemporaryDirectory(prefix="jaxsae-benchmark-") as directory:
        calls: dict[str, Callable[[int], Any]] = {
            BARE: lambda _: bare(reader, text),
            HARVEST: lambda number: harvested(reader.start, text, widths, f"{directory}/jax{number}"),
        }
        if libraries.has_torch():
            torch = TorchLM(checkpoint)
            read = when_asked(lambda tokens, kept: torch.read(tokens, kept, sites, "float32"))
            calls[TORCH] = lambda number: harvested(read, text, widths, f"{directory}/torch{number}")
        timings = time_in_turn(calls, config.repeats or 3, warm_up=1)
    speed = {name: tokens / timing.seconds for name, timing in timings.items()}
    figures = {
        "flags": to_dict(config),
        "device": str(mesh.devices.flat[0].device_kind),
        "mesh": list(mesh.devices.shape),
        "model_dtype": lm.dtype,
        "tokens": tokens,
        "rows": text.rows,
        "sites": list(sites),
        "tokens_per_second": speed,
        "cpu_seconds": {name: timing.cpu_seconds for name, timing in timings.items()},
        "harvest_over_bare": speed[HARVEST] / speed[BARE],
        "harvest_over_torch": speed[HARVEST] / speed[TORCH] if TORCH in speed else None,
    }
    say(f"{'':<40}{'tokens/s':>12}{'of bare':>10}{'CPU s':>9}")
    for name, rate in speed.items():
        say(f"{name:<40}{rate:>12,.0f}{rate / speed[BARE]:>10.2f}{timings[name].cpu_seconds:>9.2f}")
    say(f"{tokens:,} tokens, {', '.join(sites)}, {lm.dtype} on mesh {data},{mesh.size // data} of {figures['device']}")
    if config.json:
        write_json(config.json, figures)
    return figures


def bare(reader: Reader, text: Sequences) -> None:
    """The compiled pass over all batches, two under way; results stay on the devices and are thrown away."""
    before = None
    for number in range(text.batches):
        out = reader.run(text.batch(number)[0])
        jax.block_until_ready(before)
        before = out
    jax.block_until_ready(before)


def harvested(start: Start, text: Sequences, widths: dict[str, int], directory: str) -> None:
    """A harvest from token ids to a finished store on disk."""
    plan = Plan(rows=text.rows, sites=widths, context=text.context, settings={"source": "benchmark"})
    writer = StoreWriter(directory, plan)
    write_shards(directory, TextSource(plan, text, start), writer, list(range(plan.shards)), quiet=True)
    writer.finish()
