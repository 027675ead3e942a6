"""The page of one latent in a real browser: what it says, links, keys and looks. Skipped where there is no Chromium."""

from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
from latent_records import AWKWARD
from page_reader import BOARD, LABELS, TEXT, WORDS

pytest.importorskip("websocket")


def mark_color(reader):
    return reader.tab.run("getComputedStyle(document.querySelector('mark.t')).backgroundColor")


def test_it_shows_the_records_contexts_and_shades(reader, records):
    record, i = records[TEXT], 20
    latent = int(record.shown[i])
    reader.latent(latent)
    places = list(record.contexts(i))
    shown = places[:8] + [p for band in (5, 4, 3, 2, 1) for p in places[8:] if record.band[p] == band]
    assert reader.texts(".line .where") == [f"{record.sequence[p]}:{record.position[p]}" for p in shown]
    found = reader.tab.run(
        "[...document.querySelectorAll('.line')].map((line) => [...line.querySelectorAll('.t')].map((t) => "
        "[JSON.parse(t.dataset.tip.split('   ')[0]), Number(t.style.getPropertyValue('--a')), t.matches('mark')]))"
    )
    for line, p in zip(found, shown, strict=True):
        tokens, values = record.tokens[p], np.nan_to_num(record.values[p])
        there = tokens >= 0
        assert [word for word, _, _ in line] == [WORDS[token] for token in tokens[there]]
        shares = [share for _, share, _ in line]
        np.testing.assert_allclose(shares, values[there] / record.most[latent], atol=6e-4)
        assert [marked for _, _, marked in line] == (np.flatnonzero(there) == record.at[p]).tolist()
    assert [head.split(" of its")[0] for head in reader.texts(".band h3")] == [
        "Strongest 8", "80 to 100%", "60 to 80%", "40 to 60%", "20 to 40%", "0 to 20%",
    ]  # fmt: skip


def test_its_figures_histogram_and_lens_are_the_records(reader, records):
    record, i = records[TEXT], 20
    latent = int(record.shown[i])
    reader.latent(latent)
    facts = dict(zip(reader.texts(".facts dt"), reader.texts(".facts dd"), strict=True))
    rows = round(float(record.frequency[latent]) * record.about["rows"])
    assert facts["fires on"].endswith(f"%{rows:,} rows") and float(facts["largest"]) == pytest.approx(
        record.most[latent], rel=6e-3
    )
    assert float(facts["decoder norm"]) == pytest.approx(record.norm[latent], rel=6e-3) and "AUROC" not in facts
    tips = reader.tab.run(
        "[...document.querySelectorAll('.histogram .column')].map((bar) => bar.dataset.tip.split('\\n')[1])"
    )
    assert tips == [f"{count:,} rows" for count in record.histogram[i] if count]
    heights = reader.tab.run(
        "[...document.querySelectorAll('.histogram .column')].map((bar) => Number(bar.getAttribute('height')))"
    )
    counts = record.histogram[i][record.histogram[i] > 0]
    slope = np.polyfit(np.log10(counts), heights, 1)
    np.testing.assert_allclose(np.polyval(slope, np.log10(counts)), heights, rtol=1e-3)  # a logarithmic axis
    for name, sign in (("promoted", 1), ("suppressed", -1)):
        weights = [float(w.replace("\u2212", "-")) for w in reader.texts(f".ends.{name} .figure")]
        np.testing.assert_allclose(weights, getattr(record, f"{name}_weights")[i], rtol=6e-3)
        assert all(np.sign(w) == sign for w in weights)


def test_tokens_are_text_whatever_they_say(reader, records):
    """None of it becomes an element, and blanks are seen."""
    record = records[TEXT]
    first = record.tokens[record.start[:-1], record.at[record.start[:-1]]]
    seen = {"\n": "↵", "\u2028": "↵", "  ": "··", "\t": "⇥", " ": "·", "\u202e": "\u2039202e\u203a"}
    tried = 0
    for word in AWKWARD:
        (rows,) = np.nonzero(first == WORDS.index(word))
        for row in rows[:1]:
            reader.latent(int(record.shown[row]))
            assert reader.texts("mark.t")[0] == seen.get(word, word)
            assert reader.texts("#detail b:not(.value), #detail img, script:not([src])") == []
            tried += 1
    assert tried >= 8
    reader.latent(2)
    assert reader.texts("h1 .label") == [LABELS[2]] and reader.tab.run("typeof hit") == "undefined"
    assert reader.tab.run("document.images.length") == 0


