"""The list of a page in a real browser: search, sort, filters and keys. Skipped where there is no Chromium."""

import socket

import numpy as np
import pytest
from page_reader import BOARD, LABELS, TEXT, WORDS

from jaxsae.report.boards import target_name

pytest.importorskip("websocket")


def shown(record):
    return record.shown.tolist()


def by_figure(record, values, latents=None):
    """Latents as the list has them: the largest first, of equal ones the higher number."""
    latents = shown(record) if latents is None else latents
    return sorted(latents, key=lambda latent: (-values[latent], -latent))


def test_it_opens_from_disk_and_asks_nothing_of_a_network(reader, records):
    reader.go()
    assert reader.listed() == by_figure(records[TEXT], records[TEXT].frequency)
    assert all(address.startswith(("file:///", "data:")) for address in reader.tab.asked) and len(reader.tab.asked) > 15
    assert not reader.tab.errors
    assert (
        reader.tab.run("document.getElementById('count').textContent") == f"{len(shown(records[TEXT]))} of 400 latents"
    )


def test_what_would_ask_a_network_is_refused_by_the_page_itself(reader):
    reader.go()
    refused = (
        "new Promise((tell) => {{ addEventListener('securitypolicyviolation', "
        "(event) => tell(event.effectiveDirective), {{once: true}}); {} }})"
    )
    inline = "document.body.append(Object.assign(document.createElement('script'), {textContent: 'hit = 1'}))"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        for attempt, rule in [
            (f"fetch('{address}').catch(() => 0)", "connect-src"),
            (f"new Image().src = '{address}'", "img-src"),
            (inline, "script-src-elem"),
        ]:
            assert reader.tab.run(refused.format(attempt)) == rule
        with pytest.raises(BlockingIOError):  # nobody called
            server.accept()
    assert reader.tab.run("typeof hit") == "undefined"
    reader.tab.errors.clear()  # the refusals


def fires_on(record, fits):
    """Latents whose most common token fits; a made-up latent fires on one."""
    first = record.start[:-1]
    own = record.tokens[first, record.at[first]]
    return {int(latent) for latent, token in zip(record.shown, own, strict=True) if fits(record.words[int(token)])}


def promotes(record, fits):
    good = np.array([fits(word) for word in WORDS])
    return {int(latent) for latent in record.shown[good[record.promoted].any(1)]}


def context_has(record, part):
    """Latents with `part` in 7 tokens before to 4 after the one that fires in the strongest context."""
    found = set()
    for i, latent in enumerate(record.shown):
        p = record.start[i]
        tokens = record.tokens[p, max(0, record.at[p] - 7) : record.at[p] + 5]
        if part in "".join(WORDS[t].lower() for t in tokens if t >= 0):
            found.add(int(latent))
    return found


@pytest.mark.parametrize("part", ["qui", "</script>", "é", "日本", "ka lo", "zzz"])
def test_search_finds_tokens_that_lead_and_what_is_promoted_or_near(reader, records, part):
    record = records[TEXT]
    reader.go()
    parts = part.split()
    lead = set.intersection(*(fires_on(record, lambda w, one=one: one in w.lower()) for one in parts))
    all_ = set.intersection(
        *(
            fires_on(record, lambda w, one=one: one in w.lower())
            | promotes(record, lambda w, one=one: one in w.lower())
            | context_has(record, one)
            for one in parts
        )
    )
    order = lambda latents: by_figure(record, record.frequency, latents)
    assert reader.search(part) == order(lead) + order(all_ - lead)
    assert bool(all_) == (part != "zzz")


def test_a_word_in_quotes_is_a_whole_token(reader, records):
    record, word = records[TEXT], WORDS[40].strip()
    reader.go()
    whole = lambda other: other.strip().lower() == word
    lead, rest = fires_on(record, whole), promotes(record, whole)
    order = lambda latents: by_figure(record, record.frequency, latents)
    assert reader.search(f'"{word}"') == order(lead) + order(rest - lead) and lead | rest
    assert len(reader.search(word)) > len(lead | rest)  # parts of other tokens, and what stands near


def test_a_number_stands_first_then_those_that_begin_with_it(reader, records):
    record = records[TEXT]
    reader.go()
    begin = [latent for latent in shown(record) if str(latent).startswith("10")]
    assert reader.search("10") == [
        10,
        *by_figure(record, record.frequency, [latent for latent in begin if latent != 10]),
    ]
    assert reader.search("107")[0] == 107  # which never fires, and has no contexts
    assert reader.search("0") == [0] and reader.search("400") == [] and reader.search("00") == []


