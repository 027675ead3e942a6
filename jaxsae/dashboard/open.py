"""What is collected of: a run's dictionary, the rows that are searched, and what is active on them."""

import numpy as np
import scipy.sparse as sp

from jaxsae.dashboard.encode import encoded
from jaxsae.dashboard.games import games_source, plays_othello
from jaxsae.dashboard.settings import Settings, numbers
from jaxsae.dashboard.source import Source
from jaxsae.dashboard.stored import store_source
from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context, check_whole, load_dictionary
from jaxsae.progress import say


def open_context(run: str, store: str, settings: Settings) -> Context:
    """The run's dictionary and what it came from.

    Raises:
      InputError: no such run, or NaN in its parameters.
    """
    dictionary = load_dictionary(run)
    check_whole(dictionary, run)
    return Context(EvaluateConfig(run=run, store=store, rows=settings.rows, seed=settings.seed), dictionary)


def open_source(context: Context, settings: Settings) -> Source:
    """Rows of the store, or of an Othello model games that nothing was trained on.

    Raises:
      InputError: no store, no rows in it, another width; no Othello model.
    """
    if not plays_othello(context.dictionary.metadata):
        return store_source(context, settings)
    if len(context.reads) == 1:
        return games_source(context, settings)
    source = store_source(context, settings)
    source.about["no_boards"] = "it reads several sites, so that rows of its store were searched and no games played"
    return source


def encoded_rows(context: Context, source: Source) -> sp.csc_matrix:
    """Active latents [R, n] of the source's rows."""
    return encoded(context.dictionary, source.batches(), source.places.rows, context.config.batch_size)


def shown_of(context: Context, settings: Settings) -> np.ndarray | None:
    """int [m], the latents that are asked for; None: all that fire."""
    return numbers(settings.which, context.dictionary.width) if settings.which else None


def say_few(source: Source, settings: Settings) -> None:
    """Says where fewer rows can be searched than were asked for."""
    if source.about.get("store") and source.about["held_out"] and source.places.rows < settings.rows:
        say(
            f"{source.about['store']}: {source.places.rows:,} rows are held out, fewer than --rows={settings.rows:,}; "
            "--trained_rows searches those that training saw, too, and --store=URL another store"
        )
