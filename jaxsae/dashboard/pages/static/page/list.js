"use strict";
/* The list: only the rows in sight are elements, whatever its length. */

class List {
  static TALLEST = 8e6; // pixels: browsers draw no element that is taller than some 17 million

  constructor(scroller, rows, choose) {
    Object.assign(this, { scroller, rows, choose, site: null, latents: new Uint32Array(0), chosen: -1, figure: "most" });
    this.height = 46;
    scroller.addEventListener("scroll", () => this.later(), { passive: true });
    new ResizeObserver(() => this.later()).observe(scroller);
    rows.addEventListener("click", (event) => {
      const row = event.target.closest("[data-latent]");
      if (row) choose(Number(row.dataset.latent), true);
    });
  }

  show(site, latents, figure, query) {
    Object.assign(this, { site, latents, figure, query });
    const lines = site.kind === "rows" ? 1 : 2;
    this.rows.classList.toggle("single", lines === 1);
    this.height = lines === 1 ? 34 : 46;
    this.rows.style.height = `${Math.min(latents.length * this.height, List.TALLEST)}px`;
    this.scroller.scrollTop = 0;
    this.draw();
  }

  later() {
    this.waiting ??= requestAnimationFrame(() => { this.waiting = null; this.draw(); });
  }

  /* Pixels of the whole list that lie above the window; they are those scrolled unless it had to be shortened. */
  get above() {
    const total = this.latents.length * this.height, view = this.scroller.clientHeight;
    const drawn = Math.min(total, List.TALLEST);
    return drawn > view ? (this.scroller.scrollTop * (total - view)) / (drawn - view) : 0;
  }

  scrollTo(above) {
    const total = this.latents.length * this.height, view = this.scroller.clientHeight;
    const drawn = Math.min(total, List.TALLEST);
    this.scroller.scrollTop = total > view ? (above * (drawn - view)) / (total - view) : 0;
  }

  draw() {
    if (!this.site) return;
    const above = this.above;
    const first = Math.max(0, Math.floor(above / this.height) - 4);
    const last = Math.min(this.latents.length, Math.ceil((above + this.scroller.clientHeight) / this.height) + 4);
    const shift = this.scroller.scrollTop - above;
    const drawn = [];
    for (let i = first; i < last; i++) drawn.push(this.row(this.latents[i], i, i * this.height + shift));
    this.rows.replaceChildren(...drawn);
    const chosen = document.getElementById(`latent-${this.chosen}`);
    if (chosen) this.scroller.setAttribute("aria-activedescendant", chosen.id);
    else this.scroller.removeAttribute("aria-activedescendant");
  }

  row(latent, i, top) {
    const { site } = this;
    const attributes = {
      role: "option", id: `latent-${latent}`, "data-latent": latent, "aria-selected": latent === this.chosen,
      "aria-posinset": i + 1, "aria-setsize": this.latents.length,
    };
    const element = el("div.row", attributes, el("span.number", {}, String(latent)), this.what(latent),
      el("span.figure", {}, Say.percent(site.frequency[latent])),
      el("span.figure", {}, (this.figure === "auroc" ? Say.share : Say.number)(site[this.figure][latent])));
    element.style.transform = `translateY(${top}px)`;
    return element;
  }

  /* Label over context; where there is no label, the tokens that it fires on. */
  what(latent) {
    const { site } = this;
    const label = site.label(latent), snippet = site.snippet(latent);
    const fires = site.fires(latent).slice(0, 4).map((word) => el("span.token", {}, Say.bare(word)));
    const silent = site.frequency[latent] === 0 ? "never fires" : "";
    const head = label ? el("span.label", {}, label) : el("span.fires", {}, fires.length ? fires : el("i", {}, silent));
    if (site.kind === "rows") return el("span.what", {}, head);
    const promoted = this.query ? Search.promotedBy(site, latent, this.query) : null;
    if (promoted !== null) return el("span.what", {}, head, el("span.snippet", {}, "promotes ", el("span.token", {}, Say.bare(promoted))));
    const [before, token, after] = snippet ?? ["", "", ""];
    const text = site.kind === "othello" && label ? el("span.snippet", {}, fires.length ? ["after ", fires] : null)
      : el("span.snippet", {}, snippet && [el("span.before", {}, before), el("mark", {}, token), el("span.after", {}, after)]);
    return el("span.what", {}, head, text);
  }

  /* Where a latent stands in the list, or -1. */
  find(latent) { return this.latents.indexOf(latent); }

  /* The chosen one, in sight. */
  mark(latent) {
    this.chosen = latent;
    const i = this.find(latent);
    if (i >= 0) {
      const top = i * this.height, view = this.scroller.clientHeight, above = this.above;
      const far = top < above - view || top > above + 2 * view;
      if (far) this.scrollTo(top - view / 2);
      else if (top < above) this.scrollTo(top);
      else if (top + this.height > above + view) this.scrollTo(top + this.height - view);
    }
    this.draw();
  }

  /* Goes to the next or the one before; from nowhere, to the first. */
  step(by) {
    if (!this.latents.length) return;
    const i = this.find(this.chosen);
    const next = i < 0 ? 0 : Math.min(Math.max(i + by, 0), this.latents.length - 1);
    this.choose(this.latents[next], false);
  }
}
