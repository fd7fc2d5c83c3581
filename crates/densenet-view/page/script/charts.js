// Small charts: histograms, bars, and what a layer reads.
import { h, s } from "./elements.js";
import { real } from "./format.js";

const WIDTH = 320;

/** A histogram with its range below. */
export function histogram(stats, name) {
  const counts = stats.histogram;
  const most = Math.max(...counts, 1);
  const height = 40;
  const step = WIDTH / counts.length;
  const bars = counts.map((count, i) => {
    // The square root keeps the tails in sight.
    const tall = Math.sqrt(count / most) * height;
    return s("rect", { x: i * step + 0.5, y: height - tall, width: Math.max(step - 1, 1), height: tall });
  });
  const parts = [...bars];
  if (stats.min < 0 && stats.max > 0) {
    const zero = (-stats.min / (stats.max - stats.min)) * WIDTH;
    parts.push(s("line", { x1: zero, x2: zero, y1: 0, y2: height }));
    if (zero > 46 && zero < WIDTH - 46) parts.push(s("text", { x: zero, y: 54, "text-anchor": "middle" }, "0"));
  }
  parts.push(s("text", { x: 0, y: 54 }, real(stats.min)));
  parts.push(s("text", { x: WIDTH, y: 54, "text-anchor": "end" }, real(stats.max)));
  const label = `Histogram of ${name}: from ${real(stats.min)} to ${real(stats.max)}, mean ${real(stats.mean)}`;
  return s("svg", { class: "histogram", viewBox: `0 0 ${WIDTH} 58`, role: "img", "aria-label": label }, parts);
}

/** Bars that can be clicked: [{ label, value, text, id }]. */
export function bars(rows, pick, current) {
  const most = Math.max(...rows.map((row) => row.value ?? 0), Number.MIN_VALUE);
  return h(
    "ul",
    { class: "bars" },
    rows.map((row) => {
      const fill = h("i");
      // Nothing is no bar; anything else is at least a line.
      fill.style.display = row.value ? "" : "none";
      fill.style.width = `${(100 * (row.value ?? 0)) / most}%`;
      const label = h("span", { class: "label", title: row.label }, row.label);
      const value = h("span", { class: "value" }, row.text);
      return h("li", {}, h("button", { type: "button", "aria-current": row.id === current ? "true" : null, "data-id": row.id, onclick: () => pick(row.id) }, label, h("span", { class: "bar" }, fill), value));
    }),
  );
}

/**
 * The concatenation a layer reads, as a strip: the block's input, then each layer's features, then its own. With
 * `weights`, a bar over each source says how strongly the layer reads it.
 */
export function readStrip(block, number, weights) {
  const total = block.c_in + (number + 1) * block.growth_rate;
  const unit = WIDTH / total;
  const base = weights ? 44 : 0;
  const most = weights ? Math.max(...weights, Number.MIN_VALUE) : 1;
  const parts = [];
  for (let source = 0; source <= number + 1; source += 1) {
    const first = source === 0 ? 0 : block.c_in + (source - 1) * block.growth_rate;
    const size = source === 0 ? block.c_in : block.growth_rate;
    const own = source === number + 1;
    const place = { x: first * unit, width: Math.max(size * unit - 0.7, 0.4) };
    parts.push(s("rect", { class: own ? "own" : "source", y: base, height: 12, ...place }));
    if (weights && !own) {
      const tall = (weights[source] / most) * (base - 4);
      parts.push(s("rect", { class: "weight", y: base - 2 - tall, height: tall, "fill-opacity": 0.65, ...place }));
    }
  }
  const height = base + 28;
  const read = block.c_in + number * block.growth_rate;
  parts.push(s("text", { x: 0, y: base + 25 }, `reads ${read}`));
  parts.push(s("text", { x: WIDTH, y: base + 25, "text-anchor": "end" }, `adds ${block.growth_rate}`));
  const label = `The layer reads ${read} channels and adds ${block.growth_rate}.`;
  return s("svg", { class: "reads", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label }, parts);
}
