"use strict";
/* Elements, figures and tokens as people read them. Text goes in as text nodes alone: no token is ever read as HTML. */

const SVG = document.getElementById("svg").namespaceURI; // whose name looks like an address, and none stands in these files

const Narrow = matchMedia("(max-width: 47.5rem)"); // as in page.css: the list and a latent are two screens

/* el("b.value", {title: "x"}, "text", child): a child that is nothing (null, false, "") is left out. */
function el(what, attributes = {}, ...children) {
  return filled(document.createElement(what.split(".")[0]), what, attributes, children);
}

function svg(what, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, what.split(".")[0]), what, attributes, children);
}

function filled(element, what, attributes, children) {
  const classes = what.split(".").slice(1);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
  element.append(...children.flat(2).filter(Boolean));
  return element;
}

const Say = (() => {
  const whole = new Intl.NumberFormat("en");

  /* Three significant digits, without a false 0. */
  function number(value) {
    if (!Number.isFinite(value)) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(1).replace("e+", "e");
    return size >= 1000 ? whole.format(Math.round(value)) : value.toPrecision(3);
  }

  function percent(share) {
    if (share === 0) return "0";
    return `${Number((share * 100).toPrecision(2))}%`;
  }

  /* Cut, never rounded up: 0.9996 is not 1. */
  const share = (value) => (Number.isFinite(value) ? (Math.floor(value * 1000) / 1000).toFixed(3).replace(/^0/, "") : "–");

  const signed = (value) => (value < 0 ? `−${number(-value)}` : number(value));

  /* A token whose blanks can be seen: lone or doubled ones, tabs, ends of lines and what has no shape. */
  function token(word) {
    const shapes = { "\n": "↵", "\r": "⇠", "\t": "⇥", "\u2028": "↵", "\u2029": "↵" };
    const seen = word.replace(/[\n\r\t\u2028\u2029]/g, (blank) => shapes[blank]);
    const spaces = /^ +$/.test(seen) ? seen.replace(/ /g, "·") : seen.replace(/ {2,}/g, (run) => "·".repeat(run.length));
    return spaces.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, (c) =>
      `‹${c.codePointAt(0).toString(16)}›`) || "∅";
  }

  /* The same as elements: what stands for a blank is faint. */
  const faint = (text, blanks) => text.split(blanks).map((part, i) => (i % 2 ? el("i.blank", {}, part === " " ? "·" : part) : part));
  const shown = (word) => faint(token(word), /([·↵⇥⇠␍]+)/);

  /* And on its own, as in a list of tokens, where a blank at either end would not be seen. */
  const lone = (word) => faint(token(word), /(^ | $|[·↵⇥⇠␍]+)/);

  /* And as a mere hint of what it is. */
  const bare = (word) => token(word).trim();

  return { whole: (value) => whole.format(value), number, percent, share, signed, token, shown, lone, bare };
})();
