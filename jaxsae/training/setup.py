"""What a run is made of, put together and checked before anything long starts."""

import dataclasses
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxsae.dictionary import Method, Normalization, Params, Widths, make_method
from jaxsae.parallel import batch_sharding, check_divides, make_mesh
from jaxsae.store import Batches, Shards, Statistics, Store, select
from jaxsae.training.config import TrainConfig
from jaxsae.training.end_to_end.opened import Rows, ThroughModel, open_model
from jaxsae.training.initial import check_initial, initial_params
from jaxsae.training.memory import MemoryPlan, available_bytes, check_fits, with_workspace
from jaxsae.training.program import Program
from jaxsae.training.rates import described_rates
from jaxsae.training.start import Start, by_linear_map, fit_start, sample, started
from jaxsae.training.state import TrainState, create_state
from jaxsae.training.taken import (
    check_can_remove,
    check_enough,
    held_out,
    normalization_of,
    opened,
    sites_of,
    with_sites,
)


@dataclasses.dataclass(frozen=True)
class Setup:
    """Store, mesh, method and compiled step of a run.

    `sites` are those of a batch, side by side, `statistics` theirs.
    """

    config: TrainConfig
    store: Store
    sites: tuple[str, ...]
    widths: Widths
    mesh: Mesh
    method: Method
    statistics: tuple[Statistics, ...]
    normalization: Normalization
    holdout: int
    shards: Shards | None = None
    models: dict[Any, Any] = dataclasses.field(default_factory=dict, compare=False)

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        store: Store | None = None,
        give_up: Callable[[], object] = lambda: False,
        models: dict[Any, Any] | None = None,
    ) -> "Setup":
        """Opens and checks everything that a bad flag could spoil.

        Args:
          store: that of the flags, where it is open. give_up: whether to wait no longer for a harvest.
          models: language models that are read once for several runs.

        Raises:
          InputError: store, site, mesh, initial weights or sizes that do not do. Preempted: `give_up` said so.
        """
        mesh = make_mesh(config.mesh)
        if not config.cross_layer:  # of which the layers are not known yet
            check_divides(mesh, config.method.width, config.batch_size)  # before a store is waited for
        store = store or opened(config, give_up)
        sites, widths = sites_of(store, config)
        config = with_sites(config, widths, mesh)
        check_initial(config, widths)
        shards = Shards(store, sites[0]) if config.follow else None
        rows = store.rows_planned if shards else store.rows
        holdout = held_out(rows, config.holdout_rows)
        check_enough(config, rows, store.url)
        if config.keep_bytes is not None:
            check_can_remove(config, shards, rows - holdout)
        window = shards.first_window(give_up) if shards else None
        known = store.statistics if window is None else partial(store.statistics_of, shards=window)
        figures = tuple(map(known, sites))
        parts = [normalization_of(store, *of, config.normalize) for of in zip(sites, figures, strict=True)]
        method, normalization = make_method(config.method), Normalization.beside(parts)
        made = config, store, sites, widths, mesh, method, figures, normalization, holdout, shards
        return cls(*made, {} if models is None else models)

    @property
    def rows(self) -> int:
        """Rows of the store, those to come included where it is followed."""
        return self.store.rows_planned if self.shards else self.store.rows

    @property
    def site(self) -> str:
        """What is read, and what is written where that is another site, in a word."""
        reads = "+".join(self.reads)
        return reads if self.widths.writes is None else f"{reads}->{'+'.join(self.writes)}"

    @property
    def reads(self) -> tuple[str, ...]:
        """The sites that are read."""
        return self.sites[: self.widths.reads]

    @property
    def writes(self) -> tuple[str, ...]:
        """The sites that are written."""
        return tuple(self.sites[i] for i in self.widths.targets)

    def read(self, ranges: Iterable[tuple[int, int]]) -> np.ndarray:
        """[rows, numbers] of the store, in its dtype, the sites side by side."""
        parts = [[self.store.read(site, *part) for site in self.sites] for part in ranges]
        return np.concatenate([part[0] if len(part) == 1 else np.concatenate(part, 1) for part in parts])

    @property
    def row_sharding(self) -> jax.sharding.NamedSharding:
        """Where a batch lies."""
        return batch_sharding(self.mesh)

    @cached_property
    def batches(self) -> Batches:
        """The training rows; those held out never come."""
        rows = (0, self.rows - self.holdout)
        size, seed, dtype = self.config.batch_size, self.config.order_seed, self.store.dtype(self.sites[0])
        return Batches(self.store, self.sites, size, seed, rows=rows, dtype=dtype, shards=self.shards)

    def wait_for_batch(self, step: int, give_up: Callable[[], object]) -> bool:
        """Waits until the rows of the batch of `step` are there; False once `give_up()`."""
        order = self.batches.order
        return self.shards.wait(order.stretch(order.locate(step)[0], 0, order.lanes).ranges, give_up)

    @cached_property
    def program(self) -> Program:
        """The step, before it is compiled."""
        return Program(self.config, self.widths, self.mesh, self.store.dtype(self.sites[0]), self.through)

    @cached_property
    def through(self) -> ThroughModel | None:
        """The model that steps run, and the text that it reads; None: they take rows of the store."""
        if not self.config.end_to_end.runs_model:
            return None
        rows = Rows(self.config.batch_size, self.config.order_seed, self.rows - self.holdout)
        model = self.config.end_to_end, self.store, self.sites, self.writes[0], self.mesh, rows, self.models
        return open_model(*model)

    @property
    def off_centre(self) -> np.ndarray:
        """float32 [numbers]: the mean of the rows less what they are centred by, in the trainer's units; 0 with
        --normalize=center_scale."""
        mean = np.concatenate([np.float32(figures.mean) for figures in self.statistics])
        return np.float32((mean - self.normalization.mean) * self.normalization.scale)

    @property
    def spreads(self) -> np.ndarray:
        """float64 [sites]: sqrt(E |x - mean|^2) of each site, in the trainer's units."""
        scale = np.broadcast_to(self.normalization.scale, self.widths.numbers)
        first = np.cumsum((0, *self.widths.sites[:-1]))
        return np.array([figures.scale for figures in self.statistics]) * scale[first]

    @property
    def norm_to_variance(self) -> float:
        """E ||t||^2 / E ||t - E t||^2 of what is written, as the trainer sees it: 1 where it is centred."""
        variance = np.square(self.spreads[list(self.widths.targets)]).sum()
        off_centre = np.square(np.float64(self.widths.written(self.off_centre))).sum()
        return 1 + float(off_centre / variance) if variance else 1.0

    @property
    def abstract(self) -> TrainState:
        """The state's shapes and shardings."""
        return self.program.abstract

    def fresh_state(self, tell: Callable[[str], object] = lambda line: None) -> TrainState:
        """The state before the first step; `tell` is told how the encoder starts, and at which rates the run trains."""
        return self.fresh_start(tell)[0]

    def fresh_start(self, tell: Callable[[str], object] = lambda line: None) -> tuple[TrainState, float | None]:
        """The state before the first step, and the FVU that it has; None where that is not known."""
        fvu, config = None, self.config
        state = create_state(self.program.init, config.seed, self.normalization, self.widths, self.mesh)
        if config.initialize_from:
            params = initial_params(config.initialize_from, config, self.normalization, self.widths, self.mesh)
        else:
            mean = self.off_centre
            start = self.start(state.params, mean)
            tell(f"{self.config.workdir}: {start}")
            means = self.widths.read(mean), self.widths.written(mean)
            params = started(state.params, np.float32(start.scale), *means, self.method.pre_bias, self.method.selection)
            if self.config.method.transcode and not self.method.ranks:
                x = self.sample(mean)
                rows = self.widths.read(x), self.widths.written(x)
                params, found = by_linear_map(params, *rows, self.method, self.mesh, self.config.batch_size)
                known = "rows say too little: 0" if found is None else f"the linear map of its rows, FVU {found:.3f}"
                tell(f"{self.config.workdir}: the decoder starts as {known}")
            # Before a penalty has made latents sparse, a start may well be better than where the run is to come to.
            fvu = start.fvu if self.method.ranks else None
        spread = float(self.spreads[0]) / self.widths.sites[0] ** 0.5
        tell(f"{self.config.workdir}: {described_rates(self.config, self.program.rates, spread)}")
        params = jax.device_put(params, jax.tree.map(lambda a: a.sharding, self.abstract.params))
        return state.replace(params=params), fvu

    def start(self, params: Params, mean: np.ndarray) -> Start:
        """How long the encoder is to start, by the flags or the rows there are at the start.

        Args:
          mean: [numbers], of the rows as the trainer sees them.
        """
        if self.config.method.transcode:
            return Start(self.config.start_scale or 1.0, "as a transcoder's does", of="random rows of length 1")
        if self.config.start_scale is not None:
            return Start(self.config.start_scale)
        if not self.method.fits_start:
            made = next((f"as --{n} has it" for n in ("tied", "aligned") if getattr(self.config.method, n)), None)
            return Start(1.0, made or f"as {self.method.name} is made")
        return fit_start(params, self.sample(mean), self.method, self.mesh, self.config.batch_size, self.config.seed)

    def sample(self, mean: np.ndarray) -> np.ndarray:
        """float32 [rows, numbers]: some of the rows that there are at the start, in the trainer's units less `mean`."""
        if self.shards:  # the rows that every run of this store has from the first
            ranges = [(0, min(self.shards.window_rows, self.rows - self.holdout))]
            self.shards.has(ranges)  # says so where they were removed
        else:
            ranges = select(self.store.available, 0, self.rows - self.holdout)
        rows = sample(self.read, ranges)
        return np.float32((rows - self.normalization.mean) * self.normalization.scale - mean)

    def compile(self) -> tuple[Any, MemoryPlan, int | None]:
        """The compiled step, its memory, and what the device has; refuses what cannot fit before it compiles."""
        plan, free = self.program.memory(), available_bytes(self.mesh.local_devices[0])
        check_fits(plan, free)
        compiled = self.program.lower().compile()
        plan = with_workspace(plan, compiled)
        check_fits(plan, free)
        return compiled, plan, free
