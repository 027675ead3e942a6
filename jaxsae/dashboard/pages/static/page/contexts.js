"use strict";
/* Where a latent fires: the strongest places, then some of each equal part of 0 to its largest activation. */

const Contexts = (() => {
  const LONG = 24; // letters of a token that may be broken over lines

  /* Sections of contexts of row i of a block; `latent` is whose. */
  function draw(site, latent, block, i) {
    const from = block.start.data[i], to = block.start.data[i + 1];
    if (from === to) return [el("p.none", {}, "No context of it was kept.")];
    const bands = new Map(); // in the order of the file: the strongest, then the others
    for (let p = from; p < to; p++) {
      const band = block.band.data[p];
      bands.set(band, [...(bands.get(band) ?? []), p]);
    }
    const most = site.most[latent];
    const order = [...bands.keys()].sort((a, b) => (a === 0 ? -1 : b === 0 ? 1 : b - a));
    const drawn = order.map((band) => {
      const places = bands.get(band);
      const boards = "mine" in block;
      const drawn = places.map((p) => (boards ? position : line)(site, latent, block, p));
      return el("section.band", {}, head(site, band, places.length, most), el(boards ? "ol.positions" : "ol.lines", {}, drawn));
    });
    return el("div.bands", {}, drawn);
  }

  function head(site, band, count, most) {
    if (band === 0) return el("h3", {}, "Strongest", " ", el("small", {}, `${count}`));
    const parts = site.about.bands || 1;
    const [low, high] = [(band - 1) / parts, band / parts];
    const range = `${Math.round(100 * low)} to ${Math.round(100 * high)}% of its largest`;
    return el("h3", {}, range, " ", el("small", {}, `${Say.number(low * most)} to ${Say.number(high * most)} · ${count}`));
  }

  /* A line of tokens, or where there are none, the row alone. */
  function line(site, latent, block, p) {
    const at = block.at.data[p];
    const value = block.values.width > at ? Data.row(block.values, p)[at] : NaN;
    const rows = site.kind === "rows"; // which are by number, and have no tokens
    const shaded = rows ? null : tokens(site, latent, block, p);
    const { data: sequences } = block.sequence, { data: positions } = block.position;
    const long = rows ? `row ${sequences[p]}` : `sequence ${sequences[p]}, position ${positions[p]}`;
    return el("li.line", {}, el("b.value", {}, Say.number(value)), shaded && el("p.text", {}, shaded),
      el("small.where", { title: long }, shaded ? `${sequences[p]}:${positions[p]}` : long));
  }

  /* A board after the move it fires on, with the moves up to it. */
  function position(site, latent, block, p) {
    const at = block.at.data[p];
    const value = Data.row(block.values, p)[at];
    const move = site.word(Data.row(block.tokens, p)[at]);
    const ply = block.position.data[p] + 1;
    const target = site.auroc[latent] >= Site.WORTH_A_NAME ? site.target[latent] & 63 : -1;
    const title = `Position after move ${ply}, ${move}: activation ${Say.number(value)}`;
    const board = Board.draw({ mine: Data.row(block.mine, p), theirs: Data.row(block.theirs, p), last: Board.square(move), target, title });
    return el("li.position", {}, board, el("div.caption", {}, el("b.value", {}, Say.number(value)),
      el("small.where", { title: `game ${block.sequence.data[p]}` }, `move ${ply}`)), el("p.text.moves", {}, tokens(site, latent, block, p)));
  }

  /* Each token as an element with its share of the latent's largest activation as `--a`, which page.css shades by. */
  function tokens(site, latent, block, p) {
    if (!block.tokens.width) return null;
    const ids = Data.row(block.tokens, p), values = Data.row(block.values, p);
    const at = block.at.data[p], position = block.position.data[p], most = site.most[latent];
    const moves = site.kind === "othello";
    const drawn = [];
    ids.forEach((id, j) => {
      if (id < 0) return;
      const value = values[j], known = !Number.isNaN(value), word = site.word(id);
      const share = known && most > 0 ? Math.min(Math.abs(value) / most, 1) : 0;
      const token = el(j === at ? "mark.t" : "span.t", { "data-tip": tip(site, id, word, value, position + j - at) });
      token.append(...(moves ? [word] : Say.shown(word)));
      if (share > 0) {
        token.style.setProperty("--a", share.toFixed(3));
        token.classList.add(value < 0 ? "below" : "fires");
      } else if (!known) token.classList.add("unknown");
      if (word.length > LONG) token.classList.add("long");
      if (moves) drawn.push(token, " ");
      else drawn.push(/^\s/.test(word) ? el("wbr") : null, token); // a line ends before a blank, never inside a token
    });
    return drawn.length ? drawn.filter(Boolean) : null;
  }

  function tip(site, id, word, value, position) {
    const activation = Number.isNaN(value) ? "not harvested" : Say.signed(value);
    return `${JSON.stringify(word)}   ${activation}\ntoken ${site.words.token.data[id]}, position ${position}`;
  }

  return { draw };
})();
