"use strict";
/* The keyboard, the help that lists its keys, and the tip that says what the pointer is on. */

const Keys = (() => {
  const HELP = [
    ["j  ↓", "next in the list"], ["k  ↑", "the one before"], ["Enter", "read the latent chosen"], ["/", "search"],
    ["s", "sort by the next figure"], ["r", "turn the order round"], ["[  ]", "other dictionaries"], ["c", "copy a link to it"],
    ["t", "light or dark"], ["?", "this help"], ["Esc", "close, or empty the search"],
  ];
  const SEARCHES = [
    ["1234", "the latent of that number, then those that begin with it"],
    ["royal women", "both words, each in a label, a token it fires on or promotes, or its strongest context; labels and what it fires on come first"],
    ["\"the\"", "a whole token or word"], ["e4 mine", "a square of the board"],
  ];

  function listen(actions) {
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
      const { target } = event;
      const writing = target.matches("input:not([type=checkbox]), textarea");
      if (event.key === "Escape") return void actions.Escape(target);
      if (document.querySelector("dialog[open]") || target.matches("select")) return;
      if (writing && !(target.id === "query" && ["ArrowDown", "ArrowUp", "Enter"].includes(event.key))) return;
      // Buttons and links keep Enter; a page that is being read keeps its arrows.
      if (event.key === "Enter" && !writing && target.id !== "scroller") return;
      if (event.key.startsWith("Arrow") && document.getElementById("detail").contains(target)) return;
      const pages = { PageDown: 0.9, PageUp: -0.9, " ": event.shiftKey ? -0.9 : 0.9 }[event.key];
      if (pages && target === document.body) { // which does not scroll itself
        const detail = document.getElementById("detail");
        return void detail.scrollBy(0, pages * detail.clientHeight);
      }
      const action = actions[event.key];
      if (!action) return;
      event.preventDefault();
      action(target);
    });
  }

  function help(dialog) {
    const table = (rows) => el("table", {}, el("tbody", {}, rows.map(([key, says]) =>
      el("tr", {}, el("th", { scope: "row" }, key.split("  ").map((one) => el("kbd", {}, one))), el("td", {}, says)))));
    const close = el("button.tool", { type: "button" }, "Close");
    close.addEventListener("click", () => dialog.close());
    dialog.replaceChildren(el("h2", { id: "keys-title" }, "Keys"), table(HELP), el("h2", {}, "Search"), table(SEARCHES), close);
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); }); // beside it
  }

  /* Shows `data-tip` of what the pointer, or a finger, is on. */
  function tips(tip) {
    const hide = () => { tip.hidden = true; };
    document.addEventListener("pointerover", (event) => {
      const on = event.target.closest?.("[data-tip]");
      if (!on) return hide();
      tip.textContent = on.dataset.tip;
      tip.hidden = false;
      const box = on.getBoundingClientRect(), own = tip.getBoundingClientRect();
      const left = Math.min(Math.max(box.left + box.width / 2 - own.width / 2, 6), innerWidth - own.width - 6);
      const above = box.top - own.height - 6;
      tip.style.left = `${left}px`;
      tip.style.top = `${above < 6 ? box.bottom + 6 : above}px`;
    });
    document.addEventListener("scroll", hide, { capture: true, passive: true });
  }

  return { listen, help, tips };
})();
