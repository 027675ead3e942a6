"""Public figures of the chips: what a roofline is drawn from.

TPUs: https://cloud.google.com/tpu/docs, the tables "key specifications" of v4, v5e, v5p, v6e and tpu7x (peak
bf16, HBM bandwidth, bidirectional inter-chip bandwidth, of which a direction is half; older pages give one
direction in Gbps: v4 2,400). Memory is what libtpu 0.0.42 lets a program have, read off its refusal of one
too large. GPUs: NVIDIA's data sheets of H100 SXM and H200 SXM, dense rates; DGX H100/H200 for the network.
Vector rates: lanes x ALUs x clock, as in https://jax-ml.github.io/scaling-book and the GPUs' data sheets.
"""

import dataclasses

GIB, GB, TERA = 2**30, 10**9, 10**12


@dataclasses.dataclass(frozen=True)
class Chip:
    """One JAX device, which is a chip but for tpu7x, where it is half of one.

    Attributes:
      name: for people. platform: `tpu` or `gpu`. dimensions: of a topology's name; the most devices of a slice.
      flops: matmul FLOP/s by `--compute_dtype`; float32 in full precision, for which a TPU goes through its matrix
        unit six times and a GPU leaves its matrix units aside.
      vector: float32 operations/s of the vector units.
      memory: bytes a program may have. bandwidth: bytes/s of it.
      links: bytes/s to other devices in one direction, all links together. network: the same between machines of
        `machine` devices, 0 where links reach everywhere.
      halves: JAX devices of one chip.
    """

    name: str
    platform: str
    dimensions: int
    largest: int
    flops: dict[str, float]
    vector: float
    memory: int
    bandwidth: float
    links: float
    network: float = 0.0
    machine: int = 0
    halves: int = 1


def _tpu(name: str, dimensions: int, largest: int, bf16: float, vector: float, memory: float, hbm: float, ici: float):
    flops = {"bfloat16": bf16 * TERA, "float32": bf16 * TERA / 6}
    gib = int(memory * GIB)
    return Chip(name, "tpu", dimensions, largest, flops, vector * TERA, gib, hbm * GB, ici * GB)


def _gpu(name: str, memory: float, hbm: float) -> Chip:
    flops = {"bfloat16": 989.4 * TERA, "float32": 66.9 * TERA}
    return Chip(name, "gpu", 1, 1024, flops, 33.5 * TERA, int(memory * GB), hbm * GB, 450 * GB, 50 * GB, machine=8)


CHIPS = {
    "v4": _tpu("TPU v4", 3, 4096, 275, 8.6, 30.75, 1200, 300),
    "v5e": _tpu("TPU v5e", 2, 256, 197, 6.1, 15.75, 819, 200),
    "v5p": _tpu("TPU v5p", 3, 8960, 459, 14.3, 95.74, 2765, 600),
    "v6e": _tpu("TPU v6e", 2, 256, 918, 7.2, 31.25, 1638, 400),
    # Two devices a chip: 2,307 TFLOP/s, 7,380 GB/s and 2 x 600 GB/s are the chip's.
    "tpu7x": dataclasses.replace(_tpu("TPU7x", 3, 9216, 1153.5, 14.3, 94.75, 3690, 300), halves=2),
    "h100": _gpu("H100 SXM 80 GB", 85.0, 3350),
    "h200": _gpu("H200 SXM 141 GB", 150.75, 4800),
}
