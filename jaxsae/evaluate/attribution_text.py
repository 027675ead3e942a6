"""What attributions are taken through: a model that runs in JAX, and the text or the games that it reads."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsae.config import check
from jaxsae.errors import InputError
from jaxsae.evaluate import games as play
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.text_model import TextModel, open_text, reads_text
from jaxsae.lm import backend
from jaxsae.lm.checkpoint import find
from jaxsae.lm.decoder.lm import DecoderLM
from jaxsae.lm.othello import CONTEXT
from jaxsae.lm.passes import DecoderPasses, GPTPasses, Passes
from jaxsae.parallel import DATA

SUITE = "attribution"
_OWN = "attribution"  # what of several contexts is shared by this suite where another runs the model by torch


@dataclasses.dataclass(frozen=True)
class Batch:
    """Sequences [S, T] over a mesh, the first `sequences` of them real: int32 tokens and what to predict at each, and which
    positions' activations are attributed and which predictions count."""

    sequences: int
    tokens: jax.Array
    kept: jax.Array
    asked: jax.Array
    targets: jax.Array


@dataclasses.dataclass(frozen=True)
class Model:
    """A model and what it reads.

    Attributes:
      batches: gives them anew. sequences: how many there are. about: what the figures are figures of.
    """

    passes: Passes
    weights: Any
    mesh: Mesh
    batches: Callable[[], Iterator[Batch]]
    sequences: int
    about: dict[str, Any]


def check_model(context: Context) -> None:
    """Raises `InputError` where no gradient can be taken through the model, before its weights are read."""
    if not reads_text(context):
        return
    config = context.config
    fix = f"--suite={SUITE} takes gradients through a model that runs in JAX. Give --backend=jax, or leave it out"
    check(config.hf.backend != backend.TORCH, "backend", config.hf.backend, fix)
    if context.attributes.get("settings", {}).get("source") != "hf":
        return  # `open_text` refuses that
    checkpoint = find(config.model or context.attributes["model"], _by_jax(context).config.hf)
    if checkpoint.kind == "masked":
        raise InputError(
            f"--model={checkpoint.name}: predicts masked tokens, and --suite={SUITE} is of the next-token loss. Leave it "
            "out of --suite."
        )
    try:
        backend.choose(checkpoint, (*context.reads, *context.writes), "site")
    except InputError as error:
        raise InputError(f"--suite={SUITE}: JAX has to run the model, and does not. {error}") from None


def open_model(context: Context) -> Model:
    """The language model and the held-out text of splices, or the Othello GPT and their games.

    Raises:
      InputError: as `open_text`; a model of other widths than the dictionary's.
    """
    return _of_text(context) if reads_text(context) else _of_games(context)


def _by_jax(context: Context) -> Context:
    """The same with the model in JAX; what another suite opened is shared where it is that."""
    config, opened = context.config, context.shared.get("text")
    if config.hf.backend == backend.JAX or (opened and isinstance(opened.lm, DecoderLM)):
        return context
    config = dataclasses.replace(config, hf=dataclasses.replace(config.hf, backend=backend.JAX))
    return Context(config, context.dictionary, context.shared.setdefault(_OWN, {}))


def _of_text(context: Context) -> Model:
    text = open_text(_by_jax(context), SUITE)
    lm = text.lm
    _check_widths(context, lm.shape.d_model, lm.name)
    about = {
        "text": list(text.reading.text),
        "documents": f"{text.sequences.documents[0]}:{text.sequences.documents[1]}",
        "held_out": text.held_out,
        "model_dtype": lm.dtype,
    }
    passes, batches = DecoderPasses(lm.shape), lambda: _text_batches(text)
    return Model(passes, lm.weights, lm.mesh, batches, len(text.sequences), about)


def _check_widths(context: Context, d_model: int, name: str) -> None:
    widths = context.dictionary.widths
    for site, wanted in ((context.reads[0], widths.d_in), (context.writes[0], widths.d_out)):
        if wanted != d_model:
            raise InputError(f"--site={site}: has width {d_model} in {name}, and the dictionary's is {wanted}.")


def _text_batches(text: TextModel) -> Iterator[Batch]:
    size = text.sequences.batch_size, text.sequences.longest
    for batch in text.batches():
        rest = (text.lm.filled(array, *size) for array in (batch.kept, batch.asked, batch.targets))
        yield Batch(len(batch.tokens), text.lm.put(batch.tokens, *size), *rest)


def _of_games(context: Context) -> Model:
    config, mesh, model = context.config, context.dictionary.mesh, context.model
    play.check_plays_othello(model)
    _check_widths(context, model.config.d_model, "the Othello GPT")
    graph, state = nnx.split(model)
    weights = jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, P())), state)
    games = play.held_out_games(config.games, config.seed, play.SPLICE)
    positions, place = context.positions, NamedSharding(mesh, P(DATA, None))
    size = -(-min(config.games_per_batch, len(games)) // mesh.shape[DATA]) * mesh.shape[DATA]

    def batches() -> Iterator[Batch]:
        for rows, moves in play.batches(games, size):
            count, at = rows.stop - rows.start, np.arange(CONTEXT)
            there = np.arange(size) < count
            kept = there[:, None] & (at >= positions.start) & (at < positions.stop)
            asked = there[:, None] & (at >= positions.start)
            targets = np.zeros_like(moves)
            targets[there] = games.moves[rows, 1 : CONTEXT + 1]
            yield Batch(count, *(jax.device_put(array, place) for array in (moves, kept, asked, targets)))

    about = {"games": len(games), "positions": [positions.start, positions.stop - 1], "model_dtype": "float32"}
    return Model(GPTPasses(graph), weights, mesh, batches, len(games), about)
