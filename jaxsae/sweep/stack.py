"""Members of one shape as one program: their states stacked, the step vmapped over them, the batch the same for all.

On an accelerator a step of a small member is mostly the starting of its kernels; stacked, all members' kernels are
started at once. On CPU the step is bound by its arithmetic, and vmap makes it slower (BUILD_NOTES, Sweeps).
"""

import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxsae.platform import target_platform
from jaxsae.training.compiled import CompiledSteps
from jaxsae.training.program import Program
from jaxsae.training.state import TrainState
from jaxsae.training.step import Pace, StepMetrics, make_step

_TIMED_STEPS = 10


class MemberSteps(CompiledSteps):
    """The steps of members, and of several of them stacked."""

    def __init__(self):
        super().__init__()
        self._stacked: dict[tuple, Any] = {}
        self._faster: dict[tuple, bool] = {}

    def stacked(self, program: Program, count: int) -> Any:
        """The step of `count` members: (stacked states, batch, stacked paces) -> (stacked states, stacked metrics)."""
        key = program.key, count
        if key not in self._stacked:
            step = make_step(program.method, program.optimizer, program.step_config, program.abstract, program.mesh)
            many = jax.vmap(step, in_axes=(0, None, 0))
            wide = lambda tree: jax.tree.map(lambda a: jax.ShapeDtypeStruct((count, *a.shape), a.dtype), tree)
            arguments = wide(program.abstract), program.batch, wide(program.abstract_pace)
            self._stacked[key] = jax.jit(many, donate_argnums=0).lower(*arguments).compile()
        return self._stacked[key]

    def stacking_pays(self, setup, count: int, wanted: str) -> bool:
        """Whether `count` members of a shape are to be stacked: as flags say, or by timing both on this device.

        Never unasked on CPU: it does not pay there, and what is not stacked has the bits of a run that is trained alone.
        """
        if count < 2 or setup.mesh.size > 1 or wanted == "off":
            return False
        if wanted == "on":
            return True
        if target_platform() == "cpu":
            return False
        key = setup.program.key, count
        if key not in self._faster:
            self._faster[key] = self._time(setup, count)
        return self._faster[key]

    def _time(self, setup, count: int) -> bool:
        program, step = setup.program, self.of(setup)[0]
        x = jax.device_put(setup.batches[0], setup.row_sharding)
        many = self.stacked(program, count)
        paces = stack([program.pace] * count)
        state, states = setup.fresh_state(), stack([setup.fresh_state() for _ in range(count)])
        seconds = []
        for function, value, pace in ((step, state, program.pace), (many, states, paces)):
            value, _ = jax.block_until_ready(function(value, x, pace))
            started = time.perf_counter()
            for _ in range(_TIMED_STEPS):
                value, _ = function(value, x, pace)
            jax.block_until_ready(value)
            seconds.append(time.perf_counter() - started)
        return seconds[1] < count * seconds[0]


def stack(trees: Sequence[Any]) -> Any:
    """Trees of arrays [...] -> one tree of arrays [M, ...]."""
    return _stacked(list(trees))


_stacked = jax.jit(lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees))


@jax.jit
def unstack(tree: Any) -> list[Any]:
    """The inverse of `stack`."""
    return [member(tree, i) for i in range(len(jax.tree.leaves(tree)[0]))]


@jax.jit
def member(tree: Any, place: int | jax.Array) -> Any:
    """One of the trees of a stack."""
    return jax.tree.map(lambda a: a[place], tree)


class Stack:
    """The states of several members of one shape at one step, as one."""

    def __init__(self, step, states: Sequence[TrainState], paces: Sequence[Pace]):
        self._step, self._states, self._paces = step, stack(states), stack(paces)

    def __call__(self, x: jax.Array) -> list[StepMetrics]:
        """Takes a step; the metrics of each member."""
        self._states, metrics = self._step(self._states, x, self._paces)
        return unstack(metrics)

    def state(self, place: int) -> TrainState:
        """A copy of a member's state."""
        return member(self._states, place)
