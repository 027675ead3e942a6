"""Workers as processes of this machine: each is the same command with --workers=1, and says what it does in a file."""

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from jaxsae import interpreter
from jaxsae.config import to_flag_lines
from jaxsae.errors import InputError, Preempted
from jaxsae.hosts.preemption import AGAIN, StopRequest
from jaxsae.progress import Progress, say
from jaxsae.sweep.config import SweepConfig
from jaxsae.sweep.directory import read_outcome
from jaxsae.sweep.grid import MEMBERS, Member
from jaxsae.training.metrics import read_metrics
from jaxsae.training.run import METRICS

_ONCE = ("workers", "csv")  # flags of the command, not of its workers


def run_local(config: SweepConfig, path: Path, members: Sequence[Member]) -> None:
    """Starts --workers processes and returns when all have ended and no member is left.

    Raises:
      InputError: what a worker found wrong with the input. Preempted: SIGTERM, which the workers were told of.
      RuntimeError: workers ended, and members are left.
    """
    (path / "logs").mkdir(parents=True, exist_ok=True)
    logs = [path / "logs" / f"worker-{number}.log" for number in range(config.workers)]
    with ExitStack() as open_files, StopRequest() as request:
        children = [
            subprocess.Popen(
                interpreter.command("jaxsae", "sweep", *_flags(config)),
                env=interpreter.environment(_devices(number, config.workers)),
                stdout=subprocess.DEVNULL,
                stderr=open_files.enter_context(log.open("w", encoding="utf-8")),
            )
            for number, log in enumerate(logs)
        ]
        try:
            _watch(path, members, children, request)
        finally:
            for child in children:
                if child.poll() is None:
                    child.terminate()
            statuses = [child.wait() for child in children]
    if 2 in statuses:
        last = logs[statuses.index(2)].read_text(encoding="utf-8").strip().splitlines()[-1]
        raise InputError(last.removeprefix("jaxsae sweep: "))
    if request.asked or Preempted.status in statuses:
        raise Preempted(f"stopped by SIGTERM; what was trained is saved. {AGAIN}")
    left = [m.name for m in members if read_outcome(path, m.name) is None]
    if left:
        told = ", ".join(f"{log} (status {status})" for log, status in zip(logs, statuses, strict=True))
        raise RuntimeError(f"all workers have ended, and {len(left)} members are left. {told}. {AGAIN}")


def _flags(config: SweepConfig) -> list[str]:
    lines = to_flag_lines(config)
    return [line for line in lines if line[2:].split("=")[0] not in _ONCE]


def _watch(path: Path, members: Sequence[Member], children: list[subprocess.Popen], request: StopRequest) -> None:
    total = sum(m.config.steps * m.config.batch_size for m in members)
    ended: set[str] = set()
    with Progress(total, f"{len(children)} workers", "tok", scale=True) as bar:
        shown = 0
        while any(child.poll() is None for child in children):
            if request.asked or any(child.poll() == 2 for child in children):
                return
            tokens = sum(_tokens(path, m) for m in members)
            bar.advance(tokens - shown)
            shown = tokens
            for member in members:
                if member.name not in ended and (outcome := read_outcome(path, member.name)):
                    ended.add(member.name)
                    error = f": {outcome['error']}" if outcome["error"] else ""
                    say(f"{member.name} {outcome['status']}{error}  ({len(ended)} of {len(members)})")
            time.sleep(0.5)


def _tokens(path: Path, member: Member) -> int:
    last = read_metrics(path / MEMBERS / member.name / METRICS)[-1:]
    return last[0]["tokens"] if last else 0


def _devices(number: int, workers: int) -> dict[str, str]:
    """An even share of this machine's NVIDIA GPUs for a worker, where there are enough; else it sees what is there."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = (
        visible.split(",") if visible else [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]
    )
    share = len(found) // workers
    return {"CUDA_VISIBLE_DEVICES": ",".join(found[number * share : (number + 1) * share])} if share else {}
