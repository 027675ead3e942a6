"""A meta-SAE: a dictionary fitted to another one's decoder rows (Leask et al. 2025, 2502.04878).

Each row is one latent's direction at length 1: what a latent stands for is the direction, and its length, 1 in most
methods, would only weigh some latents above others. Row i is latent i, so latents that never fire have theirs too;
`evaluate` tells the two kinds apart. The store lies in the meta-SAE's directory, so that it outlives its source there.
"""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from jaxsae.config import check, read_flag_file
from jaxsae.dictionary import SWITCHES
from jaxsae.errors import InputError
from jaxsae.hosts import processes
from jaxsae.parallel import MODEL, check_divides, make_mesh
from jaxsae.paths import absolute
from jaxsae.progress import is_first_process, say
from jaxsae.store import Store
from jaxsae.store.schema import DECODER
from jaxsae.training.config import TrainConfig
from jaxsae.training.run import CHECKPOINTS, FLAGS, find_checkpoints, find_dictionary, has_begun, load, open_run
from jaxsae.training.source_rows import SourceRows
from jaxsae.training.taken import check_enough

K = 4  # meta-latents of a row on average, as 2502.04878 has them
STEPS, EPOCHS = 4000, 100  # a run has both at least
BATCH, BATCHES = 4096, 8  # rows of a batch at most; batches of an epoch at least


def source_flags(given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of `train` that follow from --source_run, {name: value}; those given take part, and stay as they are.

    Raises:
      InputError: no dictionary is there, or it is the one to be trained.
    """
    described = _described(given["source_run"], given.get("workdir") or "")[1]
    latents = described["method"]["width"]
    width = given.get("width", max(1, latents // 4))
    batch = given.get("batch_size", min(BATCH, 1 << max(latents // BATCHES, 1).bit_length() - 1))
    steps = max(STEPS, -(-EPOCHS * latents // max(batch, 1)))
    flags = {"store": "", "architecture": "batchtopk", "width": width, "holdout_rows": 0}
    if "k" in SWITCHES[given.get("architecture", "batchtopk")] and given.get("target_l0") is None:
        flags["k"] = max(1, min(K, width))
    # Not the source's: from one seed the narrower dictionary starts as the first rows that the wider one started with.
    flags["seed"] = (described["dictionary"].get("seed", -1) + 1) % 2**32
    return flags | {"batch_size": batch, "tokens": steps * batch}


def write_source_store(config: TrainConfig) -> None:
    """Makes the store of --source_run's decoder rows in --workdir, or sees that the one there has the same rows.

    Every process must call it. Nothing is written before the source was read, and --workdir found to be this run's.

    Raises:
      InputError: no dictionary is there, or it is the one to be trained; its decoder is not finite, or is another than
        the run was begun on and has no more; too few rows for a batch, another site; what `open_run` refuses.
    """
    mesh, (step, described) = make_mesh(config.mesh), _described(config.source_run, config.workdir)
    check_divides(mesh, config.method.width, config.batch_size)
    with processes.busy("reading the source's decoder"):
        mesh = _mesh_for(mesh, described["method"]["width"])
        decoder = load(config.source_run, mesh).params.W_dec
        rows = SourceRows(config.source_run, decoder, mesh, config.source_rows, config.seed)
        plan = rows.plan(step)
    there, workdir = _rows_there(config), Path(config.workdir)
    site, own = config.site or DECODER, plan.attributes()["fingerprint"]
    check(site == DECODER, "site", site, f"the rows of --source_run are site {DECODER}. Leave the flag out")
    check_enough(config, plan.rows, f"--source_run={config.source_run}")
    began = _began_on(workdir, there)
    if began not in (None, own):
        if not (there.get("fingerprint") == began and _is_as_begun(config)):
            raise InputError(
                f"--source_run={config.source_run}: has other rows (of step {step:,}, fingerprint {own}) than those "
                f"that {workdir} was begun on ({_words(there, began)}). Name the checkpoint that it was begun on "
                "where that is still there, RUN/checkpoints/STEP, and the same --source_rows and --seed, or give another "
                "--workdir."
            )
        say(
            f"{workdir} goes on with the rows that it was begun on ({_words(there, began)}); "
            f"{config.source_run} is at step {step:,} by now."
        )
        open_run(config)
        return
    open_run(config)
    if there and there["fingerprint"] != own and is_first_process():  # made for a run that never began
        shutil.rmtree(config.store_url)
    with processes.busy("writing the source's decoder"):
        rows.write(config.store_url, plan)
    processes.barrier("the decoder's rows are there")


def _described(run: str, workdir: str) -> tuple[int, dict[str, Any]]:
    """Step and metadata of the dictionary whose decoder is meant."""
    fix = "Give a run of `jaxsae train`, one of its checkpoints, or a dictionary of `jaxsae import`."
    if (Path(run) / "sites").is_dir():
        raise InputError(f"--source_run={run}: is a store, which --store takes. {fix}")
    if not Path(run).is_dir():
        raise InputError(f"--source_run={run}: no such directory. {fix}")
    try:
        directory = find_checkpoints(run)
    except InputError as error:
        raise InputError(f"--source_run={run}: no dictionary here (no {CHECKPOINTS}/). {fix}") from error
    if workdir and directory.resolve() == (Path(workdir) / CHECKPOINTS).resolve():
        raise InputError(f"--source_run={run}: is in --workdir={workdir}. Give the meta-SAE a directory of its own.")
    try:
        return find_dictionary(run)[1:]
    except InputError as error:
        raise InputError(f"--source_run={run}: {error}") from error


def _mesh_for(mesh: Mesh, latents: int) -> Mesh:
    """A mesh that the source's latents divide over: this run's, or one device."""
    if latents % mesh.shape[MODEL] and processes.is_alone():
        return make_mesh((1, 1), jax.local_devices()[:1])
    check_divides(mesh, latents, mesh.size)
    return mesh


def _rows_there(config: TrainConfig) -> dict[str, Any]:
    """What the store in --workdir says of its rows; empty where there is none."""
    with suppress(InputError):
        return Store(config.store_url).metadata(DECODER)
    return {}


def _began_on(workdir: Path, there: Mapping[str, Any]) -> str | None:
    """The fingerprint of the rows of a meta-SAE in `workdir`; None where none has taken a step yet."""
    with suppress(InputError):
        about = find_dictionary(workdir)[2]["dictionary"]
        if "source_run" in about:
            return about["fingerprint"]
    return there.get("fingerprint") if has_begun(workdir) else None


def _is_as_begun(config: TrainConfig) -> bool:
    """Whether a run has all its rows, and its flags are as they were: its source alone has been trained on since."""
    flags = Path(config.workdir) / FLAGS
    if not (flags.is_file() and Store(config.store_url).complete):
        return False
    before = read_flag_file(flags, TrainConfig)
    same = absolute(before.source_run) == absolute(config.source_run)
    return same and (before.source_rows, before.seed) == (config.source_rows, config.seed)


def _words(there: Mapping[str, Any], fingerprint: str) -> str:
    """Which rows: of which step, where the store is there and says it."""
    step = there.get("settings", {}).get("step")
    return f"fingerprint {fingerprint}" if step is None else f"of step {step:,}, fingerprint {fingerprint}"
