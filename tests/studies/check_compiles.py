"""Do the programs that `jaxsae check` runs compile for a device that is not here? Nothing is run.

python tests/studies/check_compiles.py h200:1, or v5p:2x2x1 (pip install 'jaxsae[plan-tpu,plan-gpu]'); a second argument:
only checks whose name holds it.
"""

import os
import sys
import time

os.environ["JAX_PLATFORMS"] = "cpu"
from jaxsae.plan.topology import TPU_ENVIRONMENT, Topology

os.environ.update(TPU_ENVIRONMENT)
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsae.check import encoders, pair_sums, updates
from jaxsae.platform import compiling_for


class Compiled(Exception):
    """A program compiled: all that there is to know of it here."""


def main(name: str, only: str = "") -> int:
    """Compiles them; how many do not."""
    device = Topology.of(name).devices()[0]
    mesh = Mesh(np.array([[device]]), ("data", "model"))
    place = NamedSharding(mesh, P())

    def compile_only(function, _, *arguments):  # stands for `Poisoned`
        shape = lambda a: jax.ShapeDtypeStruct(np.shape(a), np.asarray(a).dtype, sharding=place)
        began = time.perf_counter()
        compiled = jax.jit(function).lower(*jax.tree.map(shape, arguments)).compile()
        temporaries = compiled.memory_analysis().temp_size_in_bytes / 2**20
        raise Compiled(f"{time.perf_counter() - began:.1f} s, temporaries {temporaries:.0f} MiB")

    for module in (encoders, pair_sums, updates):
        module.Poisoned = compile_only
    pair_sums.make_mesh = lambda *_: mesh
    began, failed, count = time.perf_counter(), 0, 0
    with compiling_for(mesh):
        for check in (c for module in (encoders, pair_sums, updates) for c in module.checks(device)):
            if only not in check.name:
                continue
            count += 1
            try:
                check.run(check.generator(0))
            except Compiled as done:
                print(f"{check.name:<52}{done}", flush=True)
            except Exception as error:
                failed += 1
                print(f"{check.name:<52}FAILED {type(error).__name__}: {str(error)[:200]}", flush=True)
    print(f"{count - failed} of {count} programs compiled in {time.perf_counter() - began:.0f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
