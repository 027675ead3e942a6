"""Compiles the TPU kernel alone for a chip that is not here: compile_for_tpu.py v5p:2x2x1 8192,1024,65536,64 RESULT.json

A process of its own, because libtpu reads its flags when it is loaded. The result has the blocks' VMEM, the program's
temporaries, and of the kernel's static schedule its bundles, its spills and how busy the matrix unit is in it.
"""

import glob
import json
import os
import sys
import tempfile

dump = tempfile.TemporaryDirectory(prefix="jaxsae-llo-")
os.environ["LIBTPU_INIT_ARGS"] = f"--xla_jf_dump_to={dump.name} --xla_jf_dump_llo_text=true"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from jaxsae.kernels.encode_topk import tpu  # noqa: E402
from jaxsae.kernels.encode_topk.parts import tpu_bins  # noqa: E402
from jaxsae.parallel import make_mesh  # noqa: E402
from jaxsae.plan.topology import Topology  # noqa: E402
from jaxsae.platform import compiling_for  # noqa: E402


def main(topology: str, sizes: str, result: str) -> None:
    batch, d, width, k = map(int, sizes.split(","))
    mesh = make_mesh((1, 1), Topology.of(topology).devices()[:1])
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    array = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype, sharding=place)
    with compiling_for(mesh):
        vmem = tpu.vmem_bytes()
        blocks = tpu.choose_blocks(batch, width, d, k, 2, vmem)
        kernel = jax.jit(lambda x, w, b: tpu_bins.best_of_bins(x, w, b, k, blocks, vmem, False))
        arrays = array(jnp.bfloat16, batch, d), array(jnp.bfloat16, width, d), array(jnp.float32, width)
        compiled = kernel.lower(*arrays).compile()
    schedule = read_schedule(dump.name)
    figures = {
        "chip": jax.tree.leaves(mesh.devices.flat[0].device_kind)[0],
        "blocks": str(blocks),
        "vmem_bytes": blocks.vmem_bytes(d, k, 2),
        "temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
    }
    with open(result, "w") as file:
        json.dump(figures | schedule, file)


def read_schedule(folder: str) -> dict[str, float]:
    """Of the final schedule: a line for each bundle, with the slots that it fills of each unit."""
    (path,) = glob.glob(f"{folder}/*{tpu_bins.NAME}*final_hlo-static-per-bundle-utilization.txt")
    with open(path) as file:
        lines = file.read().split("\n")
    names, capacity = [n.strip() for n in lines[1].split(",")], list(map(int, lines[2].split()))
    bundles = [list(map(int, line.split())) for line in lines[4:] if line.strip()]
    total = dict(zip(names, map(sum, zip(*bundles, strict=True)), strict=True))
    return {
        "bundles": len(bundles),
        "spills": total["VSTORE:SPILL"],
        "matrix_unit": total["MXU"] / (capacity[names.index("MXU")] * len(bundles)),
        "vector_unit": total["VALU"] / (capacity[names.index("VALU")] * len(bundles)),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