def test_boards_hold_the_records_discs(reader, records):
    record = records[BOARD]
    i = next(i for i, latent in enumerate(record.shown) if record.auroc[latent] >= 0.7)
    latent = int(record.shown[i])
    reader.latent(latent, BOARD)
    order = sorted(record.contexts(i), key=lambda p: (record.band[p] > 0, -record.band[p], p))
    count = lambda name: reader.tab.run(
        f"[...document.querySelectorAll('.board')].map((b) => b.querySelectorAll('{name}').length)"
    )
    for whose in ("mine", "theirs"):
        assert count(f".disc.{whose}") == [int(getattr(record, whose)[p]).bit_count() for p in order]
    square = int(record.target[latent]) % 64
    frame = reader.tab.run("(({x, y}) => [x.baseVal.value, y.baseVal.value])(document.querySelector('.target'))")
    assert frame == [22 + 40 * (square % 8) + 1.5, 22 + 40 * (square // 8) + 1.5]
    last = record.words[int(record.tokens[order[0], record.at[order[0]]])]
    point = reader.tab.run("(({cx, cy}) => [cx.baseVal.value, cy.baseVal.value])(document.querySelector('.last'))")
    assert point == [22 + 40 * ("abcdefgh".index(last[0]) + 0.5), 22 + 40 * (int(last[1]) - 0.5)]
    assert reader.texts(".position mark")[0] == last
    assert reader.texts(".position .where")[0] == f"move {record.position[order[0]] + 1}"


def test_links_lead_to_others_and_back(reader, records):
    record, i = records[TEXT], 20
    latent = int(record.shown[i])
    reader.latent(latent)
    own, other = record.nearest[i].tolist(), record.together[BOARD][0][i].tolist()
    assert reader.texts(".links h2") == ["Nearest decoder rows cosine", "Fires with phi", f"Fires with, in {BOARD} phi"]
    links = reader.tab.run("[...document.querySelectorAll('.near a')].map((a) => decodeURIComponent(a.hash))")
    assert links[:8] == [f"#{TEXT}/{n}" for n in own] and links[16:] == [f"#{BOARD}/{n}" for n in other]
    reader.tab.run("document.querySelectorAll('.near a')[16].click()")
    there = "document.querySelector('#latent').textContent.startsWith('Latent {}') && Page.site() === '{}'"
    reader.tab.until(there.format(other[0], BOARD))
    reader.tab.run("history.back()")
    reader.tab.until(there.format(latent, TEXT))
    reader.tab.run("history.forward()")
    reader.tab.until("document.getElementById('site').value === 'board' && document.querySelector('.board, .none')")


def test_keys(reader, records):
    reader.go("#layer%2F2")
    listed = reader.listed()
    for key, place in [("j", 0), ("j", 1), ("ArrowDown", 2), ("k", 1), ("ArrowUp", 0), ("k", 0)]:
        reader.tab.key(key)
        reader.tab.until(f"document.querySelector('#latent')?.textContent.startsWith('Latent {listed[place]}')")
        assert reader.hash() == f"#{TEXT}/{listed[place]}"
        assert reader.tab.run("document.querySelector('[aria-selected=true] .number').textContent") == str(
            listed[place]
        )
    reader.tab.key("/")
    for letter in "royal j":  # letters are written there, and do nothing else
        reader.tab.key(letter)
    assert reader.tab.run("document.getElementById('query').value") == "royal j"
    reader.tab.key("Escape")
    assert reader.listed() == listed
    reader.tab.key("Escape")
    assert reader.tab.run("document.activeElement.id") != "query"
    reader.tab.key("?")
    assert reader.tab.run("document.getElementById('keys').open")
    reader.tab.key("Escape")
    assert not reader.tab.run("document.getElementById('keys').open")
    reader.tab.key("s")
    assert reader.tab.run("document.querySelector('[data-sort=label]').getAttribute('aria-pressed')") == "true"
    reader.tab.key("]")
    reader.tab.until("document.getElementById('site').value === 'board'")
    reader.tab.key("[")
    reader.tab.until("document.getElementById('site').value === 'layer/2'")


def test_light_and_dark_follow_the_system_until_a_reader_chooses(reader):
    for system, other in [("dark", "light"), ("light", "dark")]:
        reader.tab.run("localStorage.clear()")
        reader.tab.window(1200, 820, theme=system)
        reader.latent(20)
        own = mark_color(reader)
        assert reader.tab.run("document.documentElement.dataset.theme") == system
        reader.tab.key("t")
        assert reader.tab.run("document.documentElement.dataset.theme") == other and mark_color(reader) != own
        reader.latent(21)  # and it is remembered
        assert reader.tab.run("document.documentElement.dataset.theme") == other
    reader.tab.run("localStorage.clear()")


def test_a_phone_shows_the_list_or_a_latent_and_nothing_is_wider(reader):
    reader.tab.window(400, 800, phone=True)
    seen = lambda one: reader.tab.run(f"document.querySelector('{one}').offsetWidth > 0")
    for hash, list_seen in [
        ("#layer%2F2", True),
        ("#layer%2F2/20", False),
        ("#board/5", False),
        ("#board/about", False),
    ]:
        reader.go(hash)
        reader.tab.run("new Promise((done) => requestAnimationFrame(done))")
        assert (seen(".list"), seen(".detail")) == (list_seen, not list_seen)
        assert reader.tab.run("document.documentElement.scrollWidth") == 400
    reader.latent(20)
    reader.tab.run("document.querySelector('.back').click()")
    reader.tab.until("document.querySelector('.list').offsetWidth > 0")
    reader.tab.window(1200, 820)


def test_what_is_not_there_is_said(reader, records):
    reader.go("#layer%2F2/400", "document.querySelector('.none')")
    assert reader.texts(".none") == ["There is no latent 400 here: they are 0 to 399."]
    reader.go("#layer%2F2/107", "document.querySelector('.none')")
    assert reader.texts(".none") == ["It fired on none of the rows that were searched."]
    assert reader.texts("h1 .label") == ["dead and labelled"]
    for odd in ("#nothing/3", "#%", "#layer%2F2/x", "#/"):
        reader.go(odd)
    assert not reader.tab.errors


def test_a_folder_that_was_not_copied_whole_says_so(reader, page, records):
    block = Path(unquote(urlparse(page).path)).parent / "data/layer-2/0.js"
    aside = block.rename(block.with_suffix(".aside"))
    reader.go("#layer%2F2/0", "document.querySelector('.trouble[role=alert]')")
    assert "data/layer-2/0.js cannot be read" in reader.texts(".trouble[role=alert]")[0]
    aside.rename(block)
    reader.tab.errors.clear()  # the browser's own, of the file
    reader.tab.run("location.hash = '#layer%2F2/1'")  # of the same block: it is tried again
    reader.tab.until("document.querySelector('#latent').textContent.startsWith('Latent 1')")
