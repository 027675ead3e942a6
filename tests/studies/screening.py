"""What the screening in bfloat16 is worth against the float32 encoder for CPUs, and the order of numbers to XLA's top-k.

    python tests/studies/screening.py [D_MODEL,WIDTH,K,BATCH ...]

Gaussian rows and latents of unit length, no bias. Prints K, the rows of the batch that are repaired, and medians of CPU and
wall milliseconds, in turn. Not a test: its figures stand in BUILD_NOTES.md.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxsae.benchmark.clock import time_in_turn
from jaxsae.kernels.encode_topk import cpu, screened
from jaxsae.kernels.encode_topk.parts.certificate import certify

SHAPES = ("64,16384,32,2048", "128,16384,32,2048", "384,16384,32,2048", "384,16384,128,2048", "768,32768,32,2048")
SHAPES += ("2304,16384,32,1024", "4096,16384,32,512")
ROWS, NUMBERS, BEST = 2048, 512, 48  # of top-k alone


def show(calls: dict) -> dict[str, float]:
    """Times the calls in turn; returns CPU milliseconds."""
    taken = time_in_turn(calls, repeats=9)
    for name, one in taken.items():
        print(f"  {name:<24}{one.cpu_seconds * 1e3:9.1f} CPU ms{one.seconds * 1e3:9.1f} ms", flush=True)
    return {name: one.cpu_seconds for name, one in taken.items()}


def encoders(d: int, width: int, k: int, batch: int) -> None:
    """One shape."""
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((batch, d), (width, d)))
    w, b = w / jnp.linalg.norm(w, axis=1, keepdims=True), jnp.zeros(width)
    kept = min(width, screened.candidates_of(k, d))
    best, dropped, _ = jax.jit(lambda *a: screened.screen(*a, k, kept))(x, w, b)
    print(f"d {d}, n {width}, k {k}, B {batch}: K {kept}, {int(certify(best, dropped, b)[1].sum())} rows repaired")
    jitted = {m.__name__.rpartition(".")[2]: jax.jit(lambda *a, m=m: m.encode_topk(*a, k)) for m in (screened, cpu)}
    cost = show({name: lambda _, call=call: call(x, w, b) for name, call in jitted.items()})
    print(f"  screened over cpu: {cost['screened'] / cost['cpu']:.2f}")


def order() -> None:
    """XLA's top-k of the same numbers as they come and largest first, and whole sorts."""
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.normal(size=(ROWS, NUMBERS)), jnp.float32)
    words = jax.lax.bitcast_convert_type(values, jnp.uint32)
    top_k, sort = jax.jit(lambda v: jax.lax.top_k(v, BEST)), jax.jit(jax.lax.sort)
    print(f"the {BEST} best of {ROWS} rows of {NUMBERS}")
    calls = {"top-k, random order": (top_k, values), "top-k, largest first": (top_k, -jnp.sort(-values))}
    calls |= {"sort, uint32": (sort, words), "sort, float32": (sort, values)}
    show({name: lambda _, call=call, v=v: call(v) for name, (call, v) in calls.items()})


if __name__ == "__main__":
    for shape in sys.argv[1:] or SHAPES:
        encoders(*map(int, shape.split(",")))
    order()
