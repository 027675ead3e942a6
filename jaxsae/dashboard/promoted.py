"""Which tokens latents' directions promote and suppress: the logit lens, of all latents from one Jacobian.

To first order a direction v adds J v to the logits, where J is taken about the mean of what the unembedding reads, at its
typical length (`evaluate/latents/lens.py` says what that tells and what not). J comes from as many directions as the stream
is wide, so that a latent costs one product with it.
"""

import dataclasses
from itertools import islice
from typing import Any

import numpy as np

from jaxsae.dashboard.games import plays_othello
from jaxsae.dashboard.products import largest
from jaxsae.errors import InputError
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.latents import lens
from jaxsae.evaluate.subject import Subject, open_subject
from jaxsae.evaluate.text_model import reads_text
from jaxsae.progress import hushed

BATCHES = 8  # of sequences, whose mean is taken
DOCUMENTS, GAMES = 64, 64


@dataclasses.dataclass(frozen=True)
class Promoted:
    """Of m latents the tokens at both ends, int32 [m, T], -1 where there are no more, and their logits, float32, for a
    direction of length 1."""

    promoted: np.ndarray
    promoted_weights: np.ndarray
    suppressed: np.ndarray
    suppressed_weights: np.ndarray

    @classmethod
    def none(cls, latents: int) -> "Promoted":
        """Where there is no lens: T is 0."""
        ids, weights = np.zeros((latents, 0), np.int32), np.zeros((latents, 0), np.float32)
        return cls(ids, weights, ids, weights)


def promoted(
    context: Context, unit_MxD: np.ndarray, tokens: int, shared: dict[str, Any] | None = None
) -> tuple[Promoted, str]:
    """Of directions [m, d], and why there is no lens, "" where there is one.

    Args:
      shared: what is opened once for several dictionaries of a model.
    """
    why = lens.refused(context.writes)
    if not why and context.dictionary.metadata.get("beside"):
        why = "it is of two models"
    if not why and not (reads_text(context) or plays_othello(context.dictionary.metadata)):
        why = "no model is known that its activations are of"
    if not why:
        try:
            jacobian = _jacobian(_open(context, shared), unit_MxD.shape[1])
        except InputError as error:  # no model, or not the one that was harvested
            why = str(error)
    if why or not tokens:
        return Promoted.none(len(unit_MxD)), why or "no tokens were asked for"
    up = largest(unit_MxD, jacobian, tokens, "promoted tokens", "latent")
    ids, weights = largest(unit_MxD, -jacobian, tokens, "suppressed tokens", "latent")
    return Promoted(*up, ids, -weights), ""


def _open(context: Context, shared: dict[str, Any] | None) -> Subject:
    """The model, with a little of what it reads: the harvested text's first documents, or games."""
    config, more = context.config, {"games": GAMES}
    if reads_text(context):
        first, end = (int(n) for n in context.attributes["settings"]["documents_read"].split(":"))
        more = {"documents": f"{first}:{min(end, first + DOCUMENTS)}"}
    config = dataclasses.replace(config, **more)
    with hushed():  # that these are not held out does not matter here
        return open_subject(
            dataclasses.replace(context, config=config, shared={} if shared is None else shared), "latents"
        )


def _jacobian(subject: Subject, d: int) -> np.ndarray:
    """float32 [vocabulary, d]."""
    total, squares, rows = 0.0, 0.0, 0
    for batch in islice(subject.batches(), BATCHES):
        x = subject.read(batch, (subject.last_site,))[subject.last_site].astype(np.float64)
        total, squares, rows = total + x.sum(0), squares + np.square(x).sum(), rows + len(x)
    stream = lens.stream_of(total / rows, squares / rows)
    if len(stream) != d:
        raise InputError(f"a direction has {d} numbers, and the residual stream of {subject.name} {len(stream)}")
    step = lens.STEP * float(np.linalg.norm(stream))
    out = np.empty((subject.vocabulary, d), np.float32)
    for first, weights in subject.lens(np.eye(d, dtype=np.float32), stream, step):
        out[:, first : first + len(weights)] = weights.T
    return out
