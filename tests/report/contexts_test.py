"""Where latents fire: in a store, and in games."""

import numpy as np
import pytest

from jaxsae.dictionary import Dictionary, MethodConfig, Params
from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context
from jaxsae.report import top_contexts
from jaxsae.report.contexts import BEFORE, othello_contexts
from jaxsae.report.latents import strongest_targets, text_cards, token_texts
from jaxsae.store import Plan, StoreWriter, open_store

ROWS, LENGTH, WIDTH = 240, 20, 4
LATENT = 2


@pytest.fixture
def store(tmp_path):
    """Twelve sequences of twenty tokens; coordinate i of a row is how strong latent i is there."""
    plan = Plan(rows=ROWS, sites={"s": WIDTH}, model="m", context=LENGTH, shard_rows=128, chunk_rows=16)
    x = np.random.default_rng(0).uniform(0, 0.5, (ROWS, WIDTH)).astype(np.float32)
    x[[25, 27, 70, 199], LATENT] = [5.0, 4.0, 3.0, 2.0]  # two of them in sequence 1
    rows = np.arange(ROWS)
    columns = {"tokens": 1000 + rows, "sequence": rows // LENGTH, "position": rows % LENGTH}
    writer = StoreWriter(tmp_path / "store", plan)
    for shard in range(plan.shards):
        start, stop = plan.shard_range(shard)
        writer.write_shard(shard, {"s": x[start:stop]}, {name: c[start:stop] for name, c in columns.items()})
    writer.finish()
    return open_store(tmp_path / "store")


@pytest.fixture
def coordinates(store) -> Dictionary:
    eye, zero = np.eye(WIDTH, dtype=np.float32), np.zeros(WIDTH, np.float32)
    about = {"site": "s", "store": store.url, "holdout_rows": ROWS}
    return Dictionary(Params.of(eye, zero, eye, zero), MethodConfig(width=WIDTH, k=2), about)


def test_the_strongest_places_one_of_a_sequence(store, coordinates):
    places = top_contexts(coordinates, store, [LATENT], 3, [(0, ROWS)])[LATENT]
    assert [p.activation for p in places] == [5.0, 3.0, 2.0]
    assert [(p.sequence, p.position) for p in places] == [(1, 5), (3, 10), (9, 19)]
    for place, row in zip(places, (25, 70, 199), strict=True):
        assert place.tokens[place.at] == 1000 + row
        assert all((token - 1000) // LENGTH == place.sequence for token in place.tokens)
    assert places[0].at == 5 and len(places[0].tokens) == 10  # its sequence begins five rows before
    assert places[1].at == 10 and places[2].at == BEFORE and len(places[2].tokens) == BEFORE + 1


def test_only_the_rows_asked_for_are_looked_through(store, coordinates):
    places = top_contexts(coordinates, store, [LATENT], 3, [(60, 75), (190, 200)])[LATENT]
    assert [p.activation for p in places[:2]] == [3.0, 2.0]
    assert min(token for place in places for token in place.tokens) >= 1060


def test_cards_of_a_store(store, coordinates):
    context = Context(EvaluateConfig(run="nowhere", rows=ROWS), coordinates)
    cards = text_cards(context, shown=3, per_latent=2, seed=0)
    assert len({card.latent for card in cards}) == 3
    for card in cards:
        for example in card.examples:
            assert sum(is_here for _, is_here in example.tokens) == 1 and example.caption.startswith("sequence ")


def test_places_in_games_are_where_the_latent_is_strongest(dictionary):
    context = Context(EvaluateConfig(run="nowhere"), dictionary)
    seen = []
    found = othello_contexts(context, 12, lambda live: seen.extend(live.tolist()) or [seen[0]], 3)
    places = found[seen[0]]
    values = [place.activation for place in places]
    assert values == sorted(values, reverse=True) and values[-1] > 0
    for place in places:
        assert len(place.moves) in range(5, 52)  # plies 4 to 50 are read
        assert not (place.mine & place.theirs).any()
        assert place.mine.sum() + place.theirs.sum() == 4 + len(place.moves)


def test_strongest_targets_take_states_in_turn_and_latents_once():
    auroc, latents = [0.5] * 192, list(range(192))
    auroc[3], auroc[64], auroc[130], auroc[131], auroc[5] = 0.99, 0.95, 0.98, 0.97, None
    latents[131] = latents[130]
    chosen = strongest_targets({"best_auroc": auroc, "best_latent": latents}, 3)
    assert chosen == {3: 3, 64: 64, 130: 130}
    assert len(strongest_targets({"best_auroc": auroc, "best_latent": [7] * 192}, 5)) == 1
    assert len(strongest_targets({"best_auroc": auroc, "best_latent": latents}, 9)) == 3  # the others are below 0.7
    assert strongest_targets({}, 4) == {}


def test_tokens_without_a_tokenizer_are_ids():
    assert token_texts("")([5, 6]) == ["5", "6"]
