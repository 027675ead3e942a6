"use strict";
/* An Othello position as the player to move sees it, drawn as the report draws it. */

const Board = (() => {
  const CELL = 40, MARGIN = 22, SIZE = MARGIN + 8 * CELL + 2;

  /* a1 -> 0, h8 -> 63; -1 of what is no square. */
  function square(name) {
    const found = /^([a-h])([1-8])$/i.exec(name);
    return found ? "abcdefgh".indexOf(found[1].toLowerCase()) + 8 * (Number(found[2]) - 1) : -1;
  }

  /* mine, theirs: two uint32 each, the low half first. last: square of the last move. target: square to frame, or -1. */
  function draw({ mine, theirs, last, target, title }) {
    const has = (halves, s) => (halves[s >> 5] >>> (s & 31)) & 1;
    const cells = [];
    for (let s = 0; s < 64; s++) {
      const [x, y] = corner(s);
      cells.push(svg("rect.square", { x: x + 0.5, y: y + 0.5, width: CELL - 1, height: CELL - 1 }));
      const whose = has(mine, s) ? "mine" : has(theirs, s) ? "theirs" : null;
      if (whose) cells.push(svg(`circle.disc.${whose}`, { cx: x + CELL / 2, cy: y + CELL / 2, r: CELL * 0.36 }));
    }
    if (last >= 0) {
      const [x, y] = corner(last);
      cells.push(svg("circle.last", { cx: x + CELL / 2, cy: y + CELL / 2, r: 5.5 }));
    }
    if (target >= 0) {
      const [x, y] = corner(target);
      cells.push(svg("rect.target", { x: x + 1.5, y: y + 1.5, width: CELL - 3, height: CELL - 3 }));
    }
    return svg("svg.board", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", "aria-label": title }, rims(), cells);
  }

  const corner = (s) => [MARGIN + CELL * (s & 7), MARGIN + CELL * (s >> 3)];

  function rims() {
    return Array.from({ length: 8 }, (_, i) => [
      svg("text.rim", { x: MARGIN + CELL * (i + 0.5), y: 15 }, "abcdefgh"[i]),
      svg("text.rim", { x: 10, y: MARGIN + CELL * (i + 0.5) + 4.5 }, String(i + 1)),
    ]);
  }

  return { square, draw };
})();
