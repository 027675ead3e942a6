"""Labelled contexts: what a file may hold, and what each mistake is called."""

import json

import numpy as np
import pytest

from jaxsae.errors import InputError
from jaxsae.evaluate.probing import labels
from jaxsae.evaluate.probing.labels import FEWEST, Span
from jaxsae.evaluate.probing.rows import class_at
from jaxsae.evaluate.probing.tasks import drawn, one_from_rest, split


@pytest.fixture
def written(tmp_path):
    """written(row, ...) -> the path of a JSONL file of rows, or of lines as they are."""

    def write(*rows) -> str:
        path = tmp_path / "topics.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return str(path)

    return write


def of_two(count: int = FEWEST, **more):
    return [{"text": f"text {i}", "label": ("no", "yes")[i % 2], **more} for i in range(2 * count)]


def test_texts_with_a_label_each(written):
    found = labels.read(written(*of_two(), ""), games=False, count=1000, seed=0)
    assert found.name == "topics" and not found.by_token and not found.games
    assert found.contexts[:2] == ["text 0", "text 1"] and found.classes() == {"no": FEWEST, "yes": FEWEST}
    assert found.lines == list(range(1, 2 * FEWEST + 1))


def test_labels_are_words_whole_numbers_and_truths(written):
    rows = [{"text": "a", "label": (3, True, "x")[i % 3]} for i in range(3 * FEWEST)]
    assert set(labels.read(written(*rows), False, 1000, 0).classes()) == {"3", "true", "x"}


def test_spans_are_in_the_order_of_the_text(written):
    row = {"text": "Ann and Bob", "spans": [[8, 11, "name"], [0, 3, "name"]]}
    found = labels.read(written(*[row] * FEWEST), False, 1000, 0)
    assert found.by_token and found.labels[0] == [Span(0, 3, "name"), Span(8, 11, "name")]


def test_a_token_has_the_label_that_most_of_it_is_in():
    spans = [Span(0, 4, "a"), Span(4, 9, "b")]
    assert [class_at(spans, *place) for place in ((0, 2), (3, 7), (2, 6), (9, 12), (3, 3))] == ["a", "b", "a", "", ""]


def test_games_are_played_from_the_start(written):
    rows = [{"moves": ["F5", "f6", "E6"], "label": i % 2} for i in range(2 * FEWEST)]
    found = labels.read(written(*rows), True, 1000, 0)
    assert found.games and len(found.contexts[0]) == 3
    by_move = [{"moves": ["F5", "F6"], "labels": ["a", "b" if i % 2 else None]} for i in range(2 * FEWEST)]
    found = labels.read(written(*by_move), True, 1000, 0)
    assert found.by_token and found.labels[:2] == [["a", None], ["a", "b"]]
    assert found.classes() == {"a": 2 * FEWEST, "b": FEWEST}


def test_some_are_drawn_by_the_seed(written):
    path = written(*of_two(50))
    first, again, other = (labels.read(path, False, 60, seed) for seed in (0, 0, 1))
    assert len(first) == 60 and first.lines == again.lines == sorted(first.lines) and first.lines != other.lines
    assert [f"text {line - 1}" for line in first.lines] == list(first.contexts)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{text: 1}", r"line 3: is no JSON"),
        ('["a", "b"]', r"line 3: has not the keys of"),
        ({"text": "a"}, r"line 3: has not the keys of"),
        ({"text": "a", "label": "x", "spans": []}, r"line 3: has not the keys of"),
        ({"text": " \n", "label": "x"}, r"line 3: 'text' must be text that is not blank"),
        ({"text": 7, "label": "x"}, r"line 3: 'text' must be"),
        ({"text": "a", "label": 1.5}, r"line 3: a label must be .* got 1.5"),
        ({"text": "a", "label": None}, r"line 3: a label must be"),
        ({"text": "abc", "spans": []}, r"line 3: has \['spans', 'text'\], and the lines before \['label', 'text'\]"),
        ({"moves": ["F5"], "label": "x"}, r"line 3: holds a game, and the dictionary's model reads text"),
        ({"text": "abc", "spans": [[0, 4, "x"]]}, r"line 3: span \[0, 4, 'x'\] is not within the text's 3 characters"),
        ({"text": "abc", "spans": [[0, "x"]]}, r"line 3: a span must be \[first, end, label\]"),
        ({"text": "abc", "spans": [[0, 2, "x"], [1, 3, "y"]]}, r"line 3: spans from 0 and from 1 overlap"),
    ],
)
def test_a_bad_line_is_named(written, line, says):
    with pytest.raises(InputError, match=r"--probing_labels=.*topics.jsonl: " + says):
        labels.read(written(*of_two(1), line), games=False, count=1000, seed=0)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"moves": ["F5", "I9"], "label": 1}, r"line 1: move 2, 'I9', is no square"),
        ({"moves": ["F5", "A1"], "label": 1}, r"line 1: move 2, A1, is not legal"),
        ({"moves": [], "label": 1}, r"line 1: 'moves' must be a list of 1 to 60 squares"),
        ({"moves": ["F5"], "labels": [1, 2]}, r"line 1: 'labels' must be a list of 1, one a move"),
        ({"text": "F5", "label": 1}, r"line 1: holds a text, and the dictionary's model plays Othello"),
    ],
)
def test_a_bad_game_is_named(written, line, says):
    with pytest.raises(InputError, match=says):
        labels.read(written(line), games=True, count=1000, seed=0)


def test_what_cannot_be_learnt_is_refused(written, tmp_path):
    with pytest.raises(InputError, match=r"of 12 contexts all have the label 'x': give two classes"):
        labels.read(written(*[{"text": "a", "label": "x"}] * 12), False, 1000, 0)
    with pytest.raises(InputError, match=r"only 3 of 23 contexts have the label 'rare', and a probe needs 10"):
        labels.read(written(*of_two(), *[{"text": "a", "label": "rare"}] * 3), False, 1000, 0)
    with pytest.raises(InputError, match=r"is empty"):
        labels.read(written(""), False, 1000, 0)
    with pytest.raises(InputError, match=r"no such file"):
        labels.read(str(tmp_path / "none.jsonl"), False, 1000, 0)
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"is no text in UTF-8"):
        labels.read(str(tmp_path / "binary.jsonl"), False, 1000, 0)


def test_of_two_classes_one_is_told_from_the_other_and_of_more_each_from_the_rest():
    assert list(one_from_rest(np.array(["no", "yes", "no"], object))) == ["yes"]
    found = one_from_rest(np.array(["a", "b", "c", "a"], object))
    assert {name: y.tolist() for name, y in found.items()}["a"] == [True, False, False, True] and len(found) == 3
    assert list(one_from_rest(np.array(["name", "", "place"], object))) == ["name", "place"]


def test_the_split_keeps_shares_and_draws_only_what_is_there():
    strata = np.repeat([0, 1], [90, 10])
    tests = split(strata, 0.3, seed=0)
    assert [tests[strata == s].sum() for s in (0, 1)] == [27, 3]
    there = np.array([True, False, True, True, False])
    chosen = drawn([2, 3], 2, 0, there)
    assert [len(part) for part in chosen] == [2, 3] and np.concatenate(chosen).sum() == 2
    assert not (np.concatenate(chosen) & ~there).any()
