"""What `auto` means: the kernel that is made for the device, or why not; on Hopper by a measurement on the device at hand.

There, whether the fused kernel beats a library's product and top-k depends on the shapes, and no rule is as good as
trying both. That is done once for each shape, on random arrays, while the program that asks is being traced; the answer
is kept in memory and in a file of the user's cache directory.
"""

import functools
import json
import os
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxsae.files import write_json
from jaxsae.kernels.avoid import avoided, first_left
from jaxsae.kernels.encode_topk import chunked, hopper, screened, tpu
from jaxsae.kernels.encode_topk.parts.stream import TopK
from jaxsae.platform import target
from jaxsae.progress import is_first_process, say

CANDIDATES: dict[str, Callable[..., TopK]] = {"mosaic_gpu": hopper.encode_topk, "chunked": chunked.encode_topk}
FALLBACK = "chunked"
REPEATS = 5
_chosen: dict[str, str] = {}


def for_target(x: jax.Array, w_enc: jax.Array, k: int) -> str:
    """The implementation for x [B, d], W_enc [n, d] and k on the device that is compiled for; says why one is refused."""
    name, why = explained(x, w_enc, k)
    if why:
        _say_once(f"encode_topk: {name}, since {why}")
    return name


def explained(x: jax.Array, w_enc: jax.Array, k: int) -> tuple[str, str | None]:
    """The implementation, and why the kernel that is made for the device is not it; None: it is, or nothing is lost."""
    device = target()
    if device.platform == "gpu":
        why = _hopper_refusal(x, w_enc, k)
        if why:
            return first_left(FALLBACK, "xla", "cpu"), f"mosaic_gpu {why}"
        # `jaxsae plan` compiles for a device that cannot be asked.
        if avoided(FALLBACK) or not _is_at_hand(device.kind):
            return "mosaic_gpu", None
        return measured(device.kind, x.shape[0], *w_enc.shape, k, x.dtype), None
    if device.platform == "tpu":
        why = avoided("pallas_tpu") or tpu.refusal(x, w_enc, k, tpu.vmem_bytes())
        return (first_left("xla", "chunked", "cpu"), f"pallas_tpu {why}") if why else ("pallas_tpu", None)
    reasons = []
    if x.dtype == jnp.float32 and screened.pays(x.shape[1], k):
        why = avoided("screened") or screened.refused()
        if not why:
            return "screened", None
        reasons.append(f"screened {why}" if avoided("screened") else f"screened gains nothing where {why}")
    name = first_left("cpu", "xla", "chunked", "screened")
    if name != "cpu":
        reasons.append(f"cpu {avoided('cpu')}")
    return name, " and ".join(reasons) or None


def refusals(x: jax.Array, w_enc: jax.Array, k: int) -> dict[str, str | None]:
    """For every implementation why it does not take these shapes on the device that is compiled for, or is not to be used;
    None: it does."""
    device, half = target(), f"takes float32, not {x.dtype}"
    needs_tpu = None if device.platform == "tpu" else f"needs a TPU, not {device.kind}"
    found = {
        "screened": None if x.dtype == jnp.float32 else half,
        "cpu": None,
        "pallas_tpu": needs_tpu or tpu.refusal(x, w_enc, k, tpu.vmem_bytes()),
        "xla": None,
        "chunked": None,
        "mosaic_gpu": _hopper_refusal(x, w_enc, k),
        "reference": None,
        "approximate": needs_tpu,
    }
    return {name: avoided(name) or why for name, why in found.items()}


def _hopper_refusal(x: jax.Array, w_enc: jax.Array, k: int) -> str | None:
    device = target()
    return avoided("mosaic_gpu") or (
        hopper.refusal(x, w_enc, k) if device.is_hopper else f"needs a Hopper GPU, not {device.kind}"
    )


def measured(kind: str, batch: int, width: int, d: int, k: int, dtype: jnp.dtype) -> str:
    """The fastest of `CANDIDATES` on this process's first device; process 0's answer in all processes."""
    key = _key(kind, batch, width, d, k, dtype)
    if key not in _chosen:
        _chosen[key] = _outside_of_traces(lambda: _agreed(key, batch, width, d, k, dtype))
    return _chosen[key]


