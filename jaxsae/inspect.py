"""`jaxsae inspect PATH`: what is in a store, a run, a set of runs, a sweep or an export, in a screen."""

import dataclasses
import json
from pathlib import Path

import jax
from orbax.checkpoint import v1 as ocp

from jaxsae.config import from_dict, option
from jaxsae.dictionary import MethodConfig, Normalization, Widths
from jaxsae.errors import InputError
from jaxsae.evaluate.context import is_meta_sae
from jaxsae.exchange import describe_export
from jaxsae.progress import Progress
from jaxsae.store import open_store
from jaxsae.store.schema import COLUMNS
from jaxsae.store.summary import summary
from jaxsae.sweep import table
from jaxsae.sweep.claims import Claims
from jaxsae.sweep.directory import STATUSES, SWEEP, is_sweep, read_results
from jaxsae.training.checkpoint import read_dictionary, read_metadata
from jaxsae.training.metrics import read_metrics
from jaxsae.training.run import CHECKPOINTS, FLAGS, METRICS, load, widths_of
from jaxsae.training.sets import is_set, left_in, runs_in
from jaxsae.training.state import scale_shape


@dataclasses.dataclass(frozen=True)
class InspectConfig:
    """Flags of `jaxsae inspect`."""

    path: str = option(help="a store, a run, a set of runs, a sweep or an export; `jaxsae inspect PATH` for short")
    verify: bool = option(False, "read the whole store, or the run's newest dictionary, against its checksums")


def inspect(config: InspectConfig) -> str:
    """Prints, and returns, what is at the path.

    Raises:
      InputError: nothing that jaxsae knows is there; with `verify`, a file that is damaged.
    """
    text = _describe(config.path)
    if config.verify:
        text += "\n" + _verify(config.path)
    print(text)
    return text


def _verify(path: str) -> str:
    """Reads what has checksums; says what was read."""
    if is_sweep(Path(path)):
        raise InputError(f"--verify: {path} is a sweep. Name one of the runs in {path}/members.")
    if is_set(path):
        return "\n".join(f"{run.name:<10}{_verify(str(run))}" for run in runs_in(Path(path)))
    if _is_run(Path(path)):
        dictionary = load(path)
        return f"verified  the dictionary of step {dictionary.metadata['step']:,}"
    if Path(path).is_dir() and describe_export(path):
        raise InputError(f"--verify: {path} is an export, whose format has no checksums. Name a store or a run.")
    store = open_store(path)
    with Progress(store.rows * len(store.sites), "verify", "row", scale=True) as bar:
        for start, stop in store.available:
            for first in range(start, stop, store.shard_rows):
                last = min(first + store.shard_rows, stop)
                for column in COLUMNS:
                    store.column(column, first, last)
                for site in store.sites:
                    store.read(site, first, last)
                    bar.advance(last - first)
    return f"verified  {store.rows:,} rows of {', '.join(store.sites)}"


def _is_run(path: Path) -> bool:
    return (path / CHECKPOINTS).is_dir() or (path / FLAGS).is_file()


def _describe(path: str) -> str:
    local = Path(path)
    if is_sweep(local):
        return describe_sweep(local)
    if is_set(local):
        return describe_set(local)
    if _is_run(local):
        return describe_run(local)
    if local.is_dir() and (found := describe_export(local)):
        return found
    try:
        return summary(open_store(path))
    except InputError as error:
        if not local.exists() and "://" not in path:
            raise InputError(f"{path}: nothing there. Name a store, a run, a sweep or an export.") from None
        raise InputError(f"{path}: no run and no export here, and as a store: {error}") from None


