"use strict";
/* One dictionary: columns of all its latents, and words of those that have contexts, once they have come. */

class Site {
  static TARGETS = ["empty", "mine", "theirs"]; // of a square, in the order of the 192 targets
  static WORTH_A_NAME = 0.7; // AUROC below which a latent says too little about its best target to be named by it

  constructor(told) {
    Object.assign(this, told); // name, folder, about, width, shown, labelled, page, before, together
    this.kind = this.about.kind;
    this.words = null;
  }

  get title() { return this.name || this.about.site || "dictionary"; }

  /* Once; a failed try may be repeated. */
  open() {
    this.opening ??= this.read().catch((error) => { this.opening = null; throw error; });
    return this.opening;
  }

  async read() {
    const reading = Data.load(`${this.folder}/words`); // both at once
    const columns = await Data.load(`${this.folder}/columns`);
    for (const name of ["frequency", "mean", "most", "norm", "auroc", "target"]) this[name] = columns[name].data;
    this.latents = columns.shown.data;
    this.row = new Int32Array(this.width).fill(-1); // of a latent among those with contexts
    this.latents.forEach((latent, i) => { this.row[latent] = i; });
    this.labels = new Map();
    columns.labelled.data.forEach((latent, i) => this.labels.set(latent, columns.json.labels[i]));
    this.hasAuroc = this.auroc.some((value) => !Number.isNaN(value));
    this.arrived = reading.then((words) => { this.words = words; this.vocabulary = words.json.words; });
    return this;
  }

  /* What was searched, in a few words. */
  get searched() {
    const { rows, games, store } = this.about;
    if (!rows) return "";
    return games ? `${Say.whole(rows)} positions of ${Say.whole(games)} games` : `${Say.whole(rows)} rows of ${store || "the store"}`;
  }

  href(latent) { return `#${encodeURIComponent(this.name)}/${latent}`; }

  /* What a latent is called: its label, or the target of the board that it tells well. */
  label(latent) {
    const own = this.labels.get(latent);
    if (own !== undefined) return own;
    return this.auroc[latent] >= Site.WORTH_A_NAME ? this.targetOf(latent) : "";
  }

  targetOf(latent) {
    const target = this.target[latent];
    return target >= 0 ? Site.targetName(target) : "";
  }

  static targetName(target) { return `${Site.TARGETS[target >> 6]} ${Site.square(target & 63)}`; }

  static square(number) { return "abcdefgh"[number & 7] + (1 + (number >> 3)); }

  word(index) { return index < 0 ? "" : this.vocabulary[index]; }

  /* What it fires on, the most common first, [] before words have come: whole words, or where there are none, tokens. */
  fires(latent) {
    const i = this.row[latent];
    if (!this.words || i < 0) return [];
    const named = (array, names) => Array.from(Data.row(array, i)).filter((index) => index >= 0).map((index) => names[index]);
    const whole = named(this.words.whole, this.words.json.whole);
    return whole.length ? whole : named(this.words.fires, this.vocabulary);
  }

  /* The strongest context: [before, the token, after], or null. */
  snippet(latent) {
    const i = this.row[latent];
    if (!this.words || i < 0 || !this.words.snippet.width) return null;
    const words = Array.from(Data.row(this.words.snippet, i), (index) => this.word(index));
    if (!words[this.before]) return null;
    const moves = this.kind === "othello";
    const text = (part) => part.filter(Boolean).map((word) => (moves ? ` ${word} ` : Say.token(word))).join("");
    return [text(words.slice(0, this.before)), Say.token(words[this.before]), text(words.slice(this.before + 1))];
  }

  /* A name for links: never empty where anything is known. */
  called(latent) {
    return this.label(latent) || this.fires(latent).slice(0, 3).map(Say.bare).join("  ");
  }

  /* The block with the contexts of a latent, and its row there. */
  async detail(latent) {
    const i = this.row[latent];
    const block = await Data.page(`${this.folder}/${Math.floor(i / this.page)}`);
    return { block, i: i % this.page };
  }
}