def known_seconds(kind: str, batch: int, width: int, d: int, k: int, dtype: jnp.dtype) -> dict[str, float]:
    """What `measured` found for each candidate, on this machine, now or earlier; empty: nothing."""
    entry = _read_cache().get(_key(kind, batch, width, d, k, dtype))
    return entry.get("seconds", {}) if isinstance(entry, dict) else {}


def _key(kind: str, batch: int, width: int, d: int, k: int, dtype: jnp.dtype) -> str:
    return f"jax {jax.__version__}, {kind}, B {batch}, n {width}, d {d}, k {k}, {jnp.dtype(dtype).name}"


def cache_file() -> Path:
    """Where choices are kept: under JAXSAE_CACHE, else under the user's cache directory."""
    folder = os.environ.get("JAXSAE_CACHE")
    return (
        Path(folder or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxsae") / "encode_topk.json"
    )


def _is_at_hand(kind: str) -> bool:
    return jax.devices()[0].device_kind == kind


def _outside_of_traces(function: Callable[[], str]) -> str:
    """Runs in a thread of its own: what is being traced, its mesh and its settings are the tracing thread's."""
    result: list = []

    def run() -> None:
        try:
            result.append((function(), None))
        except BaseException as error:  # raised again where the answer is waited for
            result.append((None, error))

    thread = threading.Thread(target=run, name="encode_topk-measurement")
    thread.start()
    thread.join()
    answer, error = result[0]
    if error is not None:
        raise error
    return answer


def _agreed(key: str, *shape) -> str:
    """The cached or measured choice. Programs must be the same on all processes, timings never are."""
    names = list(CANDIDATES)
    choice = _cached_or_timed(key, *shape) if is_first_process() else names[0]
    if jax.process_count() > 1:
        choice = names[int(multihost_utils.broadcast_one_to_all(np.int32(names.index(choice))))]
    return choice


def _cached_or_timed(key: str, *shape) -> str:
    known = _read_cache()
    choice = known.get(key, {}).get("choice") if isinstance(known.get(key), dict) else None
    if choice not in CANDIDATES:
        seconds = _seconds_of_each(*shape)
        choice = min(seconds, key=seconds.get) if seconds else FALLBACK
        times = ", ".join(f"{name} {taken * 1e3:.2f} ms" for name, taken in seconds.items())
        say(f"encode_topk: {choice} ({times or 'nothing could be timed'}; {key})")
        if seconds:
            _write_cache(key, {"choice": choice, "seconds": seconds})
    return choice


def _seconds_of_each(batch: int, width: int, d: int, k: int, dtype: jnp.dtype) -> dict[str, float]:
    """Median seconds of each candidate that runs; those that do not are named with their error."""
    device = jax.local_devices()[0]
    width = max(k, _width_that_fits(device, width, d, jnp.dtype(dtype).itemsize))
    seconds = {}
    with jax.default_device(device):
        keys = jax.random.split(jax.random.key(0), 3)
        draw = jax.jit(lambda key, shape, dtype: jax.random.normal(key, shape, dtype), static_argnums=(1, 2))
        x, w_enc, b_enc = (
            draw(key, s, t)
            for key, s, t in zip(keys, [(batch, d), (width, d), (width,)], [dtype, dtype, jnp.float32], strict=True)
        )
        for name, function in CANDIDATES.items():
            try:
                seconds[name] = _median_seconds(jax.jit(functools.partial(function, k=k)), x, w_enc, b_enc)
            except Exception as error:  # whatever a compiler or a full memory raises: the other one is left
                _say_once(f"encode_topk: {name} cannot be used here: {str(error).splitlines()[0]}")
    return seconds


def _median_seconds(function: Callable, *args: jax.Array) -> float:
    jax.block_until_ready(function(*args))
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _width_that_fits(device: jax.Device, width: int, d: int, itemsize: int) -> int:
    """All latents, or as many, by halves, as a quarter of the free memory holds: the run's own arrays are there already."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        free = stats["bytes_limit"] - stats.get("bytes_in_use", 0)
        while width * d * itemsize > free / 4 and width > hopper.TILE:
            width //= 2
    return width


def _read_cache() -> dict:
    """What is in the file; nothing where there is none or it is damaged."""
    try:
        known = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write_cache(key: str, entry: dict) -> None:
    """Adds an entry; a directory that cannot be written costs a measurement in the next run, no more."""
    path = cache_file()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, _read_cache() | {key: entry})


@functools.cache
def _say_once(message: str) -> None:
    say(message)
