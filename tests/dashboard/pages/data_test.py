"""What pages are made of is what the record holds, read back as the browser reads it."""

import dataclasses

import numpy as np
import pytest
from board_records import othello_record
from latent_records import AWKWARD, made_stream, made_words, text_record
from page_blocks import read_block, read_pages, read_sites

from jaxsae.dashboard.pages import write_pages
from jaxsae.dashboard.pages.block import narrow
from jaxsae.dashboard.pages.columns import AFTER, BEFORE
from jaxsae.lm import othello

WORDS = made_words(300)
LABELS = {3: "</script><b>x</b>", 0: "zero", 149: "the last"}


@pytest.fixture(scope="module")
def text():
    return text_record(150, WORDS, made_stream(len(WORDS), 20_000))


@pytest.fixture(scope="module")
def written(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages") / "latents"
    assert write_pages(folder, {"resid_post.2": text}, {"resid_post.2": LABELS}) == folder / "index.html"
    return folder, read_sites(folder)["sites"][0]


def joined(pages, name):
    return np.concatenate([page[name] for page in pages])


def words_of(site_words, indices):
    return np.array([*site_words, None], object)[indices]


def test_columns_are_the_records(text, written):
    folder, site = written
    key, columns, told = read_block(folder / "data" / site["folder"] / "columns.js")
    assert key == "resid_post.2/columns" and site["width"] == 150 and site["shown"] == len(text.shown)
    for name in ("frequency", "mean", "most", "norm", "auroc", "target", "shown"):
        np.testing.assert_array_equal(columns[name], getattr(text, name))
    assert dict(zip(columns["labelled"].tolist(), told["labels"], strict=True)) == LABELS


def test_details_are_the_records(text, written):
    folder, site = written
    pages = read_pages(folder, site)
    assert [len(page["latents"]) for page in pages] == [64, 64, len(text.shown) - 128]
    for name in ("histogram", "promoted_weights", "suppressed_weights", "nearest", "nearest_cosine"):
        np.testing.assert_array_equal(joined(pages, name), getattr(text, name))
    for name in ("band", "sequence", "position", "at"):
        np.testing.assert_array_equal(joined(pages, name), getattr(text, name))
    np.testing.assert_array_equal(joined(pages, "values"), text.values)
    np.testing.assert_array_equal(joined(pages, "latents"), text.shown)
    np.testing.assert_array_equal(np.concatenate([np.diff(page["start"]) for page in pages]), np.diff(text.start))
    assert all(page["start"][0] == 0 for page in pages) and site["together"] == [""]
    np.testing.assert_array_equal(joined(pages, "together_0"), text.together[""][0])
    np.testing.assert_array_equal(joined(pages, "together_0_phi"), text.together[""][1])


def test_tokens_are_the_records_words(text, written):
    folder, site = written
    _, known, told = read_block(folder / "data" / site["folder"] / "words.js")
    assert [text.words[token] for token in known["token"].tolist()] == told["words"] and set(AWKWARD) <= set(
        told["words"]
    )
    pages, expected = read_pages(folder, site), np.array([*WORDS, None], object)
    for name in ("tokens", "promoted", "suppressed"):
        np.testing.assert_array_equal(words_of(told["words"], joined(pages, name)), expected[getattr(text, name)])


def test_previews_are_of_the_strongest_context(text, written):
    folder, site = written
    _, known, told = read_block(folder / "data" / site["folder"] / "words.js")
    for i in (0, 77, len(text.shown) - 1):
        p = int(text.start[i])
        padded = [-1] * BEFORE + text.tokens[p].tolist() + [-1] * AFTER
        window = padded[text.at[p] : text.at[p] + BEFORE + 1 + AFTER]
        assert known["token"][known["snippet"][i]][known["snippet"][i] >= 0].tolist() == [t for t in window if t >= 0]
        own = text.tokens[p, text.at[p]]
        assert told["words"][known["fires"][i, 0]] == text.words[own]  # a made-up latent fires on one word
        assert (known["fires"][i, 1:] == -1).all()


def test_what_it_fires_on_is_told_from_the_strongest_alone_most_common_first(text, tmp_path):
    here = text.contexts(5)
    tokens = text.tokens.copy()
    strongest = [20, 30, 30, 20, 20, 40, 30, 20]  # 20 four times
    for p, token in zip(here, strongest + [50] * (len(here) - 8), strict=True):
        tokens[p, text.at[p]] = token
    write_pages(tmp_path / "p", {"": dataclasses.replace(text, tokens=tokens)}, {})
    _, known, _ = read_block(tmp_path / "p/data/dictionary/words.js")
    assert known["token"][known["fires"][5, :3]].tolist() == [20, 30, 40] and known["fires"][5, 3] == -1


def test_a_latent_without_contexts_has_none(text, tmp_path):
    """As when nothing of it was kept: the next one's are not taken for its own."""
    start = text.start.copy()
    start[1] = start[2]
    write_pages(tmp_path / "p", {"": dataclasses.replace(text, start=start)}, {})
    _, known, _ = read_block(tmp_path / "p/data/dictionary/words.js")
    start[-2] = start[-1]  # and at the end
    write_pages(tmp_path / "p", {"": dataclasses.replace(text, start=start)}, {})
    _, last, _ = read_block(tmp_path / "p/data/dictionary/words.js")
    assert (known["fires"][1] == -1).all() and (known["snippet"][1] == -1).all() and (known["fires"][2] >= 0).any()
    assert (last["fires"][-1] == -1).all() and (last["snippet"][-1] == -1).all()


def test_boards_keep_all_64_bits(tmp_path):
    record = othello_record(20, games=4)
    record.mine[:3] = np.array([1 << 63, 1 << 31, (1 << 64) - 1], np.uint64)
    write_pages(tmp_path / "p", {"": dataclasses.replace(record, words={})}, {})
    (page,) = read_pages(tmp_path / "p", read_sites(tmp_path / "p")["sites"][0])
    for name in ("mine", "theirs"):
        halves = page[name].astype(np.uint64)
        np.testing.assert_array_equal(halves[:, 0] | halves[:, 1] << np.uint64(32), getattr(record, name))
    _, known, told = read_block(tmp_path / "p/data/dictionary/words.js")  # moves have names without a tokenizer too
    squares = [othello.square_name(othello.TOKEN_TO_SQUARE[token]).lower() for token in known["token"]]
    assert told["words"] == squares


@pytest.mark.parametrize("tokens", [0, 1])
def test_rows_without_tokens(text, tokens, tmp_path):
    """A dictionary of vectors: contexts are rows, with a value each or none."""
    p = len(text.at)
    none = {
        name: getattr(text, name)[:, :0]
        for name in ("promoted", "suppressed", "promoted_weights", "suppressed_weights")
    }
    value = text.values[np.arange(p), text.at][:, None][:, :tokens]
    about = text.about | {"kind": "rows"}
    empty = {"tokens": np.full((p, tokens), -1, np.int32), "values": value, "at": np.zeros(p, np.int16)}
    write_pages(tmp_path / "p", {"": dataclasses.replace(text, about=about, words={}, **none, **empty)}, {})
    site = read_sites(tmp_path / "p")["sites"][0]
    pages = read_pages(tmp_path / "p", site)
    np.testing.assert_array_equal(joined(pages, "values"), value)
    np.testing.assert_array_equal(joined(pages, "sequence"), text.sequence)
    _, known, told = read_block(tmp_path / "p/data" / site["folder"] / "words.js")
    assert told["words"] == [] and known["snippet"].shape[0] == len(text.shown)


def test_nothing_shown(text, tmp_path):
    """A dictionary of which nothing fires has a list all the same."""
    empty = {f: getattr(text, f)[:0] for f in ("shown", "histogram", "promoted", "promoted_weights", "suppressed")}
    empty |= {f: getattr(text, f)[:0] for f in ("suppressed_weights", "nearest", "nearest_cosine", "band", "sequence")}
    empty |= {f: getattr(text, f)[:0] for f in ("position", "at", "tokens", "values")}
    dead = dataclasses.replace(text, start=np.zeros(1, np.int64), together={}, words={}, **empty)
    write_pages(tmp_path / "p", {"": dead}, {"": {1: "one"}})
    site = read_sites(tmp_path / "p")["sites"][0]
    assert site["shown"] == 0 and read_pages(tmp_path / "p", site) == []


def test_narrow_holds_what_it_is_given():
    for low, high, kind in [(-1, 127, "int8"), (-1, 128, "int16"), (-129, 0, "int16"), (0, 32_768, "int32")]:
        found = narrow(np.array([low, high], np.int64))
        assert found.dtype == kind and found.tolist() == [low, high]
    assert narrow(np.zeros((0, 3), np.int64)).shape == (0, 3)
