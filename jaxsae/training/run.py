"""The directory of a run: its flag file, its metrics, its checkpoints; and a dictionary out of it."""

import socket
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsae.config import from_dict, to_dict, write_flag_file
from jaxsae.dictionary import (
    Dictionary,
    MethodConfig,
    Normalization,
    Widths,
    check_switches,
    fold,
    make_method,
)
from jaxsae.errors import InputError
from jaxsae.hosts import processes
from jaxsae.parallel import make_mesh
from jaxsae.paths import check_above, check_encoding
from jaxsae.progress import is_first_process, say
from jaxsae.training.changes import changed_flags
from jaxsae.training.checkpoint import Checkpoints, read_dictionary, read_metadata
from jaxsae.training.config import TrainConfig
from jaxsae.training.state import TrainState, abstract_params, scale_shape, trained_params

FLAGS = "config.flags"
SET_FLAGS = "each.flags"  # of a directory whose runs are of a site each
SET_IMPORTED = "each.json"  # the same of an imported set, which no flags of ours made
CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
AVERAGE_THRESHOLD = "average_threshold"  # in a checkpoint's metadata: BatchTopK's for the averaged weights
START_FVU = "start_fvu"  # in a checkpoint's metadata: FVU of the weights that the run began with, where that is known


def open_run(config: TrainConfig) -> Path:
    """Makes the run's directory, or checks that what it holds was made by the same configuration.

    Raises:
      InputError: the directory holds another configuration, or something that is no run.
    """
    workdir = Path(config.workdir)
    check_encoding("--workdir=", config.workdir)
    # One after the other, so that what process 0 writes is not half there when another looks.
    processes.from_first("open the run", lambda: _claim(workdir, config))
    if not is_first_process() and not (workdir / FLAGS).exists():
        raise InputError(
            f"--workdir={workdir}: {socket.gethostname()} does not see what process 0 has just written there. It must "
            "lie on a file system that all hosts share, under the same path."
        )
    return workdir


def _claim(workdir: Path, config: TrainConfig) -> None:
    check_above("--workdir=", workdir)
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir={workdir}: is a file. Give a directory.")
    flags = workdir / FLAGS
    if not flags.exists():
        check_switches(config.method)  # an older run goes on with what it was begun with
    if flags.exists():
        before, changes = changed_flags(flags, config, moved=any((workdir / CHECKPOINTS).glob("*")))
        if changes and has_begun(workdir):
            raise InputError(
                f"--workdir={workdir}: holds a run with another configuration: {', '.join(changes)}. "
                "Give another --workdir, or the flags of that run to resume it."
            )
        if has_checkpoints(workdir) and before.steps != config.steps:
            return  # the file changes once the run is sure to go on
    elif (workdir / SET_FLAGS).exists():
        raise InputError(f"--workdir={workdir}: holds runs of several sites. Give another directory.")
    elif (workdir / "sites").exists():
        raise InputError(f"--workdir={workdir}: holds a store. Give another directory, such as {workdir}-run.")
    elif (workdir / CHECKPOINTS).exists():
        raise InputError(
            f"--workdir={workdir}: holds checkpoints but no {FLAGS}. Give another --workdir; to go on from its "
            f"weights, add --initialize_from={workdir}."
        )
    workdir.mkdir(parents=True, exist_ok=True)
    write_flag_file(flags, config, "train")


def has_begun(workdir: Path) -> bool:
    """Whether steps were taken; a configuration that was refused, for want of memory say, may be mended."""
    return (workdir / METRICS).exists() or any((workdir / CHECKPOINTS).glob("*"))


def has_checkpoints(workdir: Path) -> bool:
    """Whether there is a complete checkpoint."""
    return any(path.name.isdigit() for path in (workdir / CHECKPOINTS).glob("*"))


def find_checkpoints(path: str | Path) -> Path:
    """The checkpoints of a run; a directory of checkpoints is taken as it is.

    Raises:
      InputError: neither is there, or its name is not read as it was written.
    """
    path = Path(path)
    check_encoding("", path)  # else a sound checkpoint, sought under another name, is called damaged
    if (path / CHECKPOINTS).is_dir():
        return path / CHECKPOINTS
    if path.is_dir() and CHECKPOINTS in (path.name, path.parent.name):
        return path if path.name == CHECKPOINTS else path.parent
    if any((path / name).is_file() for name in (SET_FLAGS, SET_IMPORTED)):
        runs = sorted(p.name for p in path.iterdir() if (p / CHECKPOINTS).is_dir())
        raise InputError(
            f"{path}: holds runs of several sites, {', '.join(runs) or 'none yet'}. Give one: {path}/SITE."
        )
    raise InputError(f"{path}: no run here (no {CHECKPOINTS}/). Give the --workdir of a `jaxsae train`.")


