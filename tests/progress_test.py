"""Work is made ahead in a thread, in order, and its errors are raised where it is used."""

import itertools
import threading

import pytest

from jaxsae.progress import Progress, prefetched, say


@pytest.mark.parametrize("depth", [1, 4])
def test_prefetched_items_are_the_items_in_order(depth):
    assert list(prefetched(iter(range(50)), depth)) == list(range(50))
    assert list(prefetched(iter([]), depth)) == []


def test_no_more_is_made_than_was_asked_for():
    made, full = [], threading.Event()

    def items():
        for i in range(100):
            made.append(i)
            if len(made) == 4:  # one is used, two wait, one is in the maker's hands
                full.set()
            yield i

    ahead = prefetched(items(), 2)
    assert next(ahead) == 0
    assert full.wait(10)
    assert len(made) == 4
    ahead.close()
    assert len(made) <= 5


def test_an_error_of_the_maker_is_raised_where_the_item_is_used():
    def items():
        yield 1
        raise ValueError("broken")

    ahead = prefetched(items(), 3)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)


def test_the_maker_stops_when_nobody_listens():
    before, ended = threading.active_count(), threading.Event()

    def items():
        try:
            yield from itertools.count()
        finally:
            ended.set()

    ahead = prefetched(items(), 2)
    next(ahead)
    ahead.close()
    assert ended.wait(10)
    assert threading.active_count() <= before + 1


def test_words_for_people_go_to_standard_error(capsys):
    say("one", "two")
    captured = capsys.readouterr()
    assert captured.err == "one\ntwo\n" and captured.out == ""


def test_a_bar_is_silent_where_there_is_no_terminal(capsys):
    with Progress(10, "train", "row") as bar:
        bar.advance(4, loss=0.5)
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""
