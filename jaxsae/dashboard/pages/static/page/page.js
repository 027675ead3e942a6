"use strict";
/* The page: what is asked for, by the address, the search and the keyboard, is what is shown. */

const Page = (() => {
  const FIGURES = { most: "largest", auroc: "AUROC", norm: "decoder norm", mean: "mean" };
  const NAMED = 60_000; // latents up to which another dictionary is read for the names of its own
  const by = (id) => document.getElementById(id);
  const asked = { query: "", which: "shown", only: false, low: 0, high: 100, sort: "", descending: true };
  let sites = [], version = "", site = null, latent = -1, figure = "most", list = null, turn = 0, leading = 0;

  function start(told) {
    sites = told.sites.map((one) => new Site(one));
    version = told.version;
    list = new List(by("scroller"), by("rows"), choose);
    by("site").replaceChildren(...sites.map((one) => el("option", { value: one.name }, one.title)));
    by("site-box").hidden = sites.length < 2;
    Keys.help(by("keys"));
    Keys.tips(by("tip"));
    Keys.listen(actions);
    Theme.show();
    wire();
    addEventListener("hashchange", follow);
    follow();
  }

  function wire() {
    const search = () => { read(); refresh(); };
    for (const id of ["query", "low", "high"]) by(id).addEventListener("input", search);
    for (const id of ["which", "only"]) by(id).addEventListener("change", search);
    by("filters").addEventListener("submit", (event) => event.preventDefault());
    by("heads").addEventListener("click", (event) => { if (event.target.dataset.sort) sort(event.target.dataset.sort, true); });
    by("figure").addEventListener("change", () => sort(by("figure").value, false));
    by("site").addEventListener("change", () => go(by("site").value));
    by("theme").addEventListener("click", Theme.toggle);
    by("help").addEventListener("click", () => by("keys").showModal());
  }

  function read() {
    const percent = (id, otherwise) => { const value = parseFloat(by(id).value.replace(",", ".")); return value >= 0 ? value : otherwise; };
    Object.assign(asked, { query: by("query").value, which: by("which").value, only: by("only").checked,
      low: percent("low", 0), high: percent("high", 100) });
  }

  const go = (name, to = "", quietly = false) => {
    const hash = `#${encodeURIComponent(name)}${to === "" ? "" : `/${to}`}`;
    if (quietly) location.replace(hash); // what is passed by on the way is not gone back to
    else location.hash = hash;
  };

  const choose = (to, wanted) => go(site.name, to, !wanted);

  /* Shows what the address names: #site, #site/about, #site/123. */
  async function follow() {
    const mine = ++turn;
    const [name, to] = parse(location.hash);
    const next = sites.find((one) => one.name === name) ?? sites[0];
    try {
      await next.open();
      if (mine !== turn) return;
      if (next !== site) enter(next);
      latent = /^\d+$/.test(to) ? Number(to) : -1;
      document.body.dataset.view = to === "" ? "list" : "detail";
      list.mark(latent);
      await next.arrived;
      if (mine === turn) await show(mine, to);
      if (mine === turn && Narrow.matches && to !== "") by("detail").focus({ preventScroll: true }); // the list is gone
    } catch (error) {
      if (mine === turn) fill(el("p.trouble", { role: "alert" }, String(error.message)));
    }
  }

  function parse(hash) {
    let whole = hash.slice(1);
    try { whole = decodeURIComponent(whole); } catch { /* a stray %: as it stands */ }
    const cut = whole.lastIndexOf("/");
    return cut < 0 || sites.some((one) => one.name === whole) ? [whole, ""] : [whole.slice(0, cut), whole.slice(cut + 1)];
  }

  /* Another dictionary than before. */
  function enter(next) {
    site = next;
    by("site").value = site.name;
    by("run").textContent = site.about.run ?? site.title;
    by("home").href = `#${encodeURIComponent(site.name)}`;
    by("about").href = `#${encodeURIComponent(site.name)}/about`;
    by("searched").textContent = site.searched;
    by("only-box").hidden = !site.labelled;
    by("query").placeholder = site.kind === "rows" ? "number or label" : site.hasAuroc ? "number, label, e4 mine" : "number, label or token";
    if (!site.labelled) by("only").checked = false;
    const kinds = Object.keys(FIGURES).filter((key) => key !== "auroc" || site.hasAuroc);
    by("figure").replaceChildren(...kinds.map((key) => el("option", { value: key }, FIGURES[key])));
    if (!asked.sort || !["number", "label", "frequency", ...kinds].includes(asked.sort)) {
      Object.assign(asked, { sort: site.hasAuroc ? "auroc" : "frequency", descending: true }); // what a reader looks for first
      figure = site.hasAuroc ? "auroc" : "most";
    }
    read();
    refresh();
    site.arrived.then(() => {
      if (site !== next) return;
      if (asked.query) refresh(); else list.draw();
      performance.mark("list");
      setTimeout(() => Search.prepare(next), 50); // once what is asked for is drawn
    }).catch(() => {}); // follow() says so
  }

  function refresh() {
    const { latents, first } = Search.find(site, asked);
    list.show(site, latents, figure, asked.query);
    leading = first;
    say();
    for (const head of by("heads").children) {
      const own = head.dataset.sort ? head.dataset.sort === asked.sort : asked.sort === figure;
      head.dataset.order = own ? (asked.descending ? "down" : "up") : "";
      if (head.dataset.sort) head.setAttribute("aria-pressed", own);
    }
    by("figure").value = figure;
  }

  /* again: that it is sorted by already turns the order round. */
  function sort(key, again) {
    if (again && asked.sort === key) asked.descending = !asked.descending;
    else Object.assign(asked, { sort: key, descending: Search.DESCENDING[key] });
    if (key in FIGURES) figure = key;
    refresh();
  }

  async function show(mine, to) {
    document.title = `${latent >= 0 ? `Latent ${latent} · ` : ""}${site.title} · jaxsae`;
    if (latent < 0) return fill(About.draw(site, version, hooks));
    if (latent >= site.width) {
      return fill(el("p.none", {}, `There is no latent ${to} here: they are 0 to ${Say.whole(site.width - 1)}.`));
    }
    const found = site.row[latent] < 0 ? { block: null, i: -1 } : await site.detail(latent);
    if (mine !== turn) return;
    fill(Detail.draw(site, latent, found.block, found.i, sites, hooks));
    performance.mark("latent");
    name();
  }

  function fill(element) {
    const detail = by("detail");
    detail.replaceChildren(element);
    detail.scrollTop = 0;
    if (document.body.dataset.view === "detail") scrollTo(0, 0); // where the window scrolls, on a phone
  }

  /* Links to other dictionaries get names once those have been read. */
  async function name() {
    for (const near of by("detail").querySelectorAll(".near[data-site]")) {
      const other = sites.find((one) => one.name === near.dataset.site);
      if (!other || (other !== site && other.width > NAMED)) continue;
      try { await (await other.open()).arrived; } catch { continue; } // the numbers are links all the same
      for (const link of near.querySelectorAll("[data-called]")) link.textContent = other.called(Number(link.dataset.called));
    }
  }

  async function copy() {
    try { await navigator.clipboard.writeText(location.href); say("Link copied."); }
    catch { say(location.href); } // where a page may not write there, it can be copied by hand
  }

  /* How many are listed, or for a while something else. */
  function say(text) {
    const count = list.latents.length;
    const lead = leading && leading < count ? `, first ${Say.whole(leading)} called so or firing on it` : "";
    by("count").textContent = text ?? (count ? `${Say.whole(count)} of ${Say.whole(site.width)} latents${lead}`
      : `None is like that.${asked.query ? " Esc empties the search." : " The filters leave none."}`);
    if (text) setTimeout(say, 2500);
  }

  const hooks = {
    step: (n) => list.step(n), back: () => go(site.name), copy,
    button: (text, attributes, act) => {
      const button = el("button", { type: "button", ...attributes }, text);
      button.addEventListener("click", act);
      return button;
    },
  };

  function other(n) {
    const i = sites.indexOf(site) + n;
    if (sites[i]) go(sites[i].name);
  }

  function nextSort() {
    const keys = ["frequency", "label", ...Array.from(by("figure").options, (option) => option.value), "number"];
    sort(keys[(keys.indexOf(asked.sort) + 1) % keys.length], false);
  }

  const actions = {
    j: () => list.step(1), k: () => list.step(-1), ArrowDown: () => list.step(1), ArrowUp: () => list.step(-1),
    "/": () => { document.body.dataset.view = "list"; by("query").focus(); by("query").select(); },
    s: nextSort, r: () => sort(asked.sort, true), "[": () => other(-1), "]": () => other(1), t: Theme.toggle, c: copy,
    "?": () => by("keys").showModal(),
    Enter: () => { if (list.find(latent) < 0) list.step(1); by("detail").focus(); },
    Escape: (target) => {
      if (by("keys").open) return by("keys").close();
      if (by("query").value) { by("query").value = ""; read(); refresh(); list.mark(latent); }
      else if (target.id === "query") target.blur();
      else if (document.body.dataset.view === "detail" && (latent < 0 || Narrow.matches)) go(site.name);
      else by("scroller").focus();
    },
  };

  addEventListener("load", () => {
    if (!sites.length) fill(el("p.trouble", { role: "alert" }, "data/sites.js cannot be read. Was the folder copied whole?"));
  });

  return { start, site: () => site.name, listed: () => Array.from(list.latents) };
})();

const receiveSites = Page.start; // what data/sites.js calls
