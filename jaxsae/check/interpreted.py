"""Kernels of devices that are not here, run by Pallas' interpreters: slowly, at toy sizes.

That a program is right by its interpreter says nothing of the compiler and the device that will run it; findings mark it.
"""

from collections.abc import Callable

import jax

from jaxsae.kernels.encode_topk import hopper, tpu


def gpu_interpreter():
    """Parameters of Mosaic GPU's interpreter; None where this jax has none."""
    try:
        from jax.experimental.pallas.mosaic_gpu import InterpretGPUParams
    except ImportError:  # jax 0.10
        try:
            from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams
        except ImportError:
            return None
    return InterpretGPUParams()


def toy_width(k: int) -> int:
    """Latents enough for k candidates, and no whole number of tiles."""
    return 700 if k <= 64 else 2100


def _hopper(k: int) -> Callable | None:
    interpret = gpu_interpreter()
    if interpret is None:
        return None
    size, keep = (64, 4) if k <= 40 else (32, 8)
    buckets = hopper.Buckets(size, keep, rows=128, cluster=1)
    return lambda x, w, b: hopper.encode_topk(x, w, b, k, buckets, interpret)


def _tpu(k: int) -> Callable | None:
    blocks = tpu.Blocks(rows=16, latents=256, part=128, bins=128, keep=4 if k <= 64 else 8)
    return lambda x, w, b: tpu.encode_topk(x, w, b, k, blocks, True)


INTERPRETED: dict[str, Callable[[int], Callable[..., tuple[jax.Array, jax.Array]] | None]] = {
    "pallas_tpu": _tpu,
    "mosaic_gpu": _hopper,
}
