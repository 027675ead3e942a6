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
from jaxsae.dictionary import SPECS, Batch, Normalization, make_method
from jaxsae.kernels import Request, Selected, decode, encode
from jaxsae.parallel import AXES, DATA, MODEL, batch_sharding, shardings
from jaxsae.training.memory import available_bytes, check_fits, plan_memory
from jaxsae.training.optimizer import make_optimizer, schedule
from jaxsae.training.state import abstract_state, create_state, make_init
from jaxsae.training.step import Pace, StepConfig, loss_and_gradient, make_step, make_update

FRESH_BATCHES = 4
NEVER_DEAD = 2**29  # rows: dead-latent accounting and AuxK are compiled in, and no latent is dead


class TimedStep:
    """A step on random weights and fresh random batches, and its parts.

    The parts are the same functions that the step is made of, compiled alone: `encode` (matmul and
    selection), `decode`, `gradients` (loss and gradient, which is one of pairs where the update sums them),
    and `floor`, the bare encoder matmul with its [B, n] result. `update` is what the step takes beyond `gradients`.
    """

    def __init__(self, config: BenchmarkConfig, mesh: Mesh):
        self.config, self.mesh = config, mesh
        self.method = make_method(config.method)
        optimizer = make_optimizer(config.optimization, config.seed, self.method.unit_decoder)
        init = make_init(self.method, optimizer, config.d_model, ema=False)
        abstract = abstract_state(init, config.d_model, mesh)
        check_fits(
            plan_memory(abstract, _bytes_of_rows(config, mesh), forms_gradient=False),
            available_bytes(mesh.local_devices[0]),
        )
        steps = 10**6
        lazy = config.optimization.lazy_rows
        self.step_config = StepConfig(config.rows_of_a_batch, config.compute_dtype, lazy_rows=lazy)
        self.update = make_update(self.method, optimizer, self.step_config)
        step = make_step(self.method, optimizer, self.step_config, abstract, mesh)
        pace = Pace(schedule(config.optimization, 1e-6, steps), np.int32(NEVER_DEAD))
        self.pace = jax.device_put(pace, shardings(mesh, P()))
        x = jax.ShapeDtypeStruct((config.rows_of_a_batch, config.d_model), jnp.float32, sharding=batch_sharding(mesh))
        self.compiled = step.lower(abstract, x, self.pace).compile()
        self.state = create_state(init, config.seed, Normalization.identity(config.d_model), mesh)
        rng = np.random.default_rng(config.seed)
        draw = lambda: rng.normal(size=x.shape).astype(np.float32)
        self.batches = [jax.device_put(draw(), batch_sharding(mesh)) for _ in range(FRESH_BATCHES)]

    def memory(self) -> dict[str, int]:
        """Bytes of one device: temporaries, and everything that stands at the step's peak."""
        analysis = self.compiled.memory_analysis()
        stats = self.mesh.local_devices[0].memory_stats() or {}
        held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
        peak = stats.get("peak_bytes_in_use", held + analysis.temp_size_in_bytes)
        return {"peak_memory_bytes": peak, "temp_bytes": analysis.temp_size_in_bytes}

    def calls(self) -> dict[str, Callable[[int], Any]]:
        """Name -> call, for `time_in_turn`."""
        dtype, k = self.config.compute_dtype, self.config.method.k
        sharded = partial(jax.shard_map, mesh=self.mesh, check_vma=False)
        rows, lists = P(DATA, None), P(DATA, MODEL)

        @jax.jit
        @partial(sharded, in_specs=(SPECS, rows), out_specs=lists)
        def floor(p, x):
            y = x.astype(dtype)
            return jnp.einsum("bd,nd->bn", y, p.W_enc.astype(dtype), preferred_element_type=jnp.float32)

        @jax.jit
        @partial(sharded, in_specs=(SPECS, rows), out_specs=(lists, lists))
        def encoded(p, x):
            (best,) = encode(x.astype(dtype), p.b_dec, p.W_enc, p.b_enc, (None,), (Request(k),))
            return best.values, best.indices

        @jax.jit
        @partial(sharded, in_specs=(SPECS, lists, lists), out_specs=rows)
        def decoded(p, values, indices):
            return decode((Selected(values, indices),), p.W_dec)[0]

        @jax.jit
        @partial(sharded, in_specs=(SPECS, rows), out_specs=P(AXES))
        def gradients(p, x):
            batch = Batch(x=x.astype(dtype), dead=jnp.zeros(p.b_enc.shape, bool), rows=self.config.rows_of_a_batch)
            (loss, _), gradient = loss_and_gradient(self.method, self.step_config, self.update, p, batch, False)
            return jax.tree.map(lambda a: a[None], (loss, gradient))  # a row for each device

        lists_of = encoded(self.state.params, self.batches[0])
        batch = lambda number: self.batches[number % FRESH_BATCHES]
        return {
            "floor": lambda number: floor(self.state.params, batch(number)),
            "step": self._step,
            "encode": lambda number: encoded(self.state.params, batch(number)),
            "decode": lambda number: decoded(self.state.params, *lists_of),
            "gradients": lambda number: gradients(self.state.params, batch(number)),
        }

    def _step(self, number: int):
        self.state, metrics = self.compiled(self.state, self.batches[number % FRESH_BATCHES], self.pace)
        return metrics, self.state.step


def _bytes_of_rows(config: BenchmarkConfig, mesh: Mesh) -> int:
    """Batches that are kept, and the floor's [B, n] result, on one device."""
    result = config.rows_of_a_batch * config.method.width // mesh.size
    return 4 * (FRESH_BATCHES * config.rows_of_a_batch * config.d_model // mesh.shape[DATA] + result)
