"""Whether a scheduler started this process among others: jax's own detection, and a refusal of half a cluster.

A process that overlooked the others would train alone, N times over, into one directory.
"""

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence

from jaxsae.errors import InputError

ALONE = "or add --distributed=off to run this process alone."


@dataclasses.dataclass(frozen=True)
class Place:
    """A process among others: where process 0 listens, how many there are, which this is, its devices (None: all)."""

    coordinator: str
    count: int
    process: int
    devices: Sequence[int] | None = None


def detect(timeout: int) -> Place | None:
    """The place that SLURM, Open MPI, a TPU slice or Kubernetes gives this process; None where it is alone.

    Raises:
      InputError: a scheduler's variables are there in part, or what they say cannot be used.
    """
    from jax._src.clusters import ClusterEnv  # what `jax.distributed.initialize()` itself asks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a missing package: told below, with what to do
        kinds = [kind for kind in ClusterEnv._cluster_types if not kind.opt_in_only_method]
        kind = next((kind for kind in kinds if _is_present(kind)), None)
    if kind is None:
        refuse_half_a_cluster(os.environ)
        return None
    try:
        count = kind.get_process_count()
        if count == 1:
            return None
        address = kind.get_coordinator_address(timeout, os.environ.get("JAX_COORDINATOR_PORT"))
        local = kind.get_local_process_id()
        return Place(address, count, kind.get_process_id(), None if local is None else [local])
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        raise InputError(
            f"--distributed=auto: {kind.name or kind.__name__} was found, but does not say where the other processes "
            f"are ({error}). Give --coordinator, --num_processes and --process_id, {ALONE}"
        ) from error


def _is_present(kind) -> bool:
    try:
        return kind.is_env_present()
    except Exception:  # Kubernetes' own, of a pod without a service account; the package need not be there
        return False


def refuse_half_a_cluster(environment: Mapping[str, str]) -> None:
    """Raises `InputError` where the environment speaks of several processes and jax cannot join them."""
    number = lambda name: int(environment[name]) if environment.get(name, "").isdigit() else 1
    explicit = "give --coordinator, --num_processes and --process_id"
    if "SLURM_JOB_ID" in environment and number("SLURM_NTASKS") > 1:
        raise InputError(
            f"SLURM_NTASKS={environment['SLURM_NTASKS']}: this is a job of several tasks, but this process is not one of "
            f"them. Start it with srun (see launch/slurm), {ALONE}"
        )
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "WORLD_SIZE"):
        if number(name) > 1:
            raise InputError(
                f"{name}={environment[name]}: several processes were started, by a launcher that jax cannot ask "
                f"where the first of them is: {explicit}, {ALONE}"
            )
    if len(environment.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1:
        raise InputError(f"TPU_WORKER_HOSTNAMES names several hosts, but jax found no TPU slice: {explicit}, {ALONE}")
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        raise InputError(
            "JOB_COMPLETION_INDEX: this is a pod of an indexed Job, but the package `kubernetes`, by which jax finds "
            f"the others, is not installed. Install jax[k8s], or {explicit}, {ALONE}"
        )
    if environment.get("JAX_COORDINATOR_ADDRESS"):
        raise InputError(
            f"JAX_COORDINATOR_ADDRESS={environment['JAX_COORDINATOR_ADDRESS']}: is set, and nothing by which jax finds the "
            f"other processes: {explicit}, {ALONE}"
        )
