"""The latents that report.html shows, of stores and of games, and which are chosen for their targets."""

import re

import numpy as np
from dashboard_scene import ROWS, SITE, dense, dictionary_of, random_rows, store_of, text_columns

from jaxsae.dashboard.settings import Settings
from jaxsae.evaluate.config import EvaluateConfig
from jaxsae.evaluate.context import Context
from jaxsae.report.latents import BEFORE, MOVES_SHOWN, cards, strongest_targets


def test_cards_of_a_store(tmp_path):
    x, columns = random_rows(), text_columns()
    dictionary = dictionary_of(store=store_of(tmp_path / "store", x, columns), holdout_rows=ROWS)
    context = Context(EvaluateConfig(run="nowhere", rows=ROWS), dictionary)
    found = cards(context, {}, 3, Settings(rows=ROWS, top=2))
    z = dense(dictionary, x)
    assert len({card.latent for card in found}) == 3 and dictionary.metadata["site"] == SITE
    for card in found:
        assert card.label == "drawn at random" and len(card.examples) == 2
        strongest = np.sort(z[:, card.latent])[-1]
        assert card.examples[0].activation == f"{strongest:.3g}"
        for example in card.examples:
            at = [i for i, (_, is_here) in enumerate(example.tokens) if is_here]
            sequence, position = map(int, re.fullmatch(r"sequence (\d+), position (\d+)", example.caption).groups())
            row = np.flatnonzero((columns["sequence"] == sequence) & (columns["position"] == position))[0]
            assert len(at) == 1 and at[0] <= BEFORE + 4
            assert example.tokens[at[0]][0].strip() == str(
                columns["tokens"][row]
            )  # without a tokenizer numbers are shown
            assert example.activation == f"{z[row, card.latent]:.3g}"
    assert cards(context, {}, 3, Settings(rows=ROWS, top=2)) == found


def test_cards_of_games(dictionary):
    context = Context(EvaluateConfig(run="nowhere", games_per_batch=8), dictionary)
    results = {"best_auroc": [None] * 64 + [0.95] + [0.1] * 127, "best_latent": [-1] * 64 + [3] + [-1] * 127}
    found = cards(context, results, 4, Settings(games=12, top=3))
    assert found[0].latent == 3 and found[0].label == "mine at a1, AUROC 0.950"
    assert [card.label for card in found[1:]] == ["drawn at random"] * 3
    for card in found:
        values = [float(example.activation) for example in card.examples]
        assert values == sorted(values, reverse=True) and all(value > 0 for value in values)
        assert len({example.board for example in card.examples}) == len(values)
        for example in card.examples:
            number = int(example.caption.removeprefix("move "))
            assert number in range(5, 52)  # plies 4 to 50 are read
            discs = len(re.findall('class="disc', example.board))
            assert discs == 4 + number and example.board.count('class="last"') == 1
            moves = [text for text, _ in example.tokens]
            assert moves[0] == "\N{HORIZONTAL ELLIPSIS}" or len(moves) == number
            assert [is_here for _, is_here in example.tokens].index(True) == len(moves) - 1 <= MOVES_SHOWN


def test_strongest_targets_take_states_in_turn_and_latents_once():
    auroc, latents = [0.5] * 192, list(range(192))
    auroc[3], auroc[64], auroc[130], auroc[131], auroc[5] = 0.99, 0.95, 0.98, 0.97, None
    latents[131] = latents[130]
    chosen = strongest_targets({"best_auroc": auroc, "best_latent": latents}, 3)
    assert chosen == {3: 3, 64: 64, 130: 130}
    assert len(strongest_targets({"best_auroc": auroc, "best_latent": [7] * 192}, 5)) == 1
    assert len(strongest_targets({"best_auroc": auroc, "best_latent": latents}, 9)) == 3  # the others are below 0.7
    assert strongest_targets({}, 4) == {}
