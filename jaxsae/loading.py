"""A dictionary by name: a run, one of its checkpoints, another tool's files in a directory, or those on the hub."""

import dataclasses
from pathlib import Path

import jax
from jax.sharding import Mesh

from jaxsae.dictionary import SPECS, Dictionary
from jaxsae.errors import InputError
from jaxsae.exchange.formats import find, read_any
from jaxsae.exchange.hub import directory_of
from jaxsae.parallel import MODEL, shardings
from jaxsae.training import load as load_run
from jaxsae.training.run import CHECKPOINTS, FLAGS, SET_FLAGS


def load(
    name: str | Path,
    mesh: Mesh | None = None,
    *,
    format: str | None = None,
    k: int | None = None,
    layer: int | None = None,
    site: str = "",
) -> Dictionary:
    """A dictionary, in units of the activations.

    Args:
      name: a run's directory, of which the newest checkpoint is taken; RUN/checkpoints/STEP; a directory with files that
        `jaxsae export` or another tool wrote; or a hub id, OWNER/NAME, OWNER/NAME/FOLDER, either with @REVISION. What lies
        on the disk comes first.
      mesh: where its latents go; default: the first device.
      format: whose files they are; default: what the files say.
      k: active latents of a row on average, where files leave it open (a jumprelu's). The same of a run that was trained
        for several is `load(run).with_k(k)`.
      layer: which layer's transcoder, of files that hold several.
      site: what the activations are called, READ->WRITTEN of a transcoder, of files that do not say it.

    Raises:
      InputError: nothing there; neither a run nor files of a known format, which says what was looked for; damaged files;
        pickles; no network.
    """
    path = Path(name).expanduser().absolute()
    if is_run(path):
        for argument, value in (("format", format), ("k", k), ("layer", layer), ("site", site or None)):
            if value is not None:
                own = "; take another k by load(run).with_k(k)" if argument == "k" else ""
                raise InputError(
                    f"load({argument}={value!r}): {path} is a run, which says that itself{own}. Leave it out."
                )
        return load_run(path, mesh)
    folder = _folder(str(name))
    dictionary = read_any(folder, format or _format(folder, name), site, k=k, layer=layer)
    return dictionary if mesh is None else on_mesh(dictionary, mesh)


def is_run(path: Path) -> bool:
    """Whether a directory, named from the root, is a run, its checkpoints or one of them, or runs of several sites."""
    within = path.is_dir() and CHECKPOINTS in (path.name, path.parent.name)
    return within or (path / CHECKPOINTS).is_dir() or any((path / file).is_file() for file in (FLAGS, SET_FLAGS))


def on_mesh(dictionary: Dictionary, mesh: Mesh) -> Dictionary:
    """The same dictionary with its latents split over another mesh.

    Raises:
      InputError: they do not split evenly.
    """
    shards = mesh.shape[MODEL]
    if dictionary.width % (shards * dictionary.config.layers):
        raise InputError(
            f"load(mesh=...): {dictionary.width} latents do not divide over {shards} shards of the model axis."
        )
    return dataclasses.replace(dictionary, params=jax.device_put(dictionary.params, shardings(mesh, SPECS)), mesh=mesh)


def _folder(name: str) -> Path:
    try:
        return directory_of(name, "load")
    except InputError as error:
        raise InputError(f"load({name!r}): no run here; {str(error).removeprefix(f'load={name}: ')}") from None


def _format(folder: Path, name: str | Path) -> str:
    try:
        return find(folder)
    except InputError as error:
        told = str(error).removeprefix(f"--input={folder}: ")
        raise InputError(f"load({str(name)!r}): is no run (no {CHECKPOINTS}/), and {told}") from None