def find_dictionary(run: str | Path) -> tuple[Path, int, dict[str, Any]]:
    """The checkpoints of a run, the step that is named or else the newest one, and its metadata.

    Raises:
      InputError: there is no run, or no such checkpoint in it.
    """
    directory = find_checkpoints(run)
    # A run may itself lie in a directory of that name and be called by a number: then it holds checkpoints.
    named = Path(run).name if directory.absolute() == Path(run).absolute().parent else ""
    return directory, *read_metadata(directory, int(named) if named.isdigit() else None)


def load(run: str | Path, mesh: Mesh | None = None) -> Dictionary:
    """The dictionary of a run, of its newest checkpoint where none is named, with its normalisation folded in.

    Args:
      run: a run's directory, or one of its checkpoints (`RUN/checkpoints/STEP`).
      mesh: where its latents go; default: the first device.

    Raises:
      InputError: there is no run, or its checkpoint is damaged.
    """
    mesh = mesh or make_mesh((1, 1), jax.local_devices()[:1])
    directory, step, metadata = find_dictionary(run)
    method = from_dict(MethodConfig, metadata["method"])
    part = read_dictionary(directory, step, abstract_dictionary(method, metadata, mesh))
    params = part["params"]
    if "average" in part:
        state = TrainState(moments=None, since_fired=None, **part)
        params = trained_params(state, metadata["ema_decay"], make_method(method))
    read, written = Normalization(part["mean"], part["scale"]).sides(widths_of(metadata))
    made = make_method(method)
    params = fold(params, read, made.pre_bias, made.selection, written)
    threshold = float(threshold_of(part, metadata, directory / str(step)) / (written or read).unit)
    return Dictionary(params, method, {**metadata["dictionary"], "step": step}, mesh, threshold)


def threshold_of(part: dict[str, Any], metadata: dict[str, Any], checkpoint: Path) -> float | jax.Array:
    """BatchTopK's, of the weights that are used."""
    if "average" in part and from_dict(MethodConfig, metadata["method"]).has_threshold:
        if AVERAGE_THRESHOLD in metadata:
            return metadata[AVERAGE_THRESHOLD]
        say(f"{checkpoint}: an older jaxsae wrote it, with the threshold of its last weights, not of their average.")
    return part["threshold"]


def abstract_dictionary(config: MethodConfig, metadata: dict[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Shapes, types and shardings of a checkpoint's `dictionary` part."""
    widths = widths_of(metadata)
    leaf = lambda shape, spec, dtype="f4": jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))
    params = abstract_params(make_method(config), widths, mesh)
    count = leaf((), P(), "i4")
    number = leaf((), P())
    out = {"step": count, "skipped": count, "threshold": number, "scale": leaf(scale_shape(widths), P())}
    out |= {"mean": leaf((widths.numbers,), P()), "params": params}
    if metadata["ema_decay"]:
        out["average"] = params
    return out


def save_dictionary(run: str | Path, dictionary: Dictionary) -> None:
    """Writes a dictionary as a run that `load`, `evaluate` and `export` take, and `train --initialize_from`.

    Raises:
      InputError: the directory already holds checkpoints.
    """
    directory = Path(run) / CHECKPOINTS
    if directory.exists():
        raise InputError(f"{directory}: exists already. Give another directory.")
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=dictionary.params,
        moments=None,
        since_fired=None,
        skipped=jnp.zeros((), jnp.int32),
        average=None,
        threshold=jnp.float32(dictionary.threshold),
        mean=jnp.zeros(dictionary.widths.numbers),
        scale=jnp.ones(scale_shape(dictionary.widths)),
    )
    metadata = checkpoint_metadata(dictionary.config, dictionary.widths, 0.0, dictionary.metadata)
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(int(dictionary.metadata.get("step", 0)), state, metadata)


def checkpoint_metadata(method: MethodConfig, widths: Widths, ema_decay: float, dictionary: dict[str, Any]) -> dict:
    """What a checkpoint says besides its arrays; `widths` where it is no autoencoder of one site."""
    several = {} if widths == Widths.of(widths.d_in) else {"widths": to_dict(widths)}
    known = {"method": to_dict(method), "d_model": widths.d_row, "ema_decay": ema_decay, "dictionary": dictionary}
    return known | several


def widths_of(metadata: dict[str, Any]) -> Widths:
    """The inverse, of a checkpoint's metadata."""
    found = metadata.get("widths")
    return Widths.of(metadata["d_model"]) if found is None else from_dict(Widths, found)
