"""`jaxsae sweep`: checks everything, then works, or has local processes work, until the members have ended."""

from pathlib import Path
from typing import Any

from jaxsae.errors import InputError, MembersFailed
from jaxsae.files import check_writable
from jaxsae.hosts import processes
from jaxsae.hosts.preemption import StopAtStep
from jaxsae.parallel import make_mesh
from jaxsae.progress import is_first_process, say
from jaxsae.store import Store, open_store
from jaxsae.sweep import cost, table
from jaxsae.sweep.claims import Claims
from jaxsae.sweep.config import SweepConfig
from jaxsae.sweep.directory import SWEEP, is_sweep, open_sweep
from jaxsae.sweep.grid import Member, make_members
from jaxsae.sweep.local import run_local
from jaxsae.sweep.results import Results
from jaxsae.sweep.worker import Worker, judging


def sweep(config: SweepConfig) -> dict[str, Any]:
    """Trains the members of a grid that are not trained yet, fits the laws, and prints the table.

    Returns:
      What sweep.json holds; of a dry run, nothing.

    Raises:
      InputError: an empty or contradictory grid, members that cannot fit, a directory of another sweep, a changed store.
      MembersFailed: all members have ended, some of them in an error.
      Preempted: SIGTERM came; what was trained so far is saved.
    """
    members = make_members(config)
    _check_can_run(config)
    store = open_store(config.store)
    widths = cost.d_model_of(members, store)
    _check_can_judge(config, store, list(widths))
    if config.dry_run:
        print("\n".join(cost.lines(config, cost.costs(config, members, store), store)))
        if not config.topology:
            cost.Memory(store, make_mesh(config.mesh)).check(members)
        return {}
    if config.workers > 1:
        _check_alone(config)
        # A new one is made by the workers, once they have seen that its members fit: devices are theirs to ask.
        path = open_sweep(config, members, store) if is_sweep(Path(config.workdir)) else Path(config.workdir)
        run_local(config, path, members)
        return _conclude(config, path, widths, None)
    return _work(config, members, store, widths)


def _work(config: SweepConfig, members: list[Member], store: Store, widths: dict[str, int]) -> dict[str, Any]:
    memory = cost.Memory(store, make_mesh(config.mesh))
    memory.check(members)
    path = Path(config.workdir)
    processes.from_first("open the sweep", lambda: str(open_sweep(config, members, store)))
    with StopAtStep() as preemption, Claims(path, config.lease) as claims:
        results = Results(config, path, widths, claims)
        Worker(config, path, members, store, claims, results, memory, preemption).work()
        return _conclude(config, path, widths, claims)


def _check_can_run(config: SweepConfig) -> None:
    if config.evaluate and not processes.is_alone():
        raise InputError(
            f"--evaluate={','.join(config.evaluate)}: evaluation runs in one process, and this worker has several. Give "
            "--evaluate= and evaluate members afterwards with `jaxsae evaluate`; the same sweep then takes the figures up."
        )
    if config.csv:
        check_writable("csv", config.csv)


def _check_can_judge(config: SweepConfig, store: Store, sites: list[str]) -> None:
    if config.evaluate:
        judging(config, config.workdir)
    needs_model = [name for name in config.evaluate if name != "reconstruction"]
    for site in sites:
        if needs_model and not config.model and not store.metadata(site).get("model"):
            raise InputError(
                f"--evaluate={','.join(config.evaluate)}: {store.url} does not say which model its activations are of, and "
                f"{needs_model[0]} needs it. Give --model, or --evaluate=reconstruction."
            )


def _check_alone(config: SweepConfig) -> None:
    if not processes.is_alone():
        raise InputError(f"--workers={config.workers}: among several processes each worker is started by itself")


def _conclude(config: SweepConfig, path: Path, widths: dict[str, int], claims: Claims | None) -> dict[str, Any]:
    """The last sweep.json, the table, and an error where members failed."""
    if not is_first_process():
        return {}
    content = Results(config, path, widths, claims).write(last=True)
    print("\n".join(table.lines(content["members"])))
    if config.csv:
        table.write_csv(Path(config.csv), content["members"])
    statuses = [m["status"] for m in content["members"]]
    say(f"{path / SWEEP}: {statuses.count('finished')} of {len(statuses)} members finished")
    failed = [m["name"] for m in content["members"] if m["status"] == "failed"]
    if failed:
        raise MembersFailed(
            f"{len(failed)} of {len(statuses)} members failed: {', '.join(failed)} (see members/NAME/error.txt; "
            "--retry_failed trains them again)"
        )
    return content
