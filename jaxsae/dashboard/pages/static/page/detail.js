"use strict";
/* The page of one latent. */

const Detail = (() => {
  function draw(site, latent, block, i, sites, hooks) {
    const parts = [head(site, latent, hooks), figures(site, latent)];
    if (block) {
      parts.push(el("div.panels.first", {}, activations(site, latent, block, i),
        ends(site, block, i, "promoted", "Promoted"), ends(site, block, i, "suppressed", "Suppressed")));
      parts.push(el("section.contexts", {}, el("h2", {}, "Where it fires ", scale(site, latent)), Contexts.draw(site, latent, block, i)));
      parts.push(el("div.panels.links", {}, nearest(site, block, i), together(site, block, i, sites)));
    } else parts.push(el("p.none", {}, absent(site, latent)));
    return el("article.latent", { "aria-labelledby": "latent" }, parts);
  }

  function head(site, latent, hooks) {
    const label = site.label(latent), fires = label ? [] : site.fires(latent);
    const step = (text, name, key, by) =>
      hooks.button(text, { class: "tool", "aria-label": name, "aria-keyshortcuts": key }, () => hooks.step(by));
    return el("header.head", {},
      hooks.button("‹ list", { class: "tool back", "aria-label": "Back to the list" }, hooks.back),
      el("div.titles", {}, el("p.beside", {}, site.title),
        el("h1", { id: "latent" }, `Latent ${latent} `, label && el("span.label", {}, label),
          fires.length > 0 && el("span.fires", { "data-tip": "What it fires on most in its strongest contexts: no label" },
            fires.slice(0, 4).map((word) => el("span.token", {}, Say.bare(word)))))),
      el("div.tools", {}, step("‹", "The one before in the list", "k", -1), step("›", "The next in the list", "j", 1),
        hooks.button("Copy link", { class: "tool", "aria-keyshortcuts": "c" }, hooks.copy)));
  }

  function figures(site, latent) {
    const fact = (name, value, beside) => el("div", {}, el("dt", {}, name), el("dd", {}, value, beside && el("small", {}, beside)));
    const frequency = site.frequency[latent], auroc = site.auroc[latent];
    const rows = site.about.rows;
    return el("dl.facts", {},
      fact("fires on", Say.percent(frequency), rows ? `${Say.whole(Math.round(frequency * rows))} rows` : null),
      fact("mean where it fires", Say.number(site.mean[latent])),
      fact("largest", Say.number(site.most[latent])),
      fact("decoder norm", Say.number(site.norm[latent])),
      Number.isNaN(auroc) ? null : fact("AUROC", Say.share(auroc), site.targetOf(latent)));
  }

  function absent(site, latent) {
    if (site.frequency[latent] === 0) return "It fired on none of the rows that were searched.";
    return `Contexts were kept of ${Say.whole(site.shown)} of the ${Say.whole(site.width)} latents, and it is not among them.`;
  }

  function activations(site, latent, block, i) {
    const counts = Data.row(block.histogram, i), most = site.most[latent];
    if (!counts.length || !(most > 0)) return null;
    const edge = (bin) => Say.number((bin * most) / counts.length);
    const drawn = Histogram.draw(counts, {
      low: 0, high: most, ticks: Histogram.round(most), height: Narrow.matches ? 120 : 225,
      tell: (bin) => `${edge(bin)} to ${edge(bin + 1)}\n${Say.whole(counts[bin])} rows`,
      title: `Rows by activation, from 0 to ${Say.number(most)}, counts on a logarithmic axis`,
    });
    return el("section.panel", {}, el("h2", {}, "Activation", " ", el("small", {}, "rows, log scale")), drawn);
  }

  /* One end of the logit lens. */
  function ends(site, block, i, name, title) {
    const ids = Data.row(block[name], i), weights = Data.row(block[`${name}_weights`], i);
    const most = Math.max(...Array.from(weights, (w) => (Number.isFinite(w) ? Math.abs(w) : 0)), 1e-12);
    const rows = Array.from(ids, (id, j) => {
      if (id < 0) return null;
      const row = el("li", {}, el("span.token", {}, Say.lone(site.word(id))), el("span.figure", {}, Say.signed(weights[j])));
      row.style.setProperty("--share", (Math.abs(weights[j]) / most).toFixed(3));
      return row;
    }).filter(Boolean);
    return rows.length ? el("section.panel", {}, el("h2", {}, title, " ", el("small", {}, "logits")), el(`ol.ends.${name}`, {}, rows)) : null;
  }

  function scale(site, latent) {
    if (site.kind === "rows") return el("small", {}, site.about.rows_are ?? "rows by number"); // without tokens to shade
    return el("small.scale", {}, "0 ", el("span.shades", { "aria-hidden": "true" }), ` ${Say.number(site.most[latent])}, its largest`);
  }

  function nearest(site, block, i) {
    return links("Nearest decoder rows", "cosine", site, Data.row(block.nearest, i), Data.row(block.nearest_cosine, i));
  }

  /* Latents that fire with it, of its own dictionary and of the others. */
  function together(site, block, i, sites) {
    return site.together.map((name, k) => {
      const latents = Data.row(block[`together_${k}`], i), phi = Data.row(block[`together_${k}_phi`], i);
      const other = name === "" || name === site.name ? site : sites.find((one) => one.name === name);
      const title = other === site ? "Fires with" : `Fires with, in ${name}`;
      return links(title, "phi", other, latents, phi);
    });
  }

  function links(title, unit, site, latents, scores) {
    const rows = Array.from(latents, (latent, j) => {
      if (latent < 0) return null;
      const name = el("span.what", { "data-called": latent }, site?.words ? site.called(latent) : "");
      const number = site ? el("a", { href: site.href(latent) }, String(latent)) : el("span", {}, String(latent));
      return el("li", {}, number, name, el("span.figure", {}, Say.signed(scores[j])));
    }).filter(Boolean);
    if (!rows.length) return null;
    const list = el("ol.near", { "data-site": site?.name ?? null }, rows);
    return el("section.panel", {}, el("h2", {}, title, " ", el("small", {}, unit)), list);
  }

  return { draw };
})();
