"""What a run takes of a store: sites, the rows that it does not hold out, and how they are centred and scaled."""

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jaxsae.config import check
from jaxsae.dictionary import Normalization, Widths
from jaxsae.errors import InputError
from jaxsae.lm.sites import reached
from jaxsae.parallel import check_divides
from jaxsae.paths import absolute
from jaxsae.store import JoinedStore, Shards, Statistics, Store, open_growing, open_store
from jaxsae.training.config import TrainConfig


def opened(config: TrainConfig, give_up: Callable[[], object]) -> Store:
    """The store of the flags, with the one beside it; of a harvest that is followed, once there is something of it."""
    if config.beside:
        return JoinedStore(config.store, config.beside)
    return open_growing(config.store, give_up) if config.follow else open_store(config.store_url)


def default_site(store: Store, site: str) -> str:
    """`site`, or the only one of a store.

    Raises:
      InputError: it has several and none is named, or not the one named.
    """
    if not site and len(store.sites) == 1:
        return store.sites[0]
    if site not in store.sites:
        raise InputError(f"--site={site}: {store.url} has {', '.join(store.sites)}. Name one of them.")
    return site


def writes_flags(given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of `train` that follow from --writes, {name: value}."""
    return {"transcode": True}


def sites_of(store: Store, config: TrainConfig) -> tuple[tuple[str, ...], Widths]:
    """The sites whose rows stand side by side in a batch, those that are read first, and how wide they are.

    Raises:
      InputError: a site is not in the store, or which one is not said.
    """
    if not config.reads:
        site = default_site(store, config.site)
        return (site,), Widths.of(store.d_model(site))
    if config.cross_layer:
        return layers_of(store, config)
    for name in ("reads", "writes"):
        for site in getattr(config, name):
            check(site in store.sites, name, site, f"{store.url} has {', '.join(store.sites)}. Name those")
    return _side_by_side(store, config.reads, config.writes)


def _side_by_side(
    store: Store, reads: Sequence[str], writes: Sequence[str], layers: int = 1
) -> tuple[tuple[str, ...], Widths]:
    sites = tuple(dict.fromkeys((*reads, *writes)))
    written = tuple(map(sites.index, writes)) or None
    return sites, Widths(tuple(map(store.d_model, sites)), len(reads), written, layers)


def layers_of(store: Store, config: TrainConfig) -> tuple[tuple[str, ...], Widths]:
    """The sites of a cross-layer transcoder.

    Raises:
      InputError: a site is not in the store, layers are too few or do not rise, or their sites are not equally wide.
    """
    sides = {name: [s for p in getattr(config, name) for s in matched(store, name, p)] for name in ("reads", "writes")}
    for name, sites in sides.items():
        shown, blocks = ",".join(sites), [reached(site)[0] for site in sites]
        fix = "--cross_layer wants layers in their order, each once"
        check(all(a < b for a, b in pairwise(blocks)), name, shown, fix)
        wide = sorted({store.d_model(site) for site in sites})
        fix = f"--cross_layer wants sites of one width, and these have {', '.join(map(str, wide))}"
        check(len(wide) == 1, name, shown, fix)
    reads, writes = sides.values()
    fix = f"--cross_layer writes as many layers as it reads, two or more; read are {','.join(reads)}"
    check(len(writes) == len(reads) > 1, "writes", ",".join(writes), fix)
    check(not set(reads) & set(writes), "writes", ",".join(writes), "some of these are read, too")
    return _side_by_side(store, reads, writes, len(reads))


def matched(store: Store, flag: str, pattern: str) -> list[str]:
    """The sites of a store that a flag's name or pattern is for, in the order in which the model comes to them.

    Raises:
      InputError: there is none.
    """
    found = [site for site in store.sites if fnmatch.fnmatchcase(site, pattern)]
    check(bool(found), flag, pattern, f"{store.url} has {', '.join(store.sites)}. Name some of them")
    return sorted(found, key=reached)


def held_out(rows: int, wanted: int | None) -> int:
    """Rows kept for evaluation at the end of a store of `rows`."""
    return min(65_536, rows // 32) if wanted is None else wanted


def check_enough(config: TrainConfig, rows: int, url: str) -> None:
    """Raises `InputError` where `rows` of a store, less those held out, are fewer than a batch."""
    holdout = held_out(rows, config.holdout_rows)
    if rows - holdout < config.batch_size:
        fix = "Take a smaller batch" if config.source_run else "Harvest more tokens, or take a smaller batch"
        raise InputError(
            f"--batch_size={config.batch_size}: {url} has {rows} rows, {holdout} of them held out. "
            f"{fix} or fewer --holdout_rows."
        )


def normalization_of(store: Store, site: str, figures: Statistics, kind: str) -> Normalization:
    """How activations are centred and scaled, by their statistics: to mean norm sqrt(d_model), so that mean squares are 1."""
    d_model = store.d_model(site)
    spread = {"center_scale": figures.scale, "scale": figures.mean_square_norm**0.5}.get(kind)
    if spread is None:
        return Normalization.identity(d_model)
    if not np.isfinite(spread) or spread <= 0:
        raise InputError(f"{store.url}: site {site} has scale {spread}; its rows are all equal. Harvest another site.")
    scale = float(d_model**0.5 / spread)
    if not np.finfo(np.float32).tiny <= scale <= np.finfo(np.float32).max:
        raise InputError(
            f"{store.url}: site {site} has scale {spread:.4g}, whose inverse float32 does not hold. Harvest its rows "
            "multiplied by a number that brings them near 1."
        )
    mean = figures.mean if kind == "center_scale" else np.zeros(d_model, np.float32)
    return Normalization(mean.astype(np.float32), scale)


def check_can_remove(config: TrainConfig, shards: Shards, rows: int) -> None:
    """Refuses to remove what will be needed again, or by others, and a bound that would stop run and harvest."""
    store = shards.store
    if len(store.sites) > 1:
        raise InputError(
            f"--keep_bytes={config.keep_bytes}: {store.url} has {len(store.sites)} sites, and others may need theirs. "
            "Harvest one site for a run that removes what it has read."
        )
    if config.steps > rows // config.batch_size:
        raise InputError(
            f"--tokens={config.tokens}: more than the {rows} rows of {store.url}, which are read once with --keep_bytes. "
            "Harvest more tokens, or train on fewer."
        )
    steps = (config.keep_checkpoints + 1) * config.checkpoint_every + config.calibration_steps
    needed = shards.bytes_needed(steps, config.batch_size)
    if config.keep_bytes < needed:
        raise InputError(
            f"--keep_bytes={config.keep_bytes}: a resume may need the rows since the oldest of "
            f"--keep_checkpoints={config.keep_checkpoints}, and rows are mixed within windows of shards: give at least "
            f"{needed}, or a smaller --checkpoint_every={config.checkpoint_every}."
        )


def with_sites(config: TrainConfig, widths: Widths, mesh: Mesh) -> TrainConfig:
    """The same with what the method of a crosscoder, or a cross-layer transcoder, knows of its sites.

    Raises:
      InputError: --site_widths or --layers say something else, or --width does not divide over shards that
        hold as many latents of each layer.
    """
    if widths.layers > 1:
        said, fix = config.method.layers, f"--reads are of {widths.layers}. Leave it out: it follows from these"
        check(said in (1, widths.layers), "layers", said, fix)
        config = dataclasses.replace(config, method=dataclasses.replace(config.method, layers=widths.layers))
        check_divides(mesh, config.method.width, config.batch_size, widths.layers)
        return config
    if widths.writes is not None or widths.reads == 1:
        return config
    said = config.method.site_widths
    fix = (
        f"--reads={','.join(config.reads)} have {','.join(map(str, widths.sites))}. Leave it out: it follows from these"
    )
    check(said in ((), widths.sites), "site_widths", ",".join(map(str, said)), fix)
    return dataclasses.replace(config, method=dataclasses.replace(config.method, site_widths=widths.sites))


def beside_of(store: Store) -> dict[str, Any]:
    """What checkpoints say of the store of another model that stands beside a run's own; nothing where none does."""
    if not isinstance(store, JoinedStore):
        return {}
    told = store.beside.metadata(store.beside.sites[0])
    marks = [known.get("fingerprint", "") for known in (store.metadata(store.sites[0]), told)]
    about = {"beside": absolute(store.beside.url), "beside_model": told.get("model", "")}
    return about | {"fingerprint": " ".join(marks)}
