"""Whole words of tokens that are parts of them."""

import dataclasses

import numpy as np
from latent_records import made_stream, made_words, text_record

from jaxsae.dashboard.pages import fires as module
from jaxsae.dashboard.pages.vocabulary import vocabulary

PIECES = [" le", "ar", "ning", "n", " to", ".", " a", "t", "\u21b5", "B", "'", "s", " e", "ing", "ed"]
TEXTS = {  # pieces, which of them fires, the word it is a part of
    "learning": ([" le", "ar", "ning", " to"], 1),
    "learn": ([" le", "ar", "n", "."], 1),
    "Bed": (["\u21b5", "B", "ed", "."], 2),
    "to": (["ing", " to", " a"], 1),
    "B": (["t", "\u21b5", "B"], 2),
    "sing": (["'", "s", "ing"], 1),
    "": ([" a", ".", "t"], 1),  # no word at all
}


def record_of(contexts):
    """A record of as many latents as lists of contexts (pieces, at)."""
    count = sum(map(len, contexts))
    plain = text_record(len(contexts), made_words(30), made_stream(30, 500), top=1, banded=0)
    shown = np.arange(len(contexts), dtype=np.int32)
    tokens, at = np.full((count, 8), -1, np.int32), np.zeros(count, np.int16)
    for p, (pieces, where) in enumerate(context for own in contexts for context in own):
        tokens[p, : len(pieces)], at[p] = [PIECES.index(piece) for piece in pieces], where
    start = np.concatenate([[0], np.cumsum([len(own) for own in contexts])])
    rows = {"shown": shown, "start": start, "tokens": tokens, "at": at, "words": dict(enumerate(PIECES))}
    none = np.zeros((len(contexts), 0), np.int32)
    return dataclasses.replace(plain, band=np.zeros(count, np.int8), promoted=none, suppressed=none, **rows)


def named(record):
    words = vocabulary(record)
    found, whole = module.fires(record, words)
    tokens = [[words.words[i] for i in row if i >= 0] for row in found["fires"]]
    return tokens, [[whole[i] for i in row if i >= 0] for row in found["whole"]]


def test_a_token_stands_in_its_word():
    tokens, whole = named(record_of([[context] for context in TEXTS.values()]))
    assert whole == [[word] if word else [] for word in TEXTS]
    assert tokens == [[pieces[at]] for pieces, at in TEXTS.values()]


def test_the_most_common_come_first_and_weaker_bands_are_not_counted(monkeypatch):
    own = [TEXTS[w] for w in ("learn", "learning", "learning", "to", "to", "to", "Bed")]
    record = record_of([own, [TEXTS["B"]], own])
    band = record.band.copy()
    band[:1] = 5  # of the first latent, "learn" is not among the strongest
    expected = [["to", "learning", "Bed"], ["B"], ["to", "learning", "learn"]]
    assert named(dataclasses.replace(record, band=band))[1] == expected
    monkeypatch.setattr(module, "CHUNK", 1)  # and however many are looked at together
    assert named(dataclasses.replace(record, band=band))[1] == expected
    monkeypatch.setattr(module, "STRONGEST", 3)
    assert named(record)[1][0] == ["learning", "learn"]


def test_a_word_reaches_only_so_far():
    long = ([" le", *["ar"] * 7], 0)
    assert named(record_of([[long]]))[1] == [[" le".strip() + "ar" * module.REACH]]


def test_rows_and_boards_have_no_words():
    record = record_of([[TEXTS["learn"]]])
    for kind in ("rows", "othello"):
        found, whole = module.fires(dataclasses.replace(record, about={"kind": kind}), vocabulary(record))
        assert found["whole"].shape == (1, 0) and whole == [] and found["fires"][0, 0] >= 0
