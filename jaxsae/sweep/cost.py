"""What members cost, before any of them starts: operations, bytes, memory and time."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxsae.errors import InputError
from jaxsae.parallel import check_divides, make_mesh
from jaxsae.store import Store
from jaxsae.sweep.compute import training_flops
from jaxsae.sweep.config import SweepConfig
from jaxsae.sweep.grid import Member
from jaxsae.training.memory import GIB, MemoryPlan, available_bytes
from jaxsae.training.program import Program
from jaxsae.training.setup import Setup
from jaxsae.training.taken import default_site, held_out, sites_of

_BUDGET = 60.0  # seconds in which steps are compiled and timed; what is left is scaled by operations
_STEPS = 3
_SHARE = 0.8  # of the free memory that members side by side may plan for: their steps need workspace too


def d_model_of(members: Sequence[Member], store: Store) -> dict[str, int]:
    """Width of the activations of each site that members are trained on.

    Raises:
      InputError: a site that the store does not have.
    """
    sites = dict.fromkeys(default_site(store, m.config.site) for m in members)
    return {site: store.d_model(site) for site in sites}


class Memory:
    """Bytes that members hold on one device, and how many it has; a shape is looked at once."""

    def __init__(self, store: Store, mesh: Mesh):
        self._store, self.mesh, self._plans = store, mesh, {}
        self.available = available_bytes(mesh.local_devices[0])

    def plan(self, member: Member) -> MemoryPlan:
        """Of one member, workspace aside."""
        sites, widths = sites_of(self._store, member.config)
        program = Program(member.config, widths, self.mesh, self._store.dtype(sites[0]))
        key = program.key, member.config.prefetch
        if key not in self._plans:
            self._plans[key] = program.memory()
        return self._plans[key]

    def check(self, members: Sequence[Member]) -> None:
        """Refuses members that cannot be trained here.

        Raises:
          InputError: naming those that do not fit, do not divide over the mesh, or have too few rows for a batch.
        """
        rows = self._store.rows
        for member in members:
            config = member.config
            try:
                check_divides(self.mesh, config.method.width, config.batch_size)
            except InputError as error:
                raise InputError(f"member {member.name}: {error}") from None
            if rows - held_out(rows, config.holdout_rows) < config.batch_size:
                raise InputError(
                    f"member {member.name}: --batch_size={config.batch_size}: {self._store.url} has {rows} rows, "
                    f"{held_out(rows, config.holdout_rows)} of them held out. Harvest more tokens, or take a smaller batch."
                )
        too_large = [m for m in members if self.available is not None and self.plan(m).total > self.available]
        if too_large:
            listed = ", ".join(f"{m.name} ({self.plan(m).total / GIB:.3g} GiB)" for m in too_large[:8])
            more = f" and {len(too_large) - 8} more" if len(too_large) > 8 else ""
            raise InputError(
                f"{len(too_large)} of {len(members)} members do not fit on a device with {self.available / GIB:.3g} GiB "
                f"free: {listed}{more}. Leave them out, give --mesh more devices or take --optimizer=adam_bf16."
            )

    def fit_together(self, members: Sequence[Member]) -> bool:
        """Whether members can be trained side by side: all states, and the largest gradient and batches once."""
        if self.available is None:
            return True
        plans = [self.plan(m) for m in members]
        states = sum(p.parameters + p.moments for p in plans)
        once = max(p.gradients for p in plans) + max(p.batch for p in plans)
        return states + once <= _SHARE * self.available


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of a member: operations, bytes of a checkpoint, bytes on one device, seconds (None: unknown), whether those are scaled
    from other members' by operations."""

    member: Member
    flops: float
    checkpoint: int
    memory: int
    seconds: float | None
    scaled: bool = False


def costs(config: SweepConfig, members: Sequence[Member], store: Store) -> list[Cost]:
    """Of every member: on the devices here, by a few timed steps; or on those of --topology, by the plan of a step."""
    widths = d_model_of(members, store)
    flops = {}
    for m in members:
        method, d = m.config.method, widths[default_site(store, m.config.site)]
        k = method.k if method.is_ranking else None
        flops[m.name] = training_flops(d, method.width, k, m.config.steps * m.config.batch_size)
    if config.topology:
        return _planned(config, members, widths, store, flops)
    memory = Memory(store, make_mesh(config.mesh))
    plans = {m.name: memory.plan(m) for m in members}
    seconds = _timed(members, store, flops, plans, memory.available)
    shards = memory.mesh.devices.shape[1]
    cost = lambda m, p: Cost(m, flops[m.name], shards * (p.parameters + p.moments), p.total, *seconds[m.name])
    return [cost(m, plans[m.name]) for m in members]


