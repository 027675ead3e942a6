"""The trainer's own step, and parts of it, as calls to be timed."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxsae.benchmark.config import BenchmarkConfig
from jaxsae.benchmark.dead import DEAD_LENGTH, dead_latents
from jaxsae.benchmark.parts import NEVER_DEAD, Parts
from jaxsae.dictionary import Normalization, Widths, make_method
from jaxsae.errors import InputError
from jaxsae.parallel import DATA, MODEL, batch_sharding, shardings
from jaxsae.platform import compiling_for
from jaxsae.training.memory import GIB, MemoryPlan, available_bytes, check_fits, plan_memory
from jaxsae.training.optimizer import make_optimizer, schedule
from jaxsae.training.routes import DeadRoute, capacity_for_dead, forms_gradient, route_of
from jaxsae.training.state import TrainState, abstract_state, create_state, make_init
from jaxsae.training.step import SINCE_LIMIT, Pace, StepConfig, make_step, make_update

FRESH_BATCHES = 4
# Of the floor's result on one device: of a wider dictionary a part of the latents is multiplied, and its time scaled.
FLOOR_NUMBERS = 2**30


class TimedStep:
    """A step on random weights and fresh random batches, and its parts; a share of the latents may be dead.

    The parts: `encode` (matmul and selection), `decode`, `gradients` (loss and gradient; where the update makes the
    gradient block by block, what it makes it of: pairs, or slopes by reconstructions), and `floor`, the bare encoder
    matmul with its [B, n] result. `update` is what the step takes beyond `gradients`. With dead latents `gradients` has
    their AuxK, too.
    """

    def __init__(self, config: BenchmarkConfig, mesh: Mesh):
        self.config, self.mesh = config, mesh
        self.method = make_method(config.method)
        optimizer = make_optimizer(config.optimization, config.seed, self.method.rates)
        widths = Widths.of(config.d_model)
        init = make_init(self.method, optimizer, widths, ema=False)
        abstract = abstract_state(init, widths, mesh)
        steps = 10**6
        lazy = config.optimization.lazy_rows
        self.step_config = StepConfig(config.rows_of_a_batch, widths, config.compute_dtype, lazy_rows=lazy)
        self.update = make_update(self.method, optimizer, self.step_config)
        self.parts = Parts(self.method, self.update, mesh, config.rows_of_a_batch, config.compute_dtype)
        # Compiled once for all states. None of them knows of `self`, whose arrays are freed with its last name.
        self.floor, self.encode, self.decode = (
            self.parts.floor(self.floor_parts),
            self.parts.encode(),
            self.parts.decode(),
        )
        check_fits(self._plan(abstract), available_bytes(mesh.local_devices[0]))
        step = make_step(self.method, optimizer, self.step_config, abstract, mesh)
        pace = Pace(schedule(config.optimization, 1e-6, steps), np.int32(NEVER_DEAD))
        self.pace = jax.device_put(pace, shardings(mesh, P()))
        x = jax.ShapeDtypeStruct((config.rows_of_a_batch, config.d_model), jnp.float32, sharding=batch_sharding(mesh))
        self.compiled = step.lower(abstract, x, self.pace).compile()
        self._check_compiled(available_bytes(mesh.local_devices[0]))
        self.state = create_state(init, config.seed, Normalization.identity(config.d_model), widths, mesh)
        self.kill(config.dead_fractions[0])
        rng = np.random.default_rng(config.seed)
        draw = lambda: rng.normal(size=x.shape).astype(np.float32)
        self.batches = [jax.device_put(draw(), batch_sharding(mesh)) for _ in range(FRESH_BATCHES)]

    def _plan(self, abstract: TrainState) -> MemoryPlan:
        data, model = self.mesh.devices.shape
        sizes = self.config.method.width // model, self.config.d_model, data
        with compiling_for(self.mesh):
            forms = forms_gradient(self.method, self.config.rows_of_a_batch, self.update, *sizes)
        return plan_memory(abstract, _bytes_of_rows(self.config, self.mesh), forms)

    def _check_compiled(self, available: int | None) -> None:
        """Refuses a step whose workspace, which the compiler alone knows, is too much."""
        analysis = self.compiled.memory_analysis()
        needed = _held(analysis) + analysis.temp_size_in_bytes
        if available is not None and needed > available:
            raise InputError(
                f"the step needs {needed / GIB:.1f} GiB on each device, {analysis.temp_size_in_bytes / GIB:.1f} of them "
                f"workspace, and {available / GIB:.1f} are free. Take a smaller --width or --batch_size, "
                "or --optimizer=adam_bf16."
            )

    def kill(self, share: float) -> None:
        """From here on `share` of the latents are dead, in the state and in `calls`; they do not come back to life."""
        self.dead = share
        if share:
            self.state = _with_dead(self.state, share)

    def memory(self) -> dict[str, int]:
        """Bytes of one device: temporaries, and everything that stands at the step's peak."""
        analysis = self.compiled.memory_analysis()
        stats = self.mesh.local_devices[0].memory_stats() or {}
        peak = stats.get("peak_bytes_in_use", _held(analysis) + analysis.temp_size_in_bytes)
        return {"peak_memory_bytes": peak, "temp_bytes": analysis.temp_size_in_bytes}

    def calls(self) -> dict[str, Callable[[int], Any]]:
        """Name -> call, for `time_in_turn`, in the state that holds; `encode` and `decode` where latents go by pairs."""
        of_batch = lambda number: self.batches[number % FRESH_BATCHES]
        gradients = self.parts.gradients(self.dead_route)
        calls = {
            "floor": lambda number: self.floor(self.state.params, of_batch(number)),
            "step": self._step,
            "gradients": lambda number: gradients(self.state.params, of_batch(number), self.state.since_fired),
        }
        if self.route != "pairs":
            return calls
        lists = self.encode(self.state.params, self.batches[0])
        return calls | {
            "encode": lambda number: self.encode(self.state.params, of_batch(number)),
            "decode": lambda number: self.decode(self.state.params, *lists),
        }

    @property
    def route(self) -> str:
        """How the latents that reconstruct are found on a device."""
        data, model = self.mesh.devices.shape
        sizes = self.config.rows_of_a_batch, self.config.method.width // model, self.config.d_model, data
        with compiling_for(self.mesh):
            return route_of(self.method, *sizes)

    @property
    def dead_route(self) -> DeadRoute | None:
        """How dead latents go: by tiles, by pairs where there are more than there is room for; None: there are none."""
        if not self.dead:
            return None
        width, model = self.config.method.width, self.mesh.shape[MODEL]
        dead = np.asarray(dead_latents(width, self.dead)).reshape(model, -1).sum(1).max()
        return "tiles" if dead <= capacity_for_dead(width // model) else "pairs"

    def _step(self, number: int):
        self.state, self.metrics = self.compiled(self.state, self.batches[number % FRESH_BATCHES], self.pace)
        return self.metrics, self.state.step

    @property
    def floor_parts(self) -> int:
        """Of how many equal parts of the latents the floor multiplies one; its seconds are to be multiplied by it."""
        width = self.config.method.width // self.mesh.shape[MODEL]
        rows, parts = self.config.rows_of_a_batch // self.mesh.shape[DATA], 1
        while rows * width // parts > FLOOR_NUMBERS and width % (2 * parts) == 0:
            parts *= 2
        return parts

    @property
    def dead_share(self) -> float:
        """Of the latents, at the last step that was timed."""
        return int(self.metrics.dead) / self.config.method.width


def _held(analysis: Any) -> int:
    """Bytes that a program takes and gives back, by the compiler's account."""
    return analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes


def _with_dead(state: TrainState, share: float) -> TrainState:
    """`state` with `share` of its latents dead, and kept from firing by short encoder rows."""
    dead = dead_latents(len(state.since_fired), share)

    @partial(jax.jit, donate_argnums=0, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, state))
    def put(state: TrainState) -> TrainState:
        w_enc = state.params.W_enc * jnp.where(dead, DEAD_LENGTH, 1)[:, None]
        since_fired = jnp.where(dead, SINCE_LIMIT, state.since_fired)
        return state.replace(params=state.params.put(W_enc=w_enc), since_fired=since_fired)

    return put(state)


def _bytes_of_rows(config: BenchmarkConfig, mesh: Mesh) -> int:
    """Batches that are kept, and the floor's [B, n] result, on one device."""
    result = min(FLOOR_NUMBERS, config.rows_of_a_batch * config.method.width // mesh.size)
    return 4 * (FRESH_BATCHES * config.rows_of_a_batch * config.d_model // mesh.shape[DATA] + result)
