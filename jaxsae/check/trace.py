"""Where the time of a call goes, by JAX's profiler: the operations of the device, the longest first."""

import collections
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

LISTED = 12
LINES = {"/device:GPU": "Stream", "/device:TPU": "XLA Ops"}  # of a device's plane, those that hold what ran there
HOST_LINE = "tf_XLAPjRtCpuClient"
NOT_WORK = ("end: ", "SlinkyThreadPool", "ThunkExecutor", "ThreadpoolListener", "PjRt")  # of a CPU's lines
AROUND = ("while", "conditional", "call", "fori")  # what holds other operations, which are counted themselves


def operations(call: Callable[[int], Any], calls: int = 3) -> dict[str, Any]:
    """Seconds of one call by operation, of `LISTED` and the rest, and the share of the call in which nothing ran.

    Operations on several streams, or threads of a CPU, are added up, so they may come to more than the call took.
    """
    jax.block_until_ready(call(0))
    with tempfile.TemporaryDirectory(prefix="jaxsae-trace-") as directory:
        with jax.profiler.trace(directory):
            for number in range(calls):
                jax.block_until_ready(call(number))
        files = list(Path(directory).rglob("*.xplane.pb"))
        events = [event for file in files for event in _events(file)]
    total, spans = collections.Counter(), []
    for name, start, duration in events:
        total[name] += duration
        spans.append((start, start + duration))
    busy, length = _union(spans)
    rows = [{"name": name[:120], "seconds": took / calls / 1e9} for name, took in total.most_common(LISTED)]
    rest = sum(total.values()) / calls / 1e9 - sum(row["seconds"] for row in rows)
    return {"operations": rows, "others_seconds": rest, "idle_fraction": 1 - busy / length if length else None}


def _events(file: Path) -> list[tuple[str, float, float]]:
    """(name, start, nanoseconds) of what ran on devices; on a machine without any, of XLA's own threads."""
    planes = list(jax.profiler.ProfileData.from_file(str(file)).planes)
    on_devices = any(plane.name.startswith(tuple(LINES)) for plane in planes)
    found = []
    for plane in planes:
        prefix = next((line for name, line in LINES.items() if plane.name.startswith(name)), None)
        prefix = prefix if on_devices else HOST_LINE
        for line in plane.lines:
            if prefix and line.name.startswith(prefix):
                work = [e for e in line.events if not e.name.startswith((*NOT_WORK, *AROUND))]
                found += [(e.name, e.start_ns, e.duration_ns) for e in work]
    return [event for event in found if event[2] > 0]


def _union(spans: list[tuple[float, float]]) -> tuple[float, float]:
    """How long anything ran, and how long it is from the first start to the last end."""
    busy, end = 0.0, None
    for start, stop in sorted(spans):
        busy += max(0.0, stop - (start if end is None else max(start, end)))
        end = stop if end is None else max(end, stop)
    return busy, (end - min(s for s, _ in spans)) if spans else 0.0
