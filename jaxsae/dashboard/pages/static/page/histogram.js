"use strict";
/* Bars of counts on a logarithmic axis, so that the rare strong activations can be seen beside the many weak ones. */

const Histogram = (() => {
  const WIDTH = 260, LEFT = 34, RIGHT = 6, TOP = 8, BOTTOM = 20;

  /* counts: of equal bins from `low` to `high`. tell(i): what bin i says when pointed at. ticks: [[value, text]].
     height: of a drawing 260 wide. */
  function draw(counts, { low, high, ticks, tell, title, height: HEIGHT }) {
    const most = Math.max(...counts, 1);
    const decades = Math.max(Math.log10(most), 0.7);
    const width = WIDTH - LEFT - RIGHT, height = HEIGHT - TOP - BOTTOM, foot = HEIGHT - BOTTOM;
    const FLOOR = 0.3; // so that a count of 1, whose logarithm is 0, has a bar
    const up = (count) => (height * (Math.log10(count) + FLOOR)) / (decades + FLOOR);
    const across = (value) => LEFT + (width * (value - low)) / (high - low || 1);
    const lines = [];
    const every = decades > 4 ? 2 : 1;
    for (let decade = 0; decade <= decades; decade += every) {
      const y = foot - up(10 ** decade);
      lines.push(svg("line.grid", { x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y }),
        svg("text.rim.end", { x: LEFT - 5, y: y + 3.5 }, power(decade)));
    }
    const step = width / counts.length;
    const bars = Array.from(counts, (count, i) => {
      if (!count) return null;
      const size = up(count);
      return svg("rect.column", { x: LEFT + i * step + 0.5, y: foot - size, width: Math.max(step - 1, 0.8), height: size,
        "data-tip": tell(i) });
    });
    const marks = ticks.map(([value, text]) => svg("text.rim.middle", { x: across(value), y: HEIGHT - 5 }, text));
    const axis = svg("line.axis", { x1: LEFT, x2: WIDTH - RIGHT, y1: foot, y2: foot });
    return svg("svg.histogram", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title }, lines, bars, axis, marks);
  }

  const power = (decade) => `${10 ** (decade % 3)}${["", "k", "M", "G"][Math.floor(decade / 3)]}`;

  /* Round numbers from 0 to below `high`, some four of them. */
  function round(high) {
    const rough = high / 4, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
    const found = [];
    for (let i = 0; i * step < high * 0.99; i++) found.push([i * step, String(Number((i * step).toPrecision(3)))]);
    return found;
  }

  return { draw, round };
})();
