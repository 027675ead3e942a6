"""Splicing against cross-entropies and divergences computed in NumPy from the model's logits."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.evaluate import EvaluateConfig, evaluate
from jaxsae.evaluate import games as play
from jaxsae.evaluate.splice_figures import recovered
from jaxsae.lm import train
from jaxsae.store import open_store

D, SITE, GAMES = 16, "resid_post.0", 11


@pytest.fixture
def store(write_store, model):
    games = play.held_out_games(40, 9, play.PROBE)
    return write_store(play.activations(model, SITE, games, slice(4, 51), 16))


@pytest.fixture
def splice(tmp_path, model_path, store):
    def run(dictionary, **flags):
        flags = dict(store=store, site=SITE, model=model_path, games=GAMES, games_per_batch=4) | flags
        config = EvaluateConfig(run=str(tmp_path / "run"), suite=("splice",), **flags)
        return evaluate(config, dictionary)["splice"]

    return run


def log_probabilities(logits):
    p = np.exp(np.asarray(logits, np.float64))
    return np.log(p / p.sum(-1, keepdims=True))


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "relu"])
def test_every_figure(splice, store, model, make_dictionary, dense, architecture):
    dictionary = make_dictionary(architecture, first_position=6, last_position=40)
    found = splice(dictionary)
    games = play.held_out_games(GAMES, 0, play.SPLICE)
    tokens = games.moves[:, :59].astype(np.int32)
    squares = play.othello.TOKEN_TO_SQUARE.tolist()
    legal = np.array([[[int(mask) >> s & 1 for s in squares] for mask in game[6:59]] for game in games.legal])
    logits, read = model(tokens, read=[SITE])
    x = np.asarray(read[SITE])
    x_hat = dense(dictionary, x.reshape(-1, D)).x_hat.reshape(x.shape)
    mean = open_store(store).statistics(SITE).mean
    original = log_probabilities(logits)[:, 6:]
    chance = legal / legal.sum(-1, keepdims=True)

    for figures, where in ((found, slice(6, 41)), (found["all_positions"], slice(0, 59))):
        logs = {"original": original}
        for name, values in (("spliced", x_hat), ("zero", 0 * x), ("mean", np.broadcast_to(mean, x.shape))):
            mixed = x.copy()
            mixed[:, where] = values[:, where]
            logs[name] = log_probabilities(model(tokens, replace={SITE: lambda _: jnp.asarray(mixed)})[0])[:, 6:]  # noqa: B023
        by_game = {name: -(chance * log).sum(-1).mean(1) for name, log in logs.items()}
        ce = {name: values.mean() for name, values in by_game.items()}
        extra = by_game["spliced"] - by_game["original"]
        assert figures["ce"] == pytest.approx(ce["original"], rel=1e-6)
        for name in ("spliced", "zero", "mean"):
            assert figures[f"ce_{name}"] == pytest.approx(ce[name], rel=1e-5), name
            same = (logs[name].argmax(-1) == original.argmax(-1)).mean()
            assert figures["next_token_agreement"][name] == pytest.approx(same)
        assert figures["delta_ce"] == pytest.approx(ce["spliced"] - ce["original"], rel=1e-3, abs=1e-6)
        kl = (np.exp(original) * (original - logs["spliced"])).sum(-1).mean()
        assert kl > 0 and figures["kl"] == pytest.approx(kl, rel=1e-3)
        recovered = 1 - (ce["spliced"] - ce["original"]) / (ce["zero"] - ce["original"])
        assert ce["zero"] > ce["original"] and figures["loss_recovered"] == pytest.approx(recovered, rel=1e-3)
        half = 1.96 * np.sqrt(np.square(extra - extra.mean()).sum() / (GAMES - 1) / GAMES)
        assert figures["delta_ce_interval"] == pytest.approx(
            [extra.mean() - half, extra.mean() + half], rel=1e-3, abs=1e-6
        )
        for name, log in logs.items():
            top = np.take_along_axis(legal, log.argmax(-1)[..., None], -1).mean()
            assert figures["legal_top1"][name] == pytest.approx(top), name
    assert found["ce_spliced"] != pytest.approx(found["all_positions"]["ce_spliced"], rel=1e-4)
    assert found["tokens"] == GAMES * 53 and found["games"] == GAMES
    assert found["positions"] == {"replaced": [6, 40], "measured": [6, 58]}
    assert found["floor"] == pytest.approx(np.log(legal.sum(-1)).mean())


def test_agrees_with_the_cross_entropy_of_training(splice, model, make_dictionary):
    found = splice(make_dictionary(), first_position=0, last_position=58)
    games = play.held_out_games(GAMES, 0, play.SPLICE)
    known = train.measure(model, games, batch=GAMES)
    assert found["ce"] == pytest.approx(known["cross_entropy_nats"], rel=1e-5)
    assert found["legal_top1"]["original"] == pytest.approx(known["legal_top1"], abs=1e-6)
    assert found["floor"] == pytest.approx(known["floor_nats"])


def test_an_exact_dictionary_costs_nothing_and_a_dead_one_is_mean_ablation(splice, store):
    identity = np.concatenate([np.eye(D), -np.eye(D)]).astype(np.float32)
    method = MethodConfig(width=2 * D, architecture="relu")
    exact = Params.of(*map(jnp.asarray, (identity, np.zeros(2 * D), identity, np.zeros(D))))
    found = splice(Dictionary(exact, method))
    assert found["delta_ce"] == pytest.approx(0, abs=1e-6) and found["kl"] == pytest.approx(0, abs=1e-6)
    assert found["loss_recovered"] == pytest.approx(1, abs=1e-5)
    assert found["next_token_agreement"]["spliced"] == 1 and found["ce_zero"] != pytest.approx(found["ce"], abs=1e-4)
    low, high = found["delta_ce_interval"]
    assert low <= found["delta_ce"] <= high

    dead = exact.put(b_enc=jnp.full(2 * D, -1e6), b_dec=jnp.asarray(open_store(store).statistics(SITE).mean))
    found = splice(Dictionary(dead, method))
    assert found["ce_spliced"] == pytest.approx(found["ce_mean"], rel=1e-6)


def test_loss_recovered_is_undefined_where_zeros_cost_nothing():
    assert recovered(2.0, 2.5, 4.0) == 0.75 and recovered(2.0, 4.5, 4.0) == -0.25
    assert recovered(2.0, 2.5, 2.0) is None and recovered(2.0, 2.5, 1.9) is None


def test_games_differ_by_purpose_and_seed_and_from_training():
    first = [play.held_out_games(6, seed, purpose).moves for seed in (0, 1) for purpose in (1, 2, 3)]
    first.append(play.othello.full_games(6, np.random.default_rng([0, 1])).moves)
    boards = {moves.tobytes() for moves in first}
    assert len(boards) == len(first)
    np.testing.assert_array_equal(play.held_out_games(6, 1, 2).moves, first[4])
