"""CPU seconds of a sweep against its members trained one by one, and whether they come out alike.

    python tests/studies/sweep_cpu.py STORE OUT [--flag=value ...]

Flags are those of `jaxsae sweep`; without any: 8 small members on the quickstart's store. Both ways run in processes of their
own, start and compilation included, without evaluation. Prints a line of JSON.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from jaxsae.training import load

SMALL = ["--width=128,256", "--k=8", "--seed=0,1", "--learning_rate=0.003,0.006", "--batch_size=512", "--tokens=102400"]


def seconds(command: list[str]) -> tuple[float, float]:
    """(CPU seconds, wall seconds) of a command."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "jaxsae", *command], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return cpu, time.perf_counter() - started


def main(store: str, output: Path, flags: list[str]) -> None:
    """Runs both ways and prints the figures."""
    sweep = [
        "sweep",
        f"--store={store}",
        f"--workdir={output / 'sweep'}",
        "--evaluate=",
        "--together=8",
        *(flags or SMALL),
    ]
    together = seconds(sweep)
    alone, largest = [0.0, 0.0], 0.0
    members = sorted((output / "sweep" / "members").iterdir())
    for member in members:
        workdir = output / "alone" / member.name
        (output / f"{member.name}.flags").write_text((member / "config.flags").read_text() + f"--workdir={workdir}\n")
        spent = seconds(["train", f"--flagfile={output / member.name}.flags"])
        alone = [a + b for a, b in zip(alone, spent, strict=True)]
        one, other = load(member).params, load(workdir).params
        largest = max(largest, float(np.abs(np.asarray(one.W_dec) - np.asarray(other.W_dec)).max()))
    figures = {"members": len(members), "sweep_cpu_seconds": together[0], "alone_cpu_seconds": alone[0]}
    figures |= {"sweep_seconds": together[1], "alone_seconds": alone[1], "cpu_ratio": together[0] / alone[0]}
    print(json.dumps(figures | {"largest_difference": largest, "cores": os.cpu_count()}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
