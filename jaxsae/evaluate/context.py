"""What the suites share: the dictionary, the store and model it came from, and the rows that training never saw."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsae.dictionary import Dictionary
from jaxsae.errors import InputError
from jaxsae.evaluate.config import EvaluateConfig, check_positions
from jaxsae.lm import weights
from jaxsae.lm.gpt import GPT, check_sites
from jaxsae.parallel import make_mesh
from jaxsae.store import JoinedStore, Store, location, open_store
from jaxsae.store.ranges import select
from jaxsae.store.schema import DECODER, SOURCE_STORE

FIRST_POSITION, LAST_POSITION = 4, 50  # where nothing says which plies were harvested


@dataclasses.dataclass(frozen=True)
class Context:
    """One evaluation: its flags and its dictionary, and what they name, opened when first asked for.

    `shared`: what is opened once for several, of runs on one store that are evaluated with the same flags.
    """

    config: EvaluateConfig
    dictionary: Dictionary
    shared: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    @cached_property
    def store(self) -> Store:
        """The store of `--store`, or the one that the dictionary was trained on; a meta-SAE's own moves with it."""
        beside = Path(self.config.run) / SOURCE_STORE
        there = is_meta_sae(self.dictionary.metadata) and beside.is_dir()
        url = self.config.store or (str(beside) if there else self.dictionary.metadata.get("store"))
        if not url:
            raise InputError(f"--store is required: {self.config.run} does not say what it was trained on")
        beside = self.dictionary.metadata.get("beside")
        return JoinedStore(url, beside) if beside else open_store(url)

    @cached_property
    def site(self) -> str:
        """The site of `--site`, or the dictionary's own; of several what is read and written, in a word."""
        site = self.config.site or self.dictionary.metadata.get("site")
        if not site:
            raise InputError(f"--site is required: {self.config.run} does not say which activations it takes")
        return site

    @property
    def transcodes(self) -> bool:
        """Whether the dictionary writes another site than it reads."""
        return self.dictionary.config.transcode

    @property
    def crosscodes(self) -> bool:
        """Whether the dictionary reads and writes several sites as one."""
        return bool(self.dictionary.config.site_widths)

    @property
    def layers(self) -> int:
        """Of a cross-layer transcoder; 1 of all else."""
        return self.dictionary.config.layers

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The sites that it reads."""
        return tuple(self.dictionary.metadata["reads"]) if self.transcodes or self.crosscodes else (self.site,)

    @cached_property
    def writes(self) -> tuple[str, ...]:
        """The sites that it writes."""
        return tuple(self.dictionary.metadata["writes"]) if self.transcodes or self.crosscodes else (self.site,)

    @cached_property
    def units(self) -> np.ndarray | None:
        """float32 [d_out] where several sites are written: what brings each to a mean square of 1 a number, so that none
        outweighs the others; None: what is written is judged as it is."""
        if len(self.writes) == 1:
            return None
        self._check_sites()
        parts = [(self.store.d_model(site), self.store.statistics(site).scale) for site in self.writes]
        return np.concatenate([np.full(d, d**0.5 / scale, np.float32) for d, scale in parts])

    @cached_property
    def mean(self) -> np.ndarray:
        """float32 [d_out]: mean of what is written over the whole store."""
        self._check_sites()
        return np.concatenate([np.asarray(self.store.statistics(site).mean, np.float32) for site in self.writes])

    @property
    def attributes(self) -> dict[str, Any]:
        """What the store says of itself: model, tokenizer, context, settings."""
        return self.store.metadata(self.reads[0])

    @cached_property
    def trained_on_store(self) -> bool:
        """Whether the store is the dictionary's own, by its place or, where it was moved, by its fingerprint."""
        own, mark = (self.dictionary.metadata.get(name) for name in ("store", "fingerprint"))
        if mark and mark.split(" ")[0] == self.attributes.get("fingerprint"):
            return True
        return bool(own) and location.kvstore_spec(own) == location.kvstore_spec(self.store.url)

    @cached_property
    def ranges(self) -> list[tuple[int, int]]:
        """Rows of the store to evaluate on: the last ones, and of the dictionary's own store only held-out ones."""
        rows, url = self.store.rows, self.store.url
        allowed = rows
        if self.trained_on_store:
            allowed = min(rows, int(self.dictionary.metadata.get("holdout_rows") or 0))
        if not allowed:
            why = "training held out none of its rows (--holdout_rows=0)" if rows else "it has no complete rows"
            raise InputError(f"--store={url}: {why}; give another store with --store")
        return select(self.store.available, rows - min(allowed, self.config.rows), rows)

    @property
    def rows(self) -> int:
        """Number of rows in `ranges`."""
        return sum(stop - start for start, stop in self.ranges)

    def batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Activations of `ranges`, in order: what is read, float32 [at most batch_size, d_in], and what is to be written
        of it, [the same, d_out]; one array where that is the same.

        Raises:
          InputError: the dictionary takes another width, or a row holds NaN or Inf.
        """
        self._check_sites()
        size = self.config.batch_size
        for start, stop in self.ranges:
            for first in range(start, stop, size):
                last = min(first + size, stop)
                x = self.read(self.reads, first, last)
                yield x, x if self.writes == self.reads else self.read(self.writes, first, last)

    def read(self, sites: tuple[str, ...], first: int, last: int) -> np.ndarray:
        """Activations float32 [last - first, d] of rows of the store, sites side by side.

        Raises:
          InputError: a row holds NaN or Inf.
        """
        parts = [self.store.read(site, first, last).astype(np.float32) for site in sites]
        for site, part in zip(sites, parts, strict=True):
            check_finite(part, f"{self.store.url}, site {site}", first)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)

    @cached_property
    def model(self) -> GPT:
        """The model of `--model`, or the one that the dictionary's activations come from."""
        source = self.config.model or self.dictionary.metadata.get("model")
        if not source:
            raise InputError(f"--model is required: {self.config.run} does not say which model it belongs to")
        model = weights.load(source)
        check_sites(model.config, (*self.reads, *self.writes), flag="site")
        self._check_width(model.config.d_model, f"model {source}")
        return model

    @cached_property
    def positions(self) -> slice:
        """Plies of a game that were harvested."""
        metadata, config = self.dictionary.metadata, self.config
        first = _first_given(config.first_position, metadata.get("first_position"), FIRST_POSITION)
        last = _first_given(config.last_position, metadata.get("last_position"), LAST_POSITION)
        check_positions(first, last)
        return slice(first, last + 1)

    def _check_sites(self) -> None:
        store = self.store
        width = lambda sites: sum(map(store.d_model, sites))
        self._check_width(width(self.reads), f"site {'+'.join(self.reads)} of {store.url}")
        wanted, found = self.dictionary.widths.d_out, width(self.writes)
        if self.transcodes and wanted != found:
            raise InputError(
                f"--run={self.config.run} writes {wanted} numbers, and site {'+'.join(self.writes)} of {store.url} has "
                f"{found}: give the --store that it was trained on"
            )

    def _check_width(self, d_model: int, what: str) -> None:
        if d_model != self.dictionary.d_model:
            raise InputError(
                f"--run={self.config.run} takes activations of width {self.dictionary.d_model}, and those of {what} "
                f"have width {d_model}: give the --site, --store and --model that it was trained on"
            )


