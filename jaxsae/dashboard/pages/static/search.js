"use strict";
/* Which latents are listed, and in what order. Every word of a search has to be found: in the number, the label, the
   name of the target, a token that it fires on or promotes, or the text of its strongest context. */

const Search = (() => {
  const DESCENDING = { number: false, label: false, frequency: true, most: true, auroc: true, norm: true, mean: true };

  /* Latents by one figure, ascending, those without it apart. Kept: sorting 100,000 takes longer than to filter them. */
  function order(site, key) {
    site.orders ??= new Map();
    if (!site.orders.has(key)) site.orders.set(key, key === "label" ? byLabel(site) : byFigure(site, key));
    return site.orders.get(key);
  }

  function byFigure(site, key) {
    const all = Uint32Array.from({ length: site.width }, (_, latent) => latent);
    if (key === "number") return { known: all, unknown: new Uint32Array(0) };
    const column = site[key];
    const known = all.filter((latent) => !Number.isNaN(column[latent]));
    return { known: known.sort((a, b) => column[a] - column[b]), unknown: all.filter((l) => Number.isNaN(column[l])) };
  }

  function byLabel(site) {
    const known = [], unknown = [], labels = [];
    for (let latent = 0; latent < site.width; latent++) {
      const label = site.label(latent).toLowerCase();
      (label ? known : unknown).push(latent);
      if (label) labels[latent] = label;
    }
    known.sort((a, b) => (labels[a] < labels[b] ? -1 : labels[a] > labels[b] ? 1 : a - b));
    return { known: Uint32Array.from(known), unknown: Uint32Array.from(unknown) };
  }

  /* The words of a query; what stands in quotes is one word, and has to be a whole token. */
  function terms(query) {
    const found = query.toLowerCase().matchAll(/"([^"]+)"?|(\S+)/g);
    return Array.from(found, ([, whole, part]) => (whole === undefined ? { part } : { whole: whole.trim() }));
  }

  /* Latents to list, as a Uint32Array.
     asked: {query, which: "shown" | "all" | "silent", only (with a label), low, high (percent of rows), sort, descending} */
  function find(site, asked) {
    const wanted = terms(asked.query).map((term) => matches(site, term));
    const exact = /^\d+$/.test(asked.query.trim()) ? Number(asked.query) : -1;
    const { known, unknown } = order(site, asked.sort);
    const out = new Uint32Array(site.width);
    let count = 0;
    // A number that was typed stands first, whatever the filters say of it.
    if (exact >= 0 && exact < site.width) out[count++] = exact;
    const low = asked.low / 100, high = asked.high / 100;
    const take = (latent) => {
      if (latent === exact) return;
      const frequency = site.frequency[latent];
      if (asked.which === "shown" ? site.row[latent] < 0 : asked.which === "silent" && frequency > 0) return;
      if (asked.only && !site.labels.has(latent)) return;
      if (frequency < low || frequency > high) return;
      for (const match of wanted) if (!match[latent]) return;
      out[count++] = latent;
    };
    if (asked.descending) for (let i = known.length - 1; i >= 0; i--) take(known[i]);
    else known.forEach(take);
    unknown.forEach(take);
    return out.subarray(0, count);
  }

  /* Uint8Array [latents], 1 where a word of a search is found. */
  function matches(site, term) {
    const hit = new Uint8Array(site.width);
    const plain = term.whole ?? term.part;
    for (const [latent, label] of site.labels) if (label.toLowerCase().includes(plain)) hit[latent] = 1;
    byTarget(site, plain, hit);
    if (/^\d+$/.test(plain)) {
      for (let latent = 0; latent < site.width; latent++) if (String(latent).startsWith(plain)) hit[latent] = 1;
    }
    if (site.words) byTokens(site, term, hit);
    return hit;
  }

  function byTarget(site, plain, hit) {
    if (!site.hasAuroc) return;
    const named = Uint8Array.from({ length: 192 }, (_, target) => Site.targetName(target).includes(plain));
    for (let latent = 0; latent < site.width; latent++) {
      if (site.auroc[latent] >= Site.WORTH_A_NAME && named[site.target[latent]]) hit[latent] = 1;
    }
  }

  /* Each token of the vocabulary is looked at once, then only numbers are compared. */
  function byTokens(site, term, hit) {
    const { fires, promoted } = site.words;
    site.lower ??= site.vocabulary.map((word) => word.toLowerCase());
    const fits = term.whole === undefined ? (word) => word.includes(term.part) : (word) => word.trim() === term.whole;
    const found = Uint8Array.from(site.lower, fits);
    for (const { data, width } of [fires, promoted]) {
      for (let i = 0; i < data.length; i++) if (found[data[i]]) hit[site.latents[Math.floor(i / width)]] = 1;
    }
    if (term.whole !== undefined) return;
    const texts = snippets(site); // words that are several tokens
    for (let i = 0; i < texts.length; i++) if (texts[i].includes(term.part)) hit[site.latents[i]] = 1;
  }

  /* The strongest context of each latent as text in lower case. */
  function snippets(site) {
    if (site.texts) return site.texts;
    const { data, width } = site.words.snippet;
    const join = site.kind === "othello" ? " " : "";
    site.texts = new Array(site.latents.length).fill("");
    for (let i = 0; i < site.texts.length && width; i++) {
      let text = "";
      for (let j = i * width; j < (i + 1) * width; j++) if (data[j] >= 0) text += site.lower[data[j]] + join;
      site.texts[i] = text;
    }
    return site.texts;
  }

  /* What a first search would wait for, while nothing else happens. */
  function prepare(site) {
    site.lower ??= site.vocabulary.map((word) => word.toLowerCase());
    snippets(site);
  }

  return { DESCENDING, find, prepare };
})();