def test_labels_are_searched_without_case_word_by_word(reader, records):
    reader.go()
    rest = lambda query: [latent for latent in reader.search(query) if latent in LABELS]
    assert set(rest("royal")) == {30, 31} and rest("WOMEN royal") == [30] and rest("onerror") == [2]
    assert "Royal women" in reader.texts(".row .label") or rest("royal women") == [30]


def test_targets_of_the_board_are_searched_by_state_and_square(reader, records):
    record = records[BOARD]
    reader.go(f"#{BOARD}")
    assert reader.listed()[:3] == by_figure(record, np.nan_to_num(record.auroc, nan=-1))[:3]  # by AUROC at first
    latent = next(i for i in shown(record) if record.auroc[i] >= 0.7)
    state, _, square = target_name(int(record.target[latent])).split()
    assert latent in reader.search(f"{square} {state}")
    named = {i for i in shown(record) if record.auroc[i] >= 0.7 and record.target[i] // 64 == 0}
    assert set(reader.search("empty")) == named


@pytest.mark.parametrize("figure", ["most", "norm", "mean", "auroc"])
def test_sorts_by_each_figure_and_turns_round(reader, records, figure):
    record, values = records[BOARD], getattr(records[BOARD], figure)
    reader.go(f"#{BOARD}")
    reader.change("figure", f"value = {figure!r}")
    known = [latent for latent in shown(record) if not np.isnan(values[latent])]
    unknown = [latent for latent in shown(record) if np.isnan(values[latent])]
    assert reader.listed() == by_figure(record, values, known) + unknown
    assert bool(unknown) == (figure == "auroc")
    reader.tab.key("r")
    assert reader.listed() == by_figure(record, values, known)[::-1] + unknown  # what is not known stays last


def test_sorts_by_label_and_number(reader, records):
    reader.go("#layer%2F2")
    reader.tab.run("document.querySelector('[data-sort=label]').click()")
    alive = [latent for latent in LABELS if latent in shown(records[TEXT])]
    assert reader.listed()[: len(alive)] == sorted(alive, key=lambda latent: LABELS[latent].lower())
    reader.tab.run("document.querySelector('[data-sort=number]').click()")
    assert reader.listed() == shown(records[TEXT])


def test_filters(reader, records):
    record = records[TEXT]
    reader.go("#layer%2F2")
    reader.change("which", "value = 'silent'")
    assert set(reader.listed()) == set(np.flatnonzero(record.frequency == 0).tolist())
    reader.change("which", "value = 'all'")
    assert len(reader.listed()) == 400
    reader.change("only", "checked = true")
    assert set(reader.listed()) == set(LABELS)
    reader.change("only", "checked = false")
    middle = float(np.median(record.frequency[record.shown])) * 100
    reader.change("low", f"value = '{middle}'", "input")
    assert set(reader.listed()) == set(np.flatnonzero(record.frequency.astype(np.float64) >= middle / 100).tolist())
    reader.change("high", f"value = '{middle}'", "input")
    assert 0 < len(reader.listed()) < 400


def test_only_rows_in_sight_are_elements_and_a_list_too_tall_for_a_browser_is_reached_to_its_end(reader, records):
    reader.go("#layer%2F2")
    last = by_figure(records[TEXT], records[TEXT].frequency)[-1]
    for tallest in (8e6, 2_000):  # 356 rows of 46 pixels take 16,376
        reader.tab.run(f"List.TALLEST = {tallest}; document.querySelector('[data-sort=frequency]').click()")
        reader.tab.run("document.querySelector('[data-sort=frequency]').click()")
        assert reader.tab.run("document.getElementById('rows').offsetHeight") == min(tallest, 356 * 46)
        foot = lambda id: f"document.getElementById('{id}').getBoundingClientRect().bottom"
        reader.tab.run("document.getElementById('scroller').scrollTop = 1e9")
        reader.tab.until(f"Math.abs({foot(f'latent-{last}')} - {foot('scroller')}) < 2")
        assert reader.tab.run("document.querySelectorAll('.row').length") < 40
    reader.tab.run("List.TALLEST = 8e6")
