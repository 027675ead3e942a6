"""Rows of a store to search: held-out ones, or those before them as well."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from jaxsae.dashboard.places import Places
from jaxsae.dashboard.settings import Settings
from jaxsae.dashboard.source import ROWS, TEXT, Source
from jaxsae.errors import InputError
from jaxsae.evaluate.context import Context, is_meta_sae
from jaxsae.progress import prefetched
from jaxsae.store import select


def store_source(context: Context, settings: Settings) -> Source:
    """Rows of the store, the last ones: held-out ones, where training took them from it."""
    store = context.store
    context.mean  # noqa: B018  refuses sites and widths that are not the dictionary's
    ranges = _ranges(context, settings)
    column = lambda name: np.concatenate([store.column(name, start, stop) for start, stop in ranges])
    tokens, sequence, position = (column(name) for name in ("tokens", "sequence", "position"))
    row = np.concatenate([np.arange(start, stop) for start, stop in ranges])
    seen = _also_trained(context, settings)
    kind, about = TEXT, {"store": store.url, "held_out": context.trained_on_store and not seen}
    if (tokens < 0).all():
        kind, tokens, sequence = ROWS, row.astype(np.int32), row.astype(np.int32)
        about["rows_are"] = _what_rows_are(context)
    places = Places.of(tokens, sequence, position, np.ones(len(tokens), bool))
    tokenizer = str(context.attributes.get("tokenizer") or context.dictionary.metadata.get("tokenizer") or "")
    return Source(kind, places, tokenizer, lambda: prefetched(_batches(context, ranges), 2), about)


def _ranges(context: Context, settings: Settings) -> list[tuple[int, int]]:
    """The last `settings.rows` rows that may be searched."""
    store, wanted = context.store, settings.rows
    if not _also_trained(context, settings):
        return dataclasses.replace(context, config=dataclasses.replace(context.config, rows=wanted)).ranges
    if not store.rows:
        raise InputError(f"--store={store.url}: it has no complete rows. Give another with --store.")
    return select(store.available, store.rows - min(store.rows, wanted), store.rows)


def _also_trained(context: Context, settings: Settings) -> bool:
    """Whether rows are searched that training saw: a meta-SAE's are all latents of a dictionary, and no sample of any."""
    return settings.trained_rows or is_meta_sae(context.dictionary.metadata)


def _batches(context: Context, ranges: list[tuple[int, int]]) -> Iterator[np.ndarray]:
    size = context.config.batch_size
    for start, stop in ranges:
        for first in range(start, stop, size):
            yield context.read(context.reads, first, min(first + size, stop))


def _what_rows_are(context: Context) -> str:
    metadata = context.dictionary.metadata
    if is_meta_sae(metadata):
        return f"latents of {metadata.get('source_run') or 'the dictionary that it was trained on'}, by number"
    return "rows of the store, by number"