def is_meta_sae(metadata: Mapping[str, Any]) -> bool:
    """Whether a dictionary's rows were another one's decoder."""
    return metadata.get("source") == DECODER


def load_dictionary(run: str, mesh: tuple[int, ...] = (), flag: str = "run") -> Dictionary:
    """The dictionary of a run.

    Raises:
      InputError: no such directory, or no dictionary in it.
    """
    check_there(run, flag)
    from jaxsae.training import load  # the trainer's imports are heavy, and a dictionary may be given

    return load(run, mesh=make_mesh(mesh) if mesh else None)


def check_whole(dictionary: Dictionary, run: str) -> None:
    """Raises `InputError` naming a parameter that holds NaN or Inf: reconstructions would."""
    for name, leaf in (dictionary.params.latent | dictionary.params.shared).items():
        bad = int((~jnp.isfinite(leaf)).sum())
        if bad:
            raise InputError(
                f"--run={run}: {name} of its dictionary holds NaN or Inf in {bad:,} of {leaf.size:,} numbers, so that "
                "reconstructions would be NaN. Train again, or import files that are whole."
            )


def check_there(run: str, flag: str) -> None:
    """Raises `InputError` naming the flag where a run's directory is not there."""
    if not Path(run).is_dir():
        raise InputError(f"--{flag}={run}: no such directory. Give a run that `jaxsae train` or `jaxsae import` wrote.")


def check_finite(x_BxD: np.ndarray, what: str, first_row: int) -> None:
    """Raises `InputError` naming `what` and the first row of `x_BxD` that holds NaN or Inf."""
    bad = np.flatnonzero(~np.isfinite(x_BxD).all(axis=1))
    if len(bad):
        raise InputError(
            f"{what}: row {first_row + bad[0]} holds NaN or Inf, so nothing can be measured on it. "
            "Mend the store, or give another with --store."
        )


def _first_given(*values: int | None) -> int:
    return int(next(value for value in values if value is not None))
