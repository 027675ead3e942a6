"""Games of the shipped model: boards, moves and activations are those of the games that are played."""

import dataclasses

import numpy as np
import pytest

from jaxsae.dashboard import promoted
from jaxsae.dashboard.collect import collect
from jaxsae.dashboard.games import PURPOSE, games_source, plays_othello
from jaxsae.dashboard.settings import Settings
from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.errors import InputError
from jaxsae.evaluate import games as play
from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context
from jaxsae.evaluate.latents import lens
from jaxsae.evaluate.latents.basis import unit
from jaxsae.lm import weights

SITE, GAMES, WIDTH = "resid_post.2", 24, 64
SETTINGS = Settings(games=GAMES, top=4, per_band=1, before=6, after=2, neighbours=3, tokens=5, drawn=4)


@pytest.fixture(scope="module")
def context():
    rows = np.random.default_rng(0).standard_normal((WIDTH, 128)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    params = Params.of(rows, np.zeros(WIDTH, np.float32), rows, np.zeros(128, np.float32))
    about = {"model": "shipped", "site": SITE, "tokenizer": "othello", "context": 59}
    return Context(
        EvaluateConfig(run="nowhere", games_per_batch=8), Dictionary(params, MethodConfig(width=WIDTH, k=4), about)
    )


@pytest.fixture(scope="module")
def found(context):
    return collect(context, SETTINGS)


@pytest.fixture(scope="module")
def truth(context):
    """The games, and what fires at each of their plies: float32 [G, 59, n], NaN where nothing is read."""
    games = play.held_out_games(GAMES, 0, PURPOSE)
    x = play.activations(weights.load("shipped"), SITE, games, slice(4, 51), 8)
    latents = np.full((GAMES, 59, WIDTH), np.nan, np.float32)
    latents[:, 4:51] = np.asarray(context.dictionary.encode(x).dense(WIDTH)).reshape(GAMES, 47, WIDTH)
    return games, latents


def test_contexts_are_stretches_of_games_with_their_boards(found, truth):
    games, latents = truth
    assert found.about["kind"] == "othello" and found.about["sequences"] == GAMES and found.about["rows"] == GAMES * 47
    for i, latent in enumerate(found.shown):
        for c in found.contexts(i):
            game, ply, at = found.sequence[c], found.position[c], found.at[c]
            assert found.mine[c] == games.own[game, ply] and found.theirs[c] == games.opponent[game, ply]
            tokens = found.tokens[c][found.tokens[c] >= 0]
            around = slice(ply - at, ply - at + len(tokens))
            assert len(tokens) == 9 and tokens.tolist() == games.moves[game, around].tolist()
            np.testing.assert_allclose(found.values[c], latents[game, around, latent], rtol=1e-5, atol=1e-5)
            assert found.values[c, at] > 0
    assert np.isnan(found.values).any()  # moves before the fourth, which are read by nobody


def test_the_strongest_are_of_different_games_and_boards(found, truth):
    _, latents = truth
    for i, latent in enumerate(found.shown):
        own = [c for c in found.contexts(i) if found.band[c] == 0]
        assert len({int(found.sequence[c]) for c in own}) == len(own)
        assert len({(int(found.mine[c]), int(found.theirs[c])) for c in found.contexts(i)}) == len(found.contexts(i))
        np.testing.assert_allclose(found.values[own[0], found.at[own[0]]], np.nanmax(latents[:, :, latent]), rtol=1e-5)


def test_positions_that_come_up_in_many_games_are_shown_once(context):
    config = dataclasses.replace(context.config, first_position=0, last_position=1)
    found = collect(Context(config, context.dictionary), dataclasses.replace(SETTINGS, parts=False))
    shown = [
        list(zip(found.mine[own], found.theirs[own], strict=True))
        for own in map(found.contexts, range(len(found.shown)))
    ]
    assert all(len(set(boards)) == len(boards) for boards in shown) and sum(map(len, shown)) > 10


def test_figures_are_of_all_plies_read(found, truth):
    on = truth[1][:, 4:51].reshape(-1, WIDTH)
    np.testing.assert_allclose(found.frequency, (on > 0).mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.most, on.max(0), rtol=1e-5)


def test_the_lens_is_that_of_the_suite(context, found):
    """From one Jacobian, where the suite shifts the stream along each direction."""
    source = games_source(context, SETTINGS)
    assert source.about["games"] == GAMES
    subject = promoted._open(context, None)
    seen = [subject.read(batch, (subject.last_site,))[subject.last_site] for batch in subject.batches()]
    x = np.concatenate(seen).astype(np.float64)
    stream = lens.stream_of(x.mean(0), np.square(x).sum(1).mean())
    own = lens.Lens(subject, unit(np.asarray(context.dictionary.params.W_dec)).astype(np.float32), stream, "all")
    for name in ("promoted", "suppressed"):
        weights = getattr(own, f"{name}_weights")[found.shown, :5]
        np.testing.assert_allclose(getattr(found, f"{name}_weights"), weights, rtol=0.02, atol=0.01)
        first = getattr(found, name)[:, 0] == getattr(own, name)[found.shown, 0]
        assert first.mean() > 0.95  # ties of almost equal logits may fall the other way
    assert set(found.words) >= set(found.promoted.ravel().tolist()) and found.words[0] == "a1"


def test_a_store_is_refused(context):
    given = Context(EvaluateConfig(run="nowhere", store="somewhere"), context.dictionary)
    with pytest.raises(InputError, match="--store=somewhere: of an Othello model games are played"):
        collect(given, SETTINGS)


def test_a_meta_sae_of_an_othello_dictionary_has_no_games():
    assert plays_othello({"model": "shipped"}) and plays_othello({"tokenizer": "othello"})
    assert not plays_othello({"tokenizer": "othello", "source": "decoder"}) and not plays_othello({"model": "gpt2"})
