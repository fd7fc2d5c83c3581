// Where everything stands in the drawing.
import { doc } from "./data.js";

// Lengths of closed stages along the flow, in drawing units (pixels at zoom 1).
const ROW = { stem: 84, block: 118, transition: 74, norm: 62, classifier: 96 };
const COLUMN = { stem: 70, block: 92, transition: 62, norm: 56, classifier: 76 };

/** More layers than this are drawn without all their arcs and dots; the selected one's are always there. */
export const MOST_DRAWN = 128;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Thickness of the river for a number of channels: its square root, so that 64 stays in sight beside 2688. */
export function thickness(channels) {
  const most = Math.max(...doc.stages.map((stage) => (stage.kind === "classifier" ? 0 : Math.max(stage.c_in, stage.c_out))));
  return Math.max(5, 92 * Math.sqrt(channels / most));
}

/** The side of the square that stands for a map. */
export function mapSide(space) {
  const most = Math.max(...doc.input.slice(1));
  return Math.max(2.5, 30 * Math.sqrt(Math.max(...space) / most));
}

/** The geometry of an open block. */
export function blockGeometry(block) {
  const n = block.layers.length;
  const column = n <= 8 ? 64 : n <= 16 ? 52 : n <= 32 ? 40 : 30;
  // One strip for each layer, thick enough to see; the block's input in proportion.
  const unit = clamp(440 / block.c_out, 3.2 / block.growth_rate, 17 / block.growth_rate);
  const arcs = clamp(n * column * 0.12, 40, 170);
  const left = 96;
  const right = 120;
  const nodeTop = 44 + arcs;
  const nodeHeight = 28;
  const stripsTop = nodeTop + nodeHeight + 26;
  const k = block.growth_rate * unit;
  const first = block.c_in * unit;
  return {
    n,
    column,
    left,
    right,
    arcs,
    nodeTop,
    nodeHeight,
    stripsTop,
    width: left + n * column + right,
    height: stripsTop + block.c_out * unit + 34,
    stripsEnd: left + n * column + right - 34,
    stripsHeight: block.c_out * unit,
    /** Top and height of a source's strip: 0 is the block's input, s the layer with number s - 1. */
    strip: (source) => (source === 0 ? [stripsTop, first] : [stripsTop + first + (source - 1) * k, k]),
    /** Where a source's strip begins: the block's input at the left border, others where their layer adds them. */
    stripStart: (source) => (source === 0 ? 34 : left + (source - 1) * column + column * 0.74),
    centre: (number) => left + (number + 0.5) * column,
    /** Where a layer reads, going up, and where it adds, going down; number n is whoever reads the whole block. */
    readX: (number) => left + number * column + column * 0.28,
    addX: (number) => left + number * column + column * 0.74,
    nodeWidth: Math.min(column - 8, 46),
    inputX: 52,
  };
}

/**
 * One slot for each stage: { index, stage, x, y, width, height, geometry? } where (x, y) is the middle of the side that
 * the river enters by, and the extent of all. In a row the river flows to the right, in a column down.
 */
export function layout(open, flow) {
  const slots = [];
  let along = 0;
  let [top, bottom, left, right] = [-118, 118, 0, 0];
  for (const [index, stage] of doc.stages.entries()) {
    const slot = { index, stage };
    if (stage.block !== undefined && open.has(index)) {
      slot.geometry = blockGeometry(doc.blocks[stage.block]);
      slot.width = slot.geometry.width;
      slot.height = slot.geometry.height;
    }
    if (flow === "row") {
      slot.x = along;
      slot.y = 0;
      slot.width ??= ROW[stage.kind];
      slot.height ??= 236;
      if (slot.geometry) along += 16;
      slot.x = along;
      along += slot.width + (slot.geometry ? 16 : 0);
      top = Math.min(top, -slot.height / 2);
      bottom = Math.max(bottom, slot.height / 2);
    } else {
      slot.x = 0;
      if (slot.geometry) along += 30;
      slot.y = along;
      slot.width ??= 300;
      slot.height ??= COLUMN[stage.kind];
      along += slot.height + (slot.geometry ? 14 : 0);
      right = Math.max(right, slot.width);
    }
    slots.push(slot);
  }
  const box =
    flow === "row"
      ? { x: -76, y: top - 6, width: along + 84, height: bottom - top + 12 }
      : { x: left - 8, y: -34, width: right - left + 16, height: along + 48 };
  return { slots, box, flow };
}
