"""A run judged while it trains, on the rows that it never sees: reconstruction, L0, and what its latents do.

As a training step computes it, in --compute_dtype; BatchTopK keeps k latents a row over each batch. `jaxsae evaluate`
judges the finished dictionary, in float32 and by its inference threshold, on the same rows.
"""

from functools import cached_property, lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxsae.dictionary import SPECS, Batch, Method, MethodConfig, Params, Widths
from jaxsae.hosts import processes
from jaxsae.parallel import DATA, MODEL, put_rows, rows_at_once, shardings
from jaxsae.store import select
from jaxsae.training.routes import report_of
from jaxsae.training.setup import Setup
from jaxsae.training.state import TrainState, trained_params
from jaxsae.training.step import in_trainer_units

MISSED = 0.1  # share of the L0 that is aimed at, by which it may be missed before that is said
RARE, DENSE = 1e-4, 0.1  # shares of a window's rows: below, a latent counts as rare, above, as dense


class HeldOut:
    """Judges states of one run on its held-out rows, in whole batches; the last few rows may be left out."""

    def __init__(self, setup: Setup):
        self._setup = setup
        available = [(0, setup.rows)] if setup.shards else setup.store.available
        ranges = select(available, setup.rows - setup.holdout, setup.rows)
        self._size = rows_at_once(setup.holdout, setup.config.batch_size, setup.mesh)
        self.rows = setup.holdout - setup.holdout % self._size
        self._ranges = select(ranges, 0, self.rows)

    def __call__(self, state: TrainState) -> dict[str, float | int]:
        """The figures of a state, by the names they have in metrics.jsonl; none where no rows are held out or there yet."""
        if not self.rows or not processes.from_first("held-out rows", self._are_there):
            return {}
        setup = self._setup
        judge = _judge(setup.method, setup.widths, self._size, setup.config.compute_dtype, setup.mesh)
        params, sums = self._params(state), np.zeros(2)
        counts = _no_counts(setup.config.method.width, setup.mesh)()
        for first in range(0, self.rows, self._size):
            x = put_rows(self._read(first, first + self._size), setup.mesh)
            batch_sums, counts = judge(params, counts, x, state.mean, state.scale)
            sums += np.asarray(batch_sums, np.float64)
        squared_error, active = sums
        never, rare, dense = np.asarray(_classes(self.rows, setup.mesh)(counts)) / setup.config.method.width
        variance = self._variance
        return {
            "held_out_rows": self.rows,
            "held_out_fvu": squared_error / variance if variance > 0 else float("nan"),
            "held_out_l0": active / self.rows,
            "held_out_dead_fraction": float(never),
            "held_out_rare_fraction": float(rare),
            "held_out_dense_fraction": float(dense),
        }

    def _params(self, state: TrainState) -> Params:
        """Those that the run's dictionary has: a copy of what is averaged, which the memory plan knows."""
        if state.average is None:
            return state.params
        return _averaged(state.replace(moments=None), self._setup.config.ema_decay, self._setup.method)

    def _are_there(self) -> bool:
        shards = self._setup.shards
        return shards is None or shards.has(self._ranges)

    def _read(self, first: int, last: int) -> np.ndarray:
        return self._setup.read(select(self._ranges, first, last))

    @cached_property
    def _variance(self) -> float:
        """Sum over the rows of ||t - their mean||^2 of what is written, in the trainer's units."""
        scale, written = self._setup.normalization.scale, self._setup.widths.written
        parts = (self._read(first, first + self._size) for first in range(0, self.rows, self._size))
        rows = [np.float64(written(part)) for part in parts]
        mean = sum(part.sum(0) for part in rows) / self.rows
        squares = sum(np.square(part - mean).sum(0) for part in rows)
        return float((squares * np.float64(written(scale) if np.ndim(scale) else scale) ** 2).sum())


def tells_rare(rows: int) -> bool:
    """Whether so many rows tell latents that are rare from those that fire on none of them."""
    return RARE * rows > 1


def words(figures: dict[str, Any]) -> str:
    """The figures in a line for people; empty where there are none."""
    if not figures:
        return ""
    fvu = (
        f"{figures['held_out_fvu']:.4g}"
        if np.isfinite(figures["held_out_fvu"])
        else "unknown, since they are all alike"
    )
    rows = figures["held_out_rows"]
    rare = f"on fewer than 1 in 10,000 {figures['held_out_rare_fraction']:.1%}, " if tells_rare(rows) else ""
    return (
        f"held-out rows ({rows:,}): fvu {fvu}, l0 {figures['held_out_l0']:.4g}, "
        f"latents that fire on none of them {figures['held_out_dead_fraction']:.1%}, "
        f"{rare}on more than 1 in 10 {figures['held_out_dense_fraction']:.1%}"
    )


def missed_l0(method: MethodConfig, figures: dict[str, Any]) -> str:
    """A warning where penalties have not brought about the L0 that was asked for; else empty."""
    asked, found = method.l0_target, figures.get("held_out_l0")
    if found is None or not asked or abs(found / asked - 1) <= MISSED:
        return ""
    fix = "it settles with more --tokens, or give another --target_l0"
    return f". WARNING: that is an l0 of {found:.4g} where {asked:g} was asked for; {fix}"


@partial(jax.jit, static_argnums=(1, 2))
def _averaged(state: TrainState, ema_decay: float, method: Method) -> Params:
    return trained_params(state, ema_decay, method)


@lru_cache(8)
def _judge(method: Method, widths: Widths, rows: int, dtype: str, mesh: Mesh):
    """The compiled function (params, counts [n], x [rows, numbers], mean, scale) -> ([squared error, active], counts)."""
    specs = (SPECS, P(MODEL), P(DATA, None), P(), P())
    device = partial(_device_judge, method=method, widths=widths, rows=rows, dtype=dtype)
    sharded = jax.shard_map(device, mesh=mesh, in_specs=specs, out_specs=(P(), P(MODEL)), check_vma=False)
    out = shardings(mesh, (P(), P(MODEL)))
    return jax.jit(sharded, in_shardings=shardings(mesh, specs), out_shardings=out, donate_argnums=1)


def _device_judge(params: Params, counts, x, mean, scale, *, method: Method, widths: Widths, rows: int, dtype: str):
    y, dead = in_trainer_units(x, mean, scale, dtype), jnp.zeros(counts.shape, bool)
    batch = Batch.of(y, widths, dead=dead, rows=rows, step_fraction=1.0, firing=0.0)
    report = report_of(method, params, batch)
    return jnp.stack([report.squared_error, report.active.astype(jnp.float32)]), counts + report.firings


@lru_cache(8)
def _no_counts(width: int, mesh: Mesh):
    """The compiled function () -> zeros int32 [width]."""
    return jax.jit(partial(jnp.zeros, (width,), jnp.int32), out_shardings=shardings(mesh, P(MODEL)))


@lru_cache(8)
def _classes(rows: int, mesh: Mesh):
    """The compiled function counts [n] -> int32 [3]: latents that fire on none of `rows` rows, on fewer than RARE of them,
    on more than DENSE."""
    # Compared with whole numbers: float32 would not tell 10 of 100 from 10.000001.
    few, many = int(np.ceil(RARE * rows)), int(np.floor(DENSE * rows))
    count = lambda c: jnp.stack([(c == 0).sum(), (c < few).sum(), (c > many).sum()])
    return jax.jit(count, out_shardings=shardings(mesh, P()))