def _timed(members, store: Store, flops: dict[str, float], plans, available: int | None) -> dict[str, tuple]:
    """Name -> (seconds, whether its own step was not timed), from the smallest step on until the time for it is over."""
    started, timed, rate = time.perf_counter(), {}, None
    per_step = lambda m: flops[m.name] / m.config.steps
    programs = {}
    for member in sorted(members, key=per_step):
        setup = Setup.of(member.config, store)
        programs[member.name] = setup.program.key
        fits = available is None or plans[member.name].total < available
        if setup.program.key not in timed and fits and time.perf_counter() - started < _BUDGET:
            timed[setup.program.key] = _seconds_a_step(setup)
            rate = per_step(member) / timed[setup.program.key]
    out = {}
    for member in members:
        seconds = timed.get(programs[member.name])
        guess = seconds if seconds is not None else per_step(member) / rate if rate else None
        out[member.name] = (None if guess is None else guess * member.config.steps, seconds is None)
    return out


def _seconds_a_step(setup: Setup) -> float:
    step, state, pace = setup.compile()[0], setup.fresh_state(), setup.program.pace
    x = jax.device_put(setup.batches[0], setup.row_sharding)
    state, _ = jax.block_until_ready(step(state, x, pace))
    started = time.perf_counter()
    for _ in range(_STEPS):
        state, _ = step(state, x, pace)
    jax.block_until_ready(state)
    return (time.perf_counter() - started) / _STEPS


def _planned(config: SweepConfig, members, widths: dict[str, int], store: Store, flops) -> list[Cost]:
    from jaxsae.plan import PlanConfig
    from jaxsae.plan.run import figures_of_flags

    found: dict[Any, dict] = {}
    out = []
    for member in members:
        c = member.config
        plan = PlanConfig(
            topology=config.topology,
            d_model=widths[default_site(store, c.site)],
            batch_size=c.batch_size,
            mesh=c.mesh,
            compute_dtype=c.compute_dtype,
            ema_decay=c.ema_decay,
            prefetch=c.prefetch,
            method=c.method,
            optimization=dataclasses.replace(c.optimization, learning_rate=None),
        )
        if plan not in found:
            found[plan] = figures_of_flags(plan)
        figures = found[plan]
        state = (figures["parameters_bytes"] + figures["moments_bytes"]) * figures["devices"]
        seconds = figures["step_seconds_at_least"] * c.steps
        out.append(Cost(member, flops[member.name], state, figures["peak_bytes"], seconds))
    return out


def lines(config: SweepConfig, found: Sequence[Cost], store: Store) -> list[str]:
    """The dry run, for people."""
    head = f"{'member':<32}{'steps':>10}{'tokens':>16}{'rate':>10}{'operations':>12}{'GiB':>10}{'time':>12}"
    table = [head]
    for cost in found:
        c = cost.member.config
        rate = "" if c.optimization.learning_rate is None else f"{c.optimization.learning_rate:.3g}"
        clock = "?" if cost.seconds is None else ("~" if cost.scaled else "") + _clock(cost.seconds)
        table.append(
            f"{cost.member.name:<32} {c.steps:>9,} {c.steps * c.batch_size:>15,} {rate:>9} {cost.flops:>11.3g}"
            f" {cost.memory / GIB:>9.3f} {clock:>11}"
        )
    read = _bytes_read([cost.member for cost in found], store)
    known = [cost.seconds for cost in found if cost.seconds is not None]
    total = f"{_clock(sum(known))}" if len(known) == len(found) else "unknown"
    where = (
        f"a roofline of {config.topology}: at least" if config.topology else "on the devices here, evaluation aside:"
    )
    # One more than asked for: that from before the rate falls.
    disk = sum(cost.checkpoint * (cost.member.config.keep_checkpoints + 1) for cost in found)
    return [
        *table,
        f"{len(found)} members, {sum(cost.flops for cost in found):.4g} operations; {read / 1e9:.3g} GB read where one "
        f"worker trains all that share batches; checkpoints of {disk / 1e9:.3g} GB at most",
        f"time {where} {total} one after another" + ("" if config.topology else "; ~: scaled by operations, not timed"),
        f"memory: of one device while a member trains alone{'' if config.topology else ', workspace aside'}",
    ]


def _bytes_read(members: Sequence[Member], store: Store) -> float:
    """Of the store, where members that share batches are trained side by side."""
    from jaxsae.sweep.together import stream_of

    longest: dict[tuple, float] = {}
    for member in members:
        site, config = default_site(store, member.config.site), member.config
        size = config.steps * config.batch_size * store.d_model(site) * np.dtype(store.dtype(site)).itemsize
        longest[stream_of(member)] = max(longest.get(stream_of(member), 0.0), float(size))
    return sum(longest.values())


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 5400
        else f"{seconds / 60:.1f} min"
        if seconds >= 90
        else f"{seconds:.0f} s"
    )
