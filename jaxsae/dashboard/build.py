"""A `Record` from matrices of what is active: figures, contexts and neighbours of each latent."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from jaxsae.dashboard.board import best_targets
from jaxsae.dashboard.choose import choose
from jaxsae.dashboard.drawn import drawn
from jaxsae.dashboard.products import nearest
from jaxsae.dashboard.promoted import Promoted, promoted
from jaxsae.dashboard.record import Record
from jaxsae.dashboard.settings import Settings
from jaxsae.dashboard.shade import shaded
from jaxsae.dashboard.source import ROWS, Source
from jaxsae.dashboard.strengths import Strengths, histogram, stretches
from jaxsae.dashboard.together import thinned, together
from jaxsae.dashboard.words import words_of
from jaxsae.errors import InputError
from jaxsae.evaluate.context import Context
from jaxsae.progress import Progress
from jaxsae.version import __version__


def record_of(
    context: Context,
    settings: Settings,
    source: Source,
    matrices: Mapping[str, sp.csc_matrix],
    own: str = "",
    shown: np.ndarray | None = None,
    shared: dict[str, Any] | None = None,
) -> Record:
    """A record from matrices that are there.

    Args:
      matrices: {name: latents [R, n]} of dictionaries on the same rows. own: which is the context's.
      shown: int [m], ascending; None: all that fire. shared: as `promoted` takes it.

    Raises:
      InputError: none is shown.
    """
    latents, dictionary = matrices[own], context.dictionary
    strengths = Strengths.of(latents)
    shown = np.flatnonzero(strengths.count) if shown is None else shown
    if not len(shown):
        raise InputError(
            f"--run={context.config.run}: none of its {dictionary.width:,} latents fires on the {source.places.rows:,} rows "
            "that were searched. Give others with --store, or name latents with --which."
        )
    rows = np.asarray(dictionary.params.W_dec, np.float32)
    rows = rows if context.units is None else rows * context.units
    norm = np.linalg.norm(rows, axis=1)
    unit = np.divide(rows, norm[:, None], out=np.zeros_like(rows), where=norm[:, None] > 0)
    auroc, target = best_targets(Path(context.config.run), dictionary.width)
    parts, about = _parts(context, settings, matrices, own, shown, unit, shared)
    if source.kind == ROWS:
        settings = dataclasses.replace(settings, before=0, after=0)
    contexts = _contexts(source, settings, latents, strengths.most, shown)
    if source.kind != ROWS and settings.parts:
        contexts |= drawn(latents, source.places, settings.length, settings.drawn, settings.seed)
    used = [
        parts["promoted"],
        parts["suppressed"],
        *(contexts[name] for name in ("tokens", "drawn") if name in contexts),
    ]
    words, no_words = {}, ""
    if source.kind != ROWS:
        words, no_words = words_of(
            source.tokenizer, sorted({i for part in used for i in np.unique(part).tolist()} - {-1})
        )
    about = _about(context, settings, source) | about | ({"no_words": no_words} if no_words else {})
    figures = {"frequency": strengths.frequency, "mean": strengths.mean, "most": strengths.most, "norm": norm}
    figures |= {"auroc": auroc, "target": target, "shown": shown.astype(np.int32)}
    return Record(about=about, **figures, **parts, **contexts, words=words)


def _parts(
    context: Context,
    settings: Settings,
    matrices: Mapping[str, sp.csc_matrix],
    own: str,
    shown: np.ndarray,
    unit: np.ndarray,
    shared: dict[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Neighbours by decoder, by firing, and the lens."""
    count, about = settings.neighbours if settings.parts else 0, {}
    near, cosine = nearest(unit, shown, count)
    firing = {}
    if count:
        thin = thinned(dict(matrices))
        about["together_rows"] = thin[own].shape[0]
        with Progress(len(thin), "firing together", "dictionary") as bar:
            for name, matrix in thin.items():
                firing["" if name == own else name] = together(thin[own], matrix, shown, count, name == own)
                bar.advance(1)
    found, why = Promoted.none(len(shown)), ""
    if settings.parts:
        found, why = promoted(context, unit[shown], settings.tokens, shared)
    about |= {"no_lens": why} if why else {}
    return vars(found) | {"nearest": near, "nearest_cosine": cosine, "together": firing}, about


def _contexts(
    source: Source, settings: Settings, latents: sp.csc_matrix, most: np.ndarray, shown: np.ndarray
) -> dict[str, np.ndarray]:
    """The histogram, and all that is said of contexts, of latents `shown`."""
    places, length = source.places, settings.length
    groups = places.groups(settings.top, length)
    starts, parts = np.concatenate([[0], np.cumsum(np.diff(latents.indptr)[shown])]), []
    with Progress(len(shown), "contexts", "latent", scale=True) as bar:
        for stretch in stretches(starts):
            own = shown[stretch]
            part = latents[:, own]
            how = (settings.top, settings.bands, settings.per_band, settings.seed)
            chosen = choose(part, own, most[own], groups, places.alike, *how)
            rows = part.indices[chosen.entry]
            begin, end = places.windows(rows, settings.before, settings.after)
            tokens, values = shaded(part, places, chosen.latent, begin, end, length)
            at = places.at[rows]
            parts.append(
                {
                    "histogram": histogram(part, most[own], settings.bins),
                    "start": np.bincount(chosen.latent, minlength=len(own)),
                    "band": chosen.band,
                    "sequence": places.sequence[at],
                    "position": places.position[at],
                    "at": (at - begin).astype(np.int16),
                    "tokens": tokens,
                    "values": values,
                    "mine": places.mine[at] if len(places.mine) else places.mine,
                    "theirs": places.theirs[at] if len(places.theirs) else places.theirs,
                }
            )
            bar.advance(len(own))
    found = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    return found | {"start": np.concatenate([[0], np.cumsum(found["start"])]).astype(np.int64)}


def _about(context: Context, settings: Settings, source: Source) -> dict[str, Any]:
    dictionary, places = context.dictionary, source.places
    metadata, config = dictionary.metadata, dictionary.config
    return {
        "run": context.config.run,
        "kind": source.kind,
        "site": context.site,
        "model": metadata.get("model") or "",
        "tokenizer": source.tokenizer,
        "store": metadata.get("store") or "",
        "rows": places.rows,
        "sequences": int(1 + np.count_nonzero(np.diff(places.sequence[places.at]))) if places.rows else 0,
        "width": dictionary.width,
        "d_model": dictionary.d_model,
        "architecture": config.architecture,
        "k": config.told_k,
        "step": metadata.get("step"),
        "bands": settings.bands,
        "top": settings.top,
        "per_band": settings.per_band,
        "before": settings.before,
        "after": settings.after,
        "seed": settings.seed,
        "version": __version__,
    } | source.about
