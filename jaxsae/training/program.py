"""The step of a configuration, on a mesh whose devices need not be there."""

import dataclasses
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import Method, Widths, make_method
from jaxsae.kernels.encode_topk.choose import explained
from jaxsae.parallel import DATA, MODEL, batch_sharding
from jaxsae.platform import compiling_for
from jaxsae.training.config import TrainConfig
from jaxsae.training.end_to_end.opened import ThroughModel
from jaxsae.training.end_to_end.texts import Text
from jaxsae.training.memory import MemoryPlan, plan_memory
from jaxsae.training.optimizer import Schedule, decoder_rate, make_optimizer, peak_rate, schedule, skip_rate
from jaxsae.training.routes import forms_gradient, requests_of
from jaxsae.training.state import TrainState, abstract_state, make_init
from jaxsae.training.step import SINCE_LIMIT, Pace, StepConfig, make_step, make_update


@dataclasses.dataclass(frozen=True)
class Program:
    """What `jaxsae train` runs and `jaxsae plan` compiles, from flags and the activations' widths and type alone.

    Rows come to the device as the store has them and become float32 there: half the bytes on the way, for bfloat16.
    `through`: the model that steps run, where they do.
    """

    config: TrainConfig
    widths: Widths
    mesh: Mesh
    batch_dtype: np.dtype | type = np.float32
    through: ThroughModel | None = None

    @cached_property
    def method(self) -> Method:
        """The method that the flags name."""
        return make_method(self.config.method)

    @cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimiser that the flags name."""
        return make_optimizer(self.config.optimization, self.config.seed, self.method.rates)

    @cached_property
    def init(self):
        """(key, mean, scale) -> TrainState."""
        return make_init(self.method, self.optimizer, self.widths, self.config.ema_decay > 0)

    @cached_property
    def abstract(self) -> TrainState:
        """The state's shapes and shardings."""
        return abstract_state(self.init, self.widths, self.mesh)

    @cached_property
    def step_config(self) -> StepConfig:
        """What the step takes from the flags."""
        config, optimization = self.config, self.config.optimization
        return StepConfig(
            batch_size=config.batch_size,
            widths=self.widths,
            compute_dtype=config.compute_dtype,
            ema_decay=config.ema_decay,
            clip_norm=optimization.clip_norm,
            lazy_rows=optimization.lazy_rows,
            aux=self.method.has_aux,
        )

    @property
    def batch(self) -> jax.ShapeDtypeStruct:
        """Shape and sharding of a batch."""
        shape = self.config.batch_size, self.widths.numbers
        return jax.ShapeDtypeStruct(shape, self.batch_dtype, sharding=batch_sharding(self.mesh))

    @property
    def peak_rate(self) -> float:
        """The learning rate between rise and fall."""
        # Of a layer's latents, which alone meet its rows.
        width, layers = self.config.method.width, self.widths.layers
        default = self.method.rates.peak(width // layers, self.widths.d_row, self.config.first_steps)
        return peak_rate(self.config.optimization, default, self.config.method.width)

    @property
    def rates(self) -> dict[str, float]:
        """The rates that flags and defaults come to, by the names of their flags."""
        factor = decoder_rate(self.config.optimization, self.method.rates.decoder)
        rates = {"learning_rate": self.peak_rate, "decoder_rate": factor}
        return rates | ({"skip_rate": skip_rate(self.config.optimization)} if self.config.method.skip else {})

    @property
    def defaults(self) -> dict[str, float]:
        """What flags and defaults come to that another version might have other defaults for, by the names of flags."""
        aux = self.method.aux
        return self.rates | (
            {"dead_tokens": self.config.dead_window, "aux_k": aux.k_of(self.widths.d_out)} if aux else {}
        )

    @cached_property
    def pace(self) -> Pace:
        """What the step takes from the flags as it runs, on every device."""
        lengths = schedule(self.config.optimization, self.peak_rate, self.config.steps, self.config.first_steps)
        numbers = Pace(lengths, np.int32(min(self.config.dead_window, SINCE_LIMIT)), np.uint32(self.config.seed))
        place = NamedSharding(self.mesh, P())
        return jax.tree.map(lambda n: jax.make_array_from_callback((), place, lambda _: n), numbers)

    @property
    def abstract_pace(self) -> Pace:
        """Its shapes, types and shardings."""
        place = NamedSharding(self.mesh, P())
        number = lambda dtype: jax.ShapeDtypeStruct((), dtype, sharding=place)
        return Pace(Schedule(number("f4"), *[number("i4")] * 4), number("i4"), number("u4"))

    @cached_property
    def key(self) -> tuple:
        """Programs with equal keys compile to the same step, which `pace` and the state then tell apart."""
        free = dict.fromkeys(("learning_rate", "warmup_fraction", "decay_fraction"), 0.0) | {"learning_rate": None}
        seed = self.config.seed if self.config.optimization.optimizer == "adam_bf16" else None  # rounds by it
        optimization = dataclasses.replace(self.config.optimization, **free)
        dtype = np.dtype(self.batch_dtype).name
        effect = self.through and (self.through.effect, self.through.batches.shape)
        return self.config.method, optimization, self.step_config, dtype, self.mesh, seed, effect

    @property
    def forms_gradient(self) -> bool:
        """Whether a whole gradient stands at some time of a step."""
        data, model = self.mesh.shape[DATA], self.mesh.shape[MODEL]
        update = make_update(self.method, self.optimizer, self.step_config)
        shapes = self.config.method.width // model, self.widths.d_out, data
        with compiling_for(self.mesh):
            return forms_gradient(self.method, self.config.batch_size, update, *shapes)

    def encoders(self) -> list[tuple[int, str, str | None]]:
        """For each selection of a step its k, the kernel that makes it, and why it is not the one made for the device."""
        data, model = self.mesh.shape[DATA], self.mesh.shape[MODEL]
        method = self.method
        requests = requests_of(method, self.config.batch_size, self.widths.d_out, aux=False) if method.ranks else ()
        width, dtype = self.config.method.width // model // self.widths.layers, jnp.dtype(self.config.compute_dtype)
        x = jax.ShapeDtypeStruct((self.config.batch_size // data, self.widths.d_row), dtype)
        w_enc = jax.ShapeDtypeStruct((width, self.widths.d_row), dtype)
        with compiling_for(self.mesh):
            return [
                (r.k, *(explained(x, w_enc, min(r.k, width)) if r.encoder == "auto" else (r.encoder, None)))
                for r in requests
            ]

    def memory(self) -> MemoryPlan:
        """Bytes of one device, workspace aside."""
        row_bytes = self.widths.numbers * np.dtype(self.batch_dtype).itemsize
        batches = (self.config.prefetch + 2) * self.config.batch_size * row_bytes // self.mesh.shape[DATA]
        return plan_memory(self.abstract, batches, self.forms_gradient)

    def lower(self) -> jax.stages.Lowered:
        """The step (state, batch, pace) -> (state, metrics), ready to be compiled; with a model, (.., pace, its weights)."""
        made = self.method, self.optimizer, self.step_config, self.abstract, self.mesh
        if not self.through:
            return make_step(*made).lower(self.abstract, self.batch, self.abstract_pace)
        step = make_step(*made, self.through.effect, self.through.specs)
        text = Text.abstract(self.through.batches.shape, self.config.batch_size, self.mesh)
        return step.lower(self.abstract, text, self.abstract_pace, self.through.abstract)
