"use strict";
/* Which latents are listed, and in what order. Every word of a search has to be found: in the number, the label, the
   name of the target, a token that it fires on or promotes, or the text of its strongest context. */

const Search = (() => {
  const NUMBER = /^(0|[1-9]\d*)$/;
  const FOLLOWS = 1, LEADS = 2;
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

  /* The words of a query; what stands in quotes is one word, and has to be a whole token or word. */
  function terms(query) {
    const found = query.toLowerCase().matchAll(/"([^"]+)"?|(\S+)/g);
    return Array.from(found, ([, whole, part]) => (whole === undefined ? { part } : { whole: whole.trim() }));
  }

  /* Latents to list: {latents, a Uint32Array, and first, how many of them lead}. Those lead whose name or number the search
     is, or that fire on it; the others promote it, or it stands near where they fire.
     asked: {query, which: "shown" | "all" | "silent", only (with a label), low, high (percent of rows), sort, descending} */
  function find(site, asked) {
    const wanted = terms(asked.query).map((term) => matches(site, term));
    const exact = NUMBER.test(asked.query.trim()) ? Number(asked.query) : -1;
    const { known, unknown } = order(site, asked.sort);
    const low = asked.low / 100, high = asked.high / 100;
    const lead = new Uint32Array(site.width), follow = new Uint32Array(site.width);
    let leading = 0, following = 0;
    // A number that was typed stands first, whatever the filters say of it.
    if (exact >= 0 && exact < site.width) lead[leading++] = exact;
    const take = (latent) => {
      if (latent === exact) return;
      const frequency = site.frequency[latent];
      if (asked.which === "shown" ? site.row[latent] < 0 : asked.which === "silent" && frequency > 0) return;
      if (asked.only && !site.labels.has(latent)) return;
      if (frequency < low || frequency > high) return;
      let worst = LEADS;
      for (const match of wanted) worst = Math.min(worst, match[latent]);
      if (worst === LEADS) lead[leading++] = latent;
      else if (worst) follow[following++] = latent;
    };
    if (asked.descending) for (let i = known.length - 1; i >= 0; i--) take(known[i]);
    else known.forEach(take);
    unknown.forEach(take);
    lead.set(follow.subarray(0, following), leading);
    return { latents: lead.subarray(0, leading + following), first: wanted.length ? leading : 0 };
  }

  /* Uint8Array [latents]: 0 where a word of a search is not found, FOLLOWS or LEADS where it is. */
  function matches(site, term) {
    const hit = new Uint8Array(site.width);
    const plain = term.whole ?? term.part;
    if (site.words) {
      const found = Uint8Array.from(prepare(site).words, fits(term));
      byTokens(site, site.words.promoted, found, hit, FOLLOWS);
      // Words that are several tokens are found in the text.
      if (term.whole === undefined) byText(prepare(site).contexts, site.latents, plain, hit, FOLLOWS);
      byTokens(site, site.words.fires, found, hit, LEADS);
      byTokens(site, site.words.whole, Uint8Array.from(prepare(site).whole, fits(term)), hit, LEADS);
    }
    byText(prepare(site).labels, prepare(site).labelled, plain, hit, LEADS);
    byNumber(site, plain, hit);
    byTarget(site, plain, hit);
    return hit;
  }

  const fits = (term) => (term.whole === undefined ? (word) => word.includes(term.part) : (word) => word.trim() === term.whole);

  /* 12, 120 to 129, 1200 to 1299, ... */
  function byNumber(site, plain, hit) {
    if (!NUMBER.test(plain)) return;
    for (let low = Number(plain), many = 1; low < site.width; low *= 10, many *= 10) {
      hit.fill(LEADS, low, low + many);
      if (low === 0) return;
    }
  }

  function byTarget(site, plain, hit) {
    if (!site.hasAuroc) return;
    const named = Uint8Array.from({ length: 192 }, (_, target) => Site.targetName(target).includes(plain));
    for (let latent = 0; latent < site.width; latent++) {
      if (site.auroc[latent] >= Site.WORTH_A_NAME && named[site.target[latent]]) hit[latent] = LEADS;
    }
  }

  /* Each token of the vocabulary was looked at once, in `found`: here only numbers are compared. */
  function byTokens(site, { data, width }, found, hit, strength) {
    for (let row = 0, i = 0; i < data.length; row++) {
      let any = 0;
      for (const end = i + width; i < end; i++) any |= found[data[i]]; // undefined of -1, which is as good as 0
      if (any) hit[site.latents[row]] = strength;
    }
  }

  /* Lines that are one text, which is searched much faster than many. owners: latents, one of each line. */
  function byText({ text, starts }, owners, plain, hit, strength) {
    for (let at = text.indexOf(plain), row = 0; at >= 0; at = text.indexOf(plain, starts[row + 1])) {
      while (starts[row + 1] <= at) row++;
      hit[owners[row]] = strength;
    }
  }

  /* starts: where each line begins in the text. */
  function joined(lines) {
    const starts = new Int32Array(lines.length + 1);
    lines.forEach((line, row) => { starts[row + 1] = starts[row] + line.length + 1; });
    return { text: lines.join("\0"), starts }; // which no query holds
  }

  /* The token by which a search found a latent that shows nothing of it in the list: it promotes that. */
  function promotedBy(site, latent, query) {
    const row = site.row[latent];
    if (!site.words || row < 0) return null;
    const texts = [site.label(latent), String(latent), ...site.fires(latent), site.snippet(latent)?.join("")];
    for (const term of terms(query)) {
      if (texts.some((text) => text && text.toLowerCase().includes(term.whole ?? term.part))) continue;
      const { words } = prepare(site);
      const index = Data.row(site.words.promoted, row).find((one) => one >= 0 && fits(term)(words[one]));
      if (index !== undefined) return site.word(index);
    }
    return null;
  }

  /* All that is searched, in lower case, made once: labels and what they are of, words, and strongest contexts. */
  function prepare(site) {
    const lower = (words) => words.map((word) => word.toLowerCase());
    site.lower ??= { labels: joined(lower([...site.labels.values()])), labelled: [...site.labels.keys()] };
    if (!site.words || site.lower.contexts) return site.lower;
    const words = lower(site.vocabulary), whole = lower(site.words.json.whole);
    const { data, width } = site.words.snippet;
    const join = site.kind === "othello" ? " " : "";
    const lines = Array.from(site.latents, (_, row) => {
      let line = "";
      for (let i = row * width; i < (row + 1) * width; i++) if (data[i] >= 0) line += words[data[i]] + join;
      return line;
    });
    return Object.assign(site.lower, { words, whole, contexts: joined(lines) });
  }

  return { DESCENDING, find, prepare, promotedBy };
})();
