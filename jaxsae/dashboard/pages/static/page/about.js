"use strict";
/* What was searched, what the figures mean, and what they do not say. */

const About = (() => {
  const BINS = 32;

  function draw(site, version, hooks) {
    const { about } = site;
    const whole = (value) => value && Say.whole(value);
    const facts = {
      run: about.run, model: about.model, architecture: about.architecture, latents: whole(site.width),
      d_model: whole(about.d_model), k: about.k, store: about.store, "rows searched": whole(about.rows),
      "of sequences": whole(about.sequences), games: whole(about.games),
    };
    return el("article.about", {},
      hooks.button("‹ list", { class: "tool back", "aria-label": "Back to the list" }, hooks.back),
      el("p.kind", {}, "Latents of a sparse autoencoder"), el("h1", {}, site.title),
      el("dl.facts", {}, Object.entries(facts).map(([name, value]) =>
        value ? el("div", {}, el("dt", {}, name), el("dd", {}, String(value))) : null)),
      el("div.panels.two", {}, frequencies(site), counts(site)),
      el("section", {}, el("h2", {}, "What the figures mean"), el("dl.meanings", {},
        meanings(site).filter(Boolean).map(([name, says]) => [el("dt", {}, name), el("dd", {}, says)]))),
      el("section", {}, el("h2", {}, "What they do not say"), el("ul.notes", {},
        notes(site).filter(Boolean).map((note) => el("li", {}, note)))),
      el("footer", {}, `Drawn by jaxsae ${version}. Everything on this page comes from the folder that it lies in.`));
  }

  function counts(site) {
    const silent = site.frequency.reduce((sum, value) => sum + (value === 0), 0);
    const rows = [
      ["latents", site.width], ["with contexts here", site.shown], ["that never fire in these rows", silent],
      ["with a label", site.labelled],
      site.hasAuroc ? ["with AUROC above .9", site.auroc.reduce((sum, value) => sum + (value > 0.9), 0)] : null,
    ];
    return el("section.panel", {}, el("h2", {}, "Counts"), el("ol.near", {}, rows.map((row) =>
      row && el("li", {}, el("span.what", {}, row[0]), el("span.figure", {}, Say.whole(row[1]))))));
  }

  function frequencies(site) {
    let low = 0; // the rarest, as a power of ten
    for (const value of site.frequency) if (value > 0) low = Math.min(low, Math.floor(Math.log10(value)));
    if (low === 0) return null;
    const bins = new Float64Array(BINS);
    for (const value of site.frequency) {
      if (value > 0) bins[Math.min(Math.floor((BINS * (Math.log10(value) - low)) / -low), BINS - 1)]++;
    }
    const edge = (bin) => Say.percent(10 ** (low - (low * bin) / BINS));
    const every = Math.ceil(-low / 5);
    const ticks = [];
    for (let power = low; power < 0; power += every) ticks.push([power, Say.percent(10 ** power)]);
    return el("section.panel", {}, el("h2", {}, "How often they fire", " ", el("small", {}, "latents, log scale, by share of rows")),
      Histogram.draw(bins, { low, high: 0, ticks, height: 160, title: "Latents by the share of rows on which they fire, both logarithmic",
        tell: (bin) => `${edge(bin)} to ${edge(bin + 1)} of rows\n${Say.whole(bins[bin])} latents` }));
  }

  function meanings(site) {
    const { bands, no_lens, together_rows } = site.about;
    const text = site.kind === "text", boards = site.kind === "othello";
    return [
      ["fires on", "The share of the rows searched on which its activation is above 0."],
      ["largest, mean", "Its largest activation in those rows, and the mean of those on which it fires."],
      ["decoder norm", "The length of its decoder row: how much one unit of activation adds to what the dictionary writes."],
      site.hasAuroc && ["AUROC", "How well its activation alone tells the square named beside it from all other positions: .5 is chance, 1 is without fault."],
      ["strongest", "The places where it is largest, the largest first, one of a sequence where there are enough."],
      bands && ["bands", `Some places from each of ${bands} equal parts of 0 to its largest activation.`],
      text && ["shade", "A token's activation as a share of the latent's largest anywhere. The framed token is the one the place was chosen for. Faint tokens were not harvested."],
      boards && ["boards", "The position after the move, as the player to move sees it: dark discs are theirs who move, light ones the opponent's. A point marks the last move, a frame the square of the latent's target."],
      ["promoted, suppressed", no_lens ? `There is no logit lens: ${no_lens}.`
        : "The logit lens: tokens whose logits rise and fall most with a step of length 1 along its decoder row, at the mean of what the unembedding reads."],
      ["cosine", "Of its decoder row with another's."],
      ["phi", `The correlation of firing, yes or no, of two latents over ${together_rows ? `${Say.whole(together_rows)} of ` : ""}the rows.`],
    ];
  }

  function notes(site) {
    const { held_out, no_words } = site.about;
    const trained = { true: " The dictionary was not trained on them.", false: " The dictionary may have been trained on them." };
    return [
      `All shares, largest activations and contexts are of ${site.searched || "the rows searched"} and no others. A latent that never fires there may fire elsewhere.${trained[held_out] ?? ""}`,
      no_words && `Tokens stand as numbers: ${no_words}.`,
      "Strongest contexts show the extreme alone. Where weaker bands read differently, a name taken from the strongest is wrong for most of what it fires on.",
      "The logit lens is of first order: it leaves out all that later layers do with the direction, and how far the sum of all latents is from the mean.",
      site.hasAuroc && "The target beside a latent is the best of 192, so its AUROC is a little flattered by the choice.",
      "Firing together is not a cause. Near decoder rows need not fire together, and latents that fire together need not be near.",
      "Labels are what a reader or a model wrote. Nothing here checks them.",
    ];
  }

  return { draw };
})();
