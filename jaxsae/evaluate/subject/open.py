"""The subject of an evaluation, opened once."""

from jaxsae.evaluate import games as play
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.subject.base import Subject
from jaxsae.evaluate.subject.games import GameSubject
from jaxsae.evaluate.subject.text import TextSubject
from jaxsae.evaluate.text_model import open_text, reads_text


def open_subject(context: Context, suite: str) -> Subject:
    """The model that the dictionary belongs to, with held-out text, or with games that nothing was trained on.

    Args:
      suite: that asks, for messages.

    Raises:
      InputError: as `text_model.open_text`; no Othello model; a model without the dictionary's sites or of other widths.
    """
    if reads_text(context):
        text = open_text(context, suite)
        return context.shared.setdefault("subject", TextSubject(text))
    key = "subject", context.config.games
    if key not in context.shared:
        config = context.config
        name = config.model or context.dictionary.metadata["model"]
        games = play.held_out_games(config.games, config.seed, play.SUBJECT)
        model = context.model
        play.check_plays_othello(model)
        context.shared[key] = GameSubject(name, model, games, context.positions, config.games_per_batch)
    return context.shared[key]
