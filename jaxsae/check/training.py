"""A short training run on rows with structure, killed and resumed: does it learn, and to the same bits?"""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from jaxsae import interpreter
from jaxsae.check.findings import FAILED, PASSED, SKIPPED, WRONG, Outcome
from jaxsae.check.item import Check, shapes_of
from jaxsae.faults.undisturbed import bits
from jaxsae.store import Plan, StoreWriter
from jaxsae.store.schema import numpy_dtype
from jaxsae.training.checkpoint import read_metadata
from jaxsae.training.run import START_FVU

SITE = "activations"
ACTIVE = 0.02  # of the features, in a row
WAIT = 0.02  # seconds between looks at what a run has written


@dataclasses.dataclass(frozen=True)
class Run:
    """Sizes of the run."""

    d_model: int
    features: int
    rows: int
    width: int
    k: int
    batch: int
    steps: int
    every: int  # steps between checkpoints
    dtype: str


ON_DEVICE = Run(1024, 2048, 2**17, 65_536, 64, 8192, 120, 40, "bfloat16")
ON_HOST = Run(64, 256, 2**15, 1024, 8, 1024, 60, 20, "float32")


def checks(platform: str) -> list[Check]:
    """The one check that there is."""
    run = ON_HOST if platform == "cpu" else ON_DEVICE
    shapes = shapes_of(run.batch, run.d_model, run.width, run.k, run.dtype)
    return [Check("run killed and resumed", "training", "jaxsae", shapes, lambda rng: _run(run, rng))]


def _run(run: Run, rng: np.random.Generator) -> Outcome:
    directory = Path(tempfile.mkdtemp(prefix="jaxsae-check-"))
    try:
        _write(directory / "store", run, rng)
        return _compared(run, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _write(path: Path, run: Run, rng: np.random.Generator) -> None:
    """Rows that are sums of few of many directions, some of them more often, and a little noise."""
    shard_rows = run.rows // 4
    writer = StoreWriter(str(path), Plan(run.rows, {SITE: run.d_model}, dtype=run.dtype, shard_rows=shard_rows))
    directions = rng.standard_normal((run.features, run.d_model), np.float32)
    odds = np.minimum(1, 2 * ACTIVE * np.arange(run.features, 0, -1) / run.features)
    for shard in range(4):
        active = rng.random((shard_rows, run.features), np.float32) < odds
        rows = (active * (0.5 + rng.random(active.shape, np.float32))) @ directions
        rows += 0.05 * rng.standard_normal(rows.shape, np.float32)
        columns = {name: np.zeros(shard_rows, np.int32) for name in ("tokens", "sequence", "position")}
        writer.write_shard(shard, {SITE: rows.astype(numpy_dtype(run.dtype))}, columns)
    writer.finish()


def _command(run: Run, directory: Path, name: str) -> list[str]:
    shape = [f"--width={run.width}", f"--k={run.k}", f"--batch_size={run.batch}", f"--tokens={run.batch * run.steps}"]
    how = [f"--checkpoint_every={run.every}", "--log_every=10", f"--compute_dtype={run.dtype}"]
    places = [f"--store={directory / 'store'}", f"--workdir={directory / name}"]
    return interpreter.command("jaxsae", "train", *places, *shape, *how)


def _compared(run: Run, directory: Path) -> Outcome:
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(directory / "compiled"))  # of three runs one compiles
    settings = {"env": interpreter.environment(), "capture_output": True, "text": True}
    alone = subprocess.run(_command(run, directory, "alone"), **settings)
    if alone.returncode:
        return _broken("a run left alone", alone.returncode, alone.stderr)
    killed_at = _kill(run, directory)
    again = subprocess.run(_command(run, directory, "killed"), **settings)
    if again.returncode:
        return _broken("the run that was killed, started again,", again.returncode, again.stderr)
    if killed_at < 0:
        return Outcome(SKIPPED, message="the run was done before it could be killed: nothing was resumed")
    expected, found = (bits(directory / name) for name in ("alone", "killed"))
    figures = _figures(directory / "alone") | {"killed_after_checkpoint": killed_at}
    wrong = []
    if expected != found:
        differ = [name for name in expected[1] if expected[1][name] != found[1].get(name)]
        wrong.append(f"the resumed run differs in its bits from one left alone: {', '.join(differ) or 'its last step'}")
    if not figures["fvu"] < figures["start_fvu"]:
        wrong.append(
            f"it does not learn: FVU {figures['fvu']} after {run.steps} steps, {figures['start_fvu']} at the start"
        )
    return Outcome(WRONG if wrong else PASSED, message="; ".join(wrong), figures=figures)


def _kill(run: Run, directory: Path) -> int:
    """Starts a run, and kills it once its first checkpoint stands; the step of that. -1: it was done before."""
    first = directory / "killed" / "checkpoints" / str(run.every)
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(_command(run, directory, "killed"), env=interpreter.environment(), **silent)
    while process.poll() is None and not first.is_dir():
        time.sleep(WAIT)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return run.every if process.returncode == -signal.SIGKILL else -1


def _broken(which: str, status: int, said: str) -> Outcome:
    last = [line for line in said.splitlines() if line.strip()][-1:] or ["no message"]
    return Outcome(FAILED, message=f"{which} ended with status {status}: {last[0][:300]}")


def _figures(run: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = [line["tokens_per_second"] for line in lines if line.get("tokens_per_second")]
    return {
        "start_fvu": read_metadata(run / "checkpoints")[1][START_FVU],
        "fvu": lines[-1]["fvu"],
        "held_out_fvu": lines[-1].get("held_out_fvu"),
        "tokens_per_second": max(rates, default=None),
        "steps": lines[-1]["step"],
    }
