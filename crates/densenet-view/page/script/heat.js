// The paper's Fig. 5: how strongly each layer of a block reads each source, and the stem's kernels.
import { h } from "./elements.js";
import { doc, readerOf } from "./data.js";
import { change } from "./state.js";
import { heatColour, kernelPictures } from "./images.js";
import { real } from "./format.js";

const sourceName = (source) => (source === 0 ? "the block's input" : `layer ${source}`);

/** The view. */
export function weights() {
  if (!doc.has_weights) {
    return [h("p", { class: "none" }, "No weights: this is the architecture alone. Open a model file (densenet view model.safetensors) to see how strongly its layers read each other.")];
  }
  return [
    h("p", { class: "lede" }, "The mean absolute weight with which each layer (to the right) reads each source (downwards): first the block's input, then every layer before it. The last column is whatever follows the block. Figure 5 of the paper."),
    h("div", { class: "grid" }, doc.blocks.map((block, index) => (block.heat ? heatMap(block, index) : null))),
    doc.stem ? h("figure", { class: "card", style: null }, h("h2", {}, "Kernels of the stem"), h("p", { class: "hint" }, "Each scaled by its own largest weight; mid-grey is zero."), kernelPictures(256)) : null,
  ];
}

function heatMap(block, index) {
  const columns = block.heat;
  const n = columns.length;
  const most = Math.max(...columns.flat(), Number.MIN_VALUE);
  const side = Math.max(2, Math.floor(300 / n));
  const scale = Math.min(window.devicePixelRatio || 1, 2);
  const canvas = h("canvas", { width: n * side * scale, height: n * side * scale, tabindex: "0", role: "img" });
  canvas.style.width = "100%";
  canvas.style.maxWidth = `${n * side}px`;
  const readout = h("p", { class: "hint", "aria-live": "polite" });
  let cursor = [n - 1, 0];
  const context = canvas.getContext("2d");
  const paint = (marked) => {
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, n * side, n * side);
    const gap = side > 5 ? 1 : 0;
    for (const [column, values] of columns.entries()) {
      for (const [source, value] of values.entries()) {
        const [r, g, b] = heatColour(value / most);
        context.fillStyle = `rgb(${r} ${g} ${b})`;
        context.fillRect(column * side, source * side, side - gap, side - gap);
      }
    }
    if (!marked) return;
    context.strokeStyle = getComputedStyle(canvas).getPropertyValue("--accent") || "blue";
    context.lineWidth = 2;
    context.strokeRect(cursor[0] * side, cursor[1] * side, side, side);
  };
  const readerName = (column) => (column === n - 1 ? readerOf(index) : `layer ${column + 1}`);
  const read = (column, source) => {
    cursor = [column, source];
    readout.textContent = `${readerName(column)} reads ${sourceName(source)}: ${real(columns[column][source])}`;
  };
  canvas.setAttribute("aria-label", `denseblock${index + 1}: mean absolute weights between ${n - 1} layers, largest ${real(most)}. Arrow keys read values.`);
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const column = Math.min(n - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * n)));
    const source = Math.floor(((event.clientY - box.top) / box.height) * n);
    return columns[column][source] === undefined ? null : [column, source];
  };
  canvas.addEventListener("pointermove", (event) => {
    const place = at(event);
    if (place) {
      read(...place);
      paint(true);
    }
  });
  canvas.addEventListener("pointerleave", () => paint(false));
  canvas.addEventListener("blur", () => paint(false));
  const choose = ([column]) => change({ selected: column < n - 1 ? `dense:${index}:${column}` : `stage:${block.stage}` });
  canvas.addEventListener("click", (event) => at(event) && choose(at(event)));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter") choose(cursor);
    if (!step) return;
    event.preventDefault();
    const column = Math.min(n - 1, Math.max(0, cursor[0] + step[0]));
    read(column, Math.min(column, Math.max(0, cursor[1] + step[1])));
    paint(true);
  });
  paint(false);
  readout.textContent = "Point at a square to read its value.";
  return h("figure", { class: "card" }, h("h2", {}, `denseblock${index + 1}`), h("p", { class: "hint" }, `${n - 1} layers`), canvas, scaleBar(most), readout);
}

/** The colours and what they stand for. */
function scaleBar(most) {
  const bar = h("canvas", { width: 120, height: 1, "aria-hidden": "true" });
  const context = bar.getContext("2d");
  for (let x = 0; x < 120; x += 1) {
    const [r, g, b] = heatColour(x / 119);
    context.fillStyle = `rgb(${r} ${g} ${b})`;
    context.fillRect(x, 0, 1, 1);
  }
  bar.style.width = "120px";
  bar.style.height = "8px";
  const line = h("p", { class: "row hint" }, "0", bar, real(most));
  line.style.margin = "8px 0 0";
  line.style.gap = "8px";
  return line;
}
