"""Members of one shape three ways: a program for each, one program with all of them in it, one vmapped over them.

    python tests/studies/sweep_stack.py STORE WIDTH BATCH_SIZE K

Prints milliseconds of wall and CPU a member and step, three times each, and how far the weights come apart.
"""

import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxsae.dictionary import MethodConfig
from jaxsae.sweep.stack import MemberSteps, Stack
from jaxsae.training import OptimizerConfig, TrainConfig
from jaxsae.training.setup import Setup
from jaxsae.training.step import make_step

MEMBERS, STEPS, BATCHES = 4, 25, 8


def timed(name: str, step: Callable[[jax.Array], object], batches: list[jax.Array]) -> None:
    """Takes 3 steps, then times `STEPS` of them three times."""
    for x in batches[:3]:
        jax.device_get(step(x))
    figures = []
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        for number in range(STEPS):
            jax.device_get(step(batches[number % BATCHES]))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        figures.append("/".join(f"{1e3 * s / STEPS / MEMBERS:.2f}" for s in (wall, cpu)))
    print(f"{name}: {', '.join(figures)} ms wall/CPU a member and step", flush=True)


def main(store: str, width: int, batch_size: int, k: int) -> None:
    """Times the three ways."""
    config = lambda seed: TrainConfig(
        store=store,
        workdir="none",
        batch_size=batch_size,
        tokens=300 * batch_size,
        seed=seed,
        data_seed=0,
        method=MethodConfig(width=width, k=k),
        optimization=OptimizerConfig(learning_rate=3e-3),
    )
    setups = [Setup.of(config(seed)) for seed in range(MEMBERS)]
    first, steps = setups[0], MemberSteps()
    batches = [jax.device_put(first.batches[i], first.row_sharding) for i in range(BATCHES)]
    paces = [s.program.pace for s in setups]
    fresh = lambda: [s.fresh_state() for s in setups]

    alone, states = steps.of(first)[0], fresh()

    def interleaved(x: jax.Array) -> list:
        metrics = []
        for i in range(MEMBERS):
            states[i], found = alone(states[i], x, paces[i])
            metrics.append(found)
        return metrics

    timed("interleaved", interleaved, batches)
    program, held = first.program, [fresh()]
    step = make_step(program.method, program.optimizer, program.step_config, program.abstract, program.mesh)
    unrolled = jax.jit(lambda s, x, p: [step(a, x, b) for a, b in zip(s, p, strict=True)], donate_argnums=0)

    def as_one(x: jax.Array) -> list:
        found = unrolled(held[0], x, paces)
        held[0] = [state for state, _ in found]
        return [metrics for _, metrics in found]

    timed("one program", as_one, batches)
    stacked = Stack(steps.stacked(program, MEMBERS), fresh(), paces)
    timed("vmapped", stacked, batches)
    apart = [float(jnp.abs(stacked.state(i).params.W_dec - states[i].params.W_dec).max()) for i in range(MEMBERS)]
    print("largest differences of decoder weights, vmapped against interleaved:", apart)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