def describe_sweep(sweep: Path) -> str:
    """A sweep: its grid, and each member with its figures, as sweep.json has them; a worker brings that up to date."""
    if not (sweep / SWEEP).is_file():
        return f"sweep     {sweep}\nis        begun, and no member has been started yet"
    content = read_results(sweep)
    members, claims = content["members"], Claims(sweep)
    for member in members:
        if member["status"] == "running" and claims.holder(member["name"]) is None:
            member["status"] = "waiting"  # its worker has gone without a word
    statuses = [m["status"] for m in members]
    counts = ", ".join(f"{statuses.count(s)} {s}" for s in STATUSES if s in statuses)
    grid = "  ".join(f"{name} {','.join(map(str, values))}" for name, values in content["grid"].items())
    lines = [f"sweep     {sweep}", f"store     {content['store']}", f"grid      {grid}", f"members   {counts}"]
    return "\n".join([*lines, "", *table.lines(members)])


def describe_set(path: Path) -> str:
    """A set: what is missing of it, and each of its runs."""
    left = left_in(path)
    head = [f"set       {path}", *([f"left      {left}"] if left else [])]
    return "\n\n".join(["\n".join(head), *map(describe_run, runs_in(path))])


def describe_run(run: Path) -> str:
    """A run: its dictionary, how far it is, its last figures and its evaluations."""
    lines = [f"run       {run}"]
    if (run / CHECKPOINTS).is_dir():
        step, metadata = read_metadata(run / CHECKPOINTS)
        method, about = metadata["method"], metadata["dictionary"]
        kind = f"{method['architecture']}, {method['width']:,} latents, d_model {metadata['d_model']}"
        config = from_dict(MethodConfig, method)
        kind += f", k {config.told_k:g}" if config.told_k else ""
        if config.has_threshold:
            kind += f", threshold {_threshold(run / CHECKPOINTS, step, widths_of(metadata)):.6g}"
        lines += [f"is        {kind}", f"step      {step:,}"]
        if is_meta_sae(about):
            control = {"random": "random directions for ", "gaussian": "Gaussian rows for "}
            rows = control.get(about.get("directions"), "") + "the decoder rows"
            step = f", step {about['source_step']:,}" if about.get("source_step") is not None else ""
            lines.append(f"meta-SAE  of {rows} of {about.get('source_run', 'another dictionary')}{step}")
        lines += [f"{name:<10}{about[name]}" for name in ("store", "site", "model") if about.get(name)]
    if last := read_metrics(run / METRICS)[-1:]:
        names = ("tokens", "loss", "fvu", "held_out_fvu", "l0", "dead_fraction", "dead_window")
        names += tuple(f"held_out_{kind}_fraction" for kind in ("dead", "rare", "dense"))
        shown = ", ".join(f"{n} {last[0][n]:.4g}" for n in names if last[0].get(n) is not None)
        lines.append(f"last      {shown}")
    for file in sorted((run / "eval").glob("*.json")):
        lines.append(f"eval      {file.stem}: {_headline(json.loads(file.read_text(encoding='utf-8')))}")
    return "\n".join(lines)


def _threshold(checkpoints: Path, step: int, widths: Widths) -> float:
    """The inference threshold in units of the activations, without the weights, which may be large."""
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    leaf = lambda shape: jax.ShapeDtypeStruct(shape, "f4", sharding=here)
    wanted = {"threshold": leaf(()), "scale": leaf(scale_shape(widths)), "mean": leaf((widths.numbers,))}
    loading = ocp.options.PyTreeOptions.Loading(partial_load=True)
    with ocp.Context(pytree_options=ocp.options.PyTreeOptions(loading=loading)):
        part = read_dictionary(checkpoints, step, wanted)
    read, written = Normalization(part["mean"], part["scale"]).sides(widths)
    return float(part["threshold"] / (written or read).unit)


def _headline(figures: dict) -> str:
    """The first few numbers that were measured; what the dictionary is stands above them."""
    known = ("width", "k", "threshold", "trained_tokens")
    is_number = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    numbers = {name: value for name, value in figures.items() if is_number(value) and name not in known}
    return ", ".join(f"{name} {value:.4g}" for name, value in list(numbers.items())[:6])
