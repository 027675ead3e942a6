"""One package's step, timed: python -m jaxsae.benchmark.peers.worker PACKAGE ARCHITECTURE VARIANT SIZES, the last as JSON.

The last line that is printed holds the figures.
"""

import json
import os
import statistics
import sys
import time
from typing import Any

from jaxsae.benchmark.peers.base import Sizes, Step, device
from jaxsae.benchmark.peers.table import TABLE

WARM_UP = 2


def time_step(step: Step, sizes: Sizes) -> dict[str, Any]:
    """Medians over fresh random batches [batch_size, d_model]: seconds by the clock, CPU seconds of all threads."""
    import torch

    taken = []
    for number in range(-WARM_UP, sizes.repeats):
        x = torch.randn(sizes.batch_size, sizes.d_model, device=device())
        wall, cpu = time.perf_counter(), time.process_time()
        step(x)
        if device() == "cuda":
            torch.cuda.synchronize()
        if number >= 0:
            taken.append((time.perf_counter() - wall, time.process_time() - cpu))
    seconds, cpu_seconds = map(statistics.median, zip(*taken, strict=True))
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "repeats": len(taken),
        "dead_fraction": step.dead_share(),
    }


def hide_broken_torchvision() -> None:
    """A torchvision built for another torch breaks the import of packages that only look whether it is there."""
    try:
        import torchvision  # noqa: F401
    except Exception:
        sys.modules["torchvision"] = None


def main(package: str, architecture: str, variant: str, sizes: Sizes) -> None:
    """Prints the figures of one step."""
    import torch

    hide_broken_torchvision()
    torch.manual_seed(sizes.seed)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print(json.dumps(time_step(TABLE[package].steps[architecture][variant](sizes), sizes)))


if __name__ == "__main__":
    *names, given = sys.argv[1:]
    main(*names, Sizes(**json.loads(given)))
