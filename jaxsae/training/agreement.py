"""What has to be the same before a run begins or goes on: flags and store in all processes, and the store it was begun on."""

from pathlib import Path

from jaxsae.config import to_dict
from jaxsae.errors import InputError
from jaxsae.hosts import processes
from jaxsae.training.about import metadata_of
from jaxsae.training.checkpoint import read_metadata
from jaxsae.training.run import CHECKPOINTS
from jaxsae.training.setup import Setup


def check_agreement(setup: Setup) -> None:
    """Refuses processes that would train on different flags or stores."""
    fix = "Give every process the same flags, and a --store that all hosts reach under the same name."
    store = {"the store's fingerprint": setup.store.metadata(setup.sites[0]).get("fingerprint")}
    flags = {f"--{name}": value for name, value in to_dict(setup.config).items()}
    processes.agree(store | {"rows in the store": setup.rows} | flags, fix)


def check_same_store(setup: Setup, workdir: Path, done: int) -> None:
    """Refuses to go on on other data than a run was begun on, or on more or fewer rows: its batches would be others."""
    began, goes_on = read_metadata(workdir / CHECKPOINTS, done)[1], metadata_of(setup)
    before, now = began["dictionary"], goes_on["dictionary"]
    again = "Give the store as it was, or another --workdir with --initialize_from for the weights."
    if before.get("fingerprint", now["fingerprint"]) != now["fingerprint"]:
        raise InputError(
            f"--store={setup.config.store}: is another store than the one that {workdir} was begun on: d_model "
            f"{goes_on['d_model']}, fingerprint {now['fingerprint']}; then d_model {began['d_model']}, fingerprint "
            f"{before['fingerprint']}. {again}"
        )
    rows = before.get("store_rows", now["store_rows"])
    if rows != now["store_rows"] and done < setup.config.steps:
        raise InputError(
            f"--store={setup.config.store}: has {now['store_rows']} rows, and had {rows} when {workdir} was begun. {again}"
        )
