"""Pages of two made-up dictionaries, one of text and one of boards, and a browser tab that looks at them."""

import dataclasses

import pytest
from board_records import othello_record
from chromium import chromium
from latent_records import made_stream, text_record
from page_reader import BOARD, LABELS, TEXT, WORDS, Reader

from jaxsae.dashboard.pages import write_pages


@pytest.fixture(scope="module")
def records():
    """Text latents fire together with latents of the boards, which no real ones would."""
    text = text_record(400, WORDS, made_stream(len(WORDS), 20_000), site=TEXT)
    board = othello_record(60, games=10)
    own, phi = text.together[""]
    return {TEXT: dataclasses.replace(text, together={"": (own, phi), BOARD: (own % 60, phi)}), BOARD: board}


@pytest.fixture(scope="module")
def page(records, tmp_path_factory):
    """Address of the page."""
    return write_pages(tmp_path_factory.mktemp("pages"), records, {TEXT: LABELS}).as_uri()


@pytest.fixture(scope="module")
def reader(page):
    with chromium() as tab:
        yield Reader(tab, page)
        assert not tab.errors, tab.errors
