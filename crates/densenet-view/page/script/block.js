// An open dense block: the paper's figure, and below it the concatenation as a score.
//
// Each strip of the score is a group of channels; it begins where its layer adds it and stays to the block's end. Each
// layer stands at the top: on its left line it reads every strip that is there already, on its right line it adds its own.
import { s } from "./elements.js";
import { doc, channelsOf, readerOf } from "./data.js";
import { MOST_DRAWN } from "./layout.js";
import { shape } from "./format.js";

/** A coordinate to a tenth; thousands of them are written. */
const tenth = (value) => Math.round(value * 10) / 10;

const dot = (x, y, r) => `M${tenth(x - r)} ${tenth(y)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;

/** The x of a source's node: the block's input or a layer. */
const nodeX = (g, source) => (source === 0 ? g.inputX : g.centre(source - 1));

/** The arcs that end at a layer, as one path. */
function arcsInto(g, number, sources) {
  const to = number === g.n ? g.stripsEnd - 34 : g.centre(number);
  let path = "";
  for (const source of sources) {
    const from = nodeX(g, source);
    const share = (to - from) / (g.n * g.column + 60);
    const rise = Math.min(g.arcs, 9 + g.arcs * Math.sqrt(Math.max(share, 0)));
    const top = g.nodeTop - rise * 1.3;
    const [a, b, peak] = [tenth(from), tenth(to), tenth(top)];
    path += `M${a} ${g.nodeTop}C${a} ${peak} ${b} ${peak} ${b} ${g.nodeTop}`;
  }
  return path;
}

const upTo = (count) => Array.from({ length: count }, (_, i) => i);

/** The middle of a source's strip. */
const middle = (g, source) => {
  const [top, height] = g.strip(source);
  return top + height / 2;
};

const dotSize = (g) => Math.min(2.4, Math.max(0.9, g.strip(1)[1] * 0.32));

/** Everything that does not depend on the selection. `item(id, ...)` makes a tree item. */
export function drawBlock(index, g, item) {
  const block = doc.blocks[index];
  const stage = doc.stages[block.stage];
  const parts = [s("rect", { class: "panel", x: 0, y: 0, width: g.width, height: g.height, rx: 10 })];
  const each = block.bottleneck ? `1×1 to ${block.bottleneck}, then 3×3 to ${block.growth_rate}` : `3×3 to ${block.growth_rate}`;
  const title = `${shape([block.c_in, ...stage.space_in])} → ${shape([block.c_out, ...stage.space_out])}; each layer: ${each}`;
  parts.push(s("text", { x: 16, y: 24 }, s("tspan", { class: "name" }, stage.name), s("tspan", { class: "sub", dx: 10 }, title)));
  const all = g.n <= MOST_DRAWN;
  if (all) {
    for (let number = 0; number <= g.n; number += 1) {
      // The more arcs there are, the fainter each is, so that they do not close to a grey mass.
      const crowd = g.n > 40 ? "arc faintest" : g.n > 14 ? "arc faint" : "arc";
      parts.push(s("path", { class: crowd, d: arcsInto(g, number, upTo(number + 1)) }));
    }
  }
  for (let source = 0; source <= g.n; source += 1) {
    const [top, height] = g.strip(source);
    const x = g.stripStart(source);
    const gap = Math.min(1, height * 0.2);
    parts.push(s("rect", { class: source ? "strip" : "strip input", x, y: top, width: g.stripsEnd - x, height: Math.max(height - gap, 0.3) }));
  }
  parts.push(lines(g, all));
  if (all) parts.push(dots(block, g));
  const [, inputHeight] = g.strip(0);
  const label = inputHeight >= 11 ? `${block.c_in} channels in` : `${block.c_in} in`;
  parts.push(s("text", { class: "small", x: 40, y: g.stripsTop - 6 }, label));
  parts.push(s("text", { class: "small", x: g.stripsEnd, y: g.height - 14, "text-anchor": "end" }, `${block.c_out} channels to ${readerOf(index)}`));
  const end = g.stripsEnd - 34;
  parts.push(node(g.inputX, g, "x₀", "node"));
  for (let number = 0; number < g.n; number += 1) {
    const [from, to] = [block.layers[number].c_in, block.layers[number].c_in + block.growth_rate - 1];
    const text = `Layer ${number + 1} of ${g.n}: reads channels 0 to ${from - 1}, adds ${from} to ${to}`;
    const group = node(g.centre(number), g, String(number + 1), "node item");
    const half = g.nodeWidth / 2 + 3;
    group.append(s("rect", { class: "ring", x: g.centre(number) - half, y: g.nodeTop - 3, width: 2 * half, height: g.nodeHeight + 6, rx: 7 }));
    parts.push(item(`dense:${index}:${number}`, 2, text, group));
  }
  parts.push(node(end, g, "out", "node"));
  return parts;
}

function node(x, g, text, kind) {
  const width = g.nodeWidth;
  const box = s("rect", { class: "box", x: x - width / 2, y: g.nodeTop, width, height: g.nodeHeight, rx: 5 });
  return s("g", { class: kind }, box, s("text", { x, y: g.nodeTop + g.nodeHeight / 2 + 4 }, text));
}

/** The lines on which layers read and add. */
function lines(g, all) {
  const bottom = g.nodeTop + g.nodeHeight;
  let read = "";
  let add = "";
  for (let number = 0; number < g.n && all; number += 1) {
    const x = g.readX(number).toFixed(1);
    read += `M${x} ${middle(g, number).toFixed(1)}V${bottom}`;
    add += `M${g.addX(number).toFixed(1)} ${bottom}V${g.strip(number + 1)[0].toFixed(1)}`;
  }
  const end = g.stripsEnd - 34;
  read += `M${end} ${(g.stripsTop + g.stripsHeight).toFixed(1)}V${bottom}`;
  add += `M${g.inputX} ${bottom}V${g.stripsTop}`;
  return s("g", {}, s("path", { class: "read", d: read }), s("path", { class: "add", d: add }));
}

/** A dot wherever a layer reads a strip; with weights, the stronger it reads the darker. */
function dots(block, g) {
  const r = dotSize(g);
  const levels = ["", "", "", "", ""];
  for (let number = 0; number < g.n; number += 1) {
    const heat = block.heat ? block.heat[number] : null;
    const most = heat ? Math.max(...heat, Number.MIN_VALUE) : 1;
    for (let source = 0; source <= number; source += 1) {
      const level = heat ? Math.min(4, Math.floor((heat[source] / most) * 5)) : 3;
      levels[level] += dot(g.readX(number), middle(g, source), r);
    }
  }
  return s("g", {}, levels.map((d, level) => d && s("path", { class: "dots", d, "fill-opacity": [0.14, 0.3, 0.46, 0.66, 0.95][level] })));
}

/** What lights up for one layer: what it reads, what it adds, and who reads that. */
export function lightBlock(index, g, number) {
  const block = doc.blocks[index];
  const x = g.readX(number);
  const bottom = g.nodeTop + g.nodeHeight;
  const parts = [];
  for (let source = 0; source <= number; source += 1) {
    const [top, height] = g.strip(source);
    const start = g.stripStart(source);
    parts.push(s("rect", { class: "taken", x: start, y: top, width: x - start, height }));
  }
  const [ownTop, ownHeight] = g.strip(number + 1);
  const ownStart = g.stripStart(number + 1);
  parts.push(s("rect", { class: "given", x: ownStart, y: ownTop, width: g.stripsEnd - ownStart, height: Math.max(ownHeight - 0.6, 0.6) }));
  parts.push(s("path", { class: "arc", d: arcsInto(g, number, upTo(number + 1)) }));
  let out = "";
  let readers = "";
  const r = dotSize(g) + 0.6;
  const y = middle(g, number + 1);
  for (let later = number + 1; later <= g.n; later += 1) {
    out += arcsInto(g, later, [number + 1]);
    readers += dot(later === g.n ? g.stripsEnd - 34 : g.readX(later), y, r);
  }
  parts.push(s("path", { class: "arc out", d: out }));
  parts.push(s("path", { class: "read", d: `M${x} ${middle(g, number)}V${bottom}` }));
  parts.push(s("path", { class: "add", d: `M${g.addX(number)} ${bottom}V${ownTop}` }));
  parts.push(s("path", { class: "dots", d: upTo(number + 1).map((source) => dot(x, middle(g, source), r)).join("") }));
  parts.push(s("path", { class: "dots", d: readers, "fill-opacity": 0.55 }));
  const read = block.layers[number].c_in;
  const [first, last] = channelsOf(block, number + 1, number + 1);
  const late = number > g.n / 2;
  const anchor = late ? "end" : "start";
  parts.push(s("text", { class: "label", x: x - 8, y: g.stripsTop + 13, "text-anchor": "end" }, x > 190 ? `reads 0–${read - 1}` : ""));
  parts.push(s("text", { class: "label", x: late ? ownStart - 8 : ownStart + 8, y: ownTop + ownHeight / 2 + (late ? 4 : ownHeight / 2 + 13), "text-anchor": anchor }, `adds ${first}–${last}`));
  return s("g", { class: "lit", "aria-hidden": "true" }, parts);
}
