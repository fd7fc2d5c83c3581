// The network as a river of channels; blocks open in place.
import { s } from "./elements.js";
import { doc, denseOf, stageOf, target } from "./data.js";
import { state, change, toggle } from "./state.js";
import { layout, thickness, mapSide } from "./layout.js";
import { drawBlock, lightBlock } from "./block.js";
import { shape, short, counted } from "./format.js";

/** Points given along and across the river, as a path in the direction of the flow. */
function river(flow, slot, points) {
  const at = ([along, across]) => (flow === "row" ? [slot.x + along, slot.y + across] : [COLUMN_X + across, slot.y + along]);
  return `M${points.map((point) => at(point).map((v) => v.toFixed(1)).join(" ")).join("L")}Z`;
}

// In a column the river flows at this x, and the labels stand to its right.
const COLUMN_X = 62;
const LABEL_X = 128;
// In a row the input's label stands here.
const INLET_X = -36;

/** The current layout, for whoever wants to look at something. */
export let plan = null;

/** Draws everything into `root`. */
export function draw(root, flow) {
  plan = layout(state.open, flow);
  const tree = s("g", { role: "tree", "aria-label": `${doc.name}: stages`, class: "drawing" });
  tree.append(inlet(flow));
  for (const slot of plan.slots) tree.append(drawStage(slot, flow));
  const lights = s("g", { id: "lights" });
  tree.append(lights);
  root.replaceChildren(tree);
  light();
}

/** Where the input comes in. */
function inlet(flow) {
  const t = thickness(doc.input[0]);
  const slot = flow === "row" ? { x: -18, y: 0 } : { x: 0, y: -30 };
  const length = flow === "row" ? 18 : 30;
  const parts = [s("path", { class: "river", d: river(flow, slot, [[0, -t / 2], [length, -t / 2], [length, t / 2], [0, t / 2]]) })];
  if (flow === "row") {
    const middle = { x: INLET_X, "text-anchor": "middle" };
    const space = doc.input.slice(1);
    parts.push(s("text", { class: "name", ...middle, y: -66 }, "input"));
    parts.push(s("text", { class: "sub", ...middle, y: 66 }, `${doc.input[0]} ch`), s("text", { class: "sub", ...middle, y: 80 }, shape(space)));
    parts.push(square(INLET_X, space));
  } else {
    parts.push(s("text", { x: LABEL_X, y: -14 }, s("tspan", { class: "name" }, "input"), s("tspan", { class: "sub", dx: 10 }, shape(doc.input))));
  }
  return s("g", {}, parts);
}

/** A square (a cube for volumes) whose side stands for the map's. */
function square(x, space) {
  const side = mapSide(space);
  const [left, top] = [x - side / 2, 104 - side / 2];
  const shift = space.length === 3 ? Math.max(1.5, side * 0.22) : 0;
  const parts = [s("rect", { class: "map", x: left, y: top, width: side, height: side })];
  if (shift) {
    const [right, bottom] = [left + side, top + side];
    parts.push(s("path", { class: "map", d: `M${left} ${top}l${shift} ${-shift}H${right + shift}V${bottom - shift}L${right} ${bottom}M${right} ${top}l${shift} ${-shift}` }));
  }
  return s("g", { "aria-hidden": "true" }, parts);
}

/** A thing in the tree: it can be focused, selected, and for blocks opened. */
function item(id, level, label, group, expanded) {
  group.classList.add("item");
  group.setAttribute("role", "treeitem");
  group.setAttribute("tabindex", "-1");
  group.setAttribute("data-id", id);
  group.setAttribute("aria-level", level);
  group.setAttribute("aria-label", label);
  group.setAttribute("aria-selected", "false");
  if (expanded !== undefined) group.setAttribute("aria-expanded", String(expanded));
  return group;
}

function drawStage(slot, flow) {
  const { stage, index } = slot;
  const isBlock = stage.block !== undefined;
  const label = `${stage.name}, ${isBlock ? counted(doc.blocks[stage.block].layers.length, "layer") + ", " : ""}output ${shape([stage.c_out, ...stage.space_out])}, ${short(stage.params)} parameters`;
  const group = s("g", { class: slot.geometry ? "open-stage" : "stage" });
  item(`stage:${index}`, 1, label, group, isBlock ? slot.geometry !== undefined : undefined);
  if (slot.geometry) {
    const [x, y] = flow === "row" ? [slot.x, -slot.height / 2] : [0, slot.y];
    const g = slot.geometry;
    const inside = s("g", { role: "group", transform: `translate(${x} ${y})`, "data-block": stage.block }, drawBlock(stage.block, g, item));
    inside.append(toggler(index, g.width - 22, 20, true));
    group.append(s("rect", { class: "ring", x: x - 3, y: y - 3, width: g.width + 6, height: g.height + 6, rx: 12 }), inside, joints(slot, flow));
    return group;
  }
  group.append(...glyph(slot, flow));
  group.append(...labels(slot, flow));
  if (isBlock) {
    group.append(toggler(index, flow === "row" ? slot.x + slot.width / 2 : LABEL_X + 156, flow === "row" ? -94 : slot.y + slot.height / 2 - 13, false));
  }
  const box = flow === "row" ? [slot.x + 2, -112, slot.width - 4, 236] : [4, slot.y + 2, 296, slot.height - 4];
  const frame = { x: box[0], y: box[1], width: box[2], height: box[3], rx: 8 };
  group.append(s("rect", { class: "hit", ...frame }), s("rect", { class: "ring", ...frame }));
  return group;
}

/** The plus or minus of a block. */
function toggler(index, x, y, open) {
  const plus = open ? `M${x - 4} ${y}h8` : `M${x - 4} ${y}h8M${x} ${y - 4}v8`;
  return s("g", { class: "toggle", "data-toggle": index, "aria-hidden": "true" }, s("circle", { cx: x, cy: y, r: 9 }), s("path", { d: plus }));
}

/** The river of a closed stage. */
function glyph(slot, flow) {
  const { stage } = slot;
  const length = flow === "row" ? slot.width : slot.height;
  const [from, to] = [thickness(stage.kind === "stem" ? doc.input[0] : stage.c_in), thickness(stage.c_out)];
  if (stage.block !== undefined) {
    // A step for each layer: the river grows by growth_rate channels at a time.
    const block = doc.blocks[stage.block];
    const n = block.layers.length;
    const [start, end] = [12, length - 12];
    const upper = [[0, -from / 2]];
    let ticks = "";
    for (let l = 0; l < n; l += 1) {
      const x = start + ((end - start) * (l + 0.5)) / n;
      const before = thickness(block.c_in + l * block.growth_rate) / 2;
      const after = thickness(block.c_in + (l + 1) * block.growth_rate) / 2;
      upper.push([x, -before], [x, -after]);
      if (n <= 40) ticks += river(flow, slot, [[x, -after], [x, after]]);
    }
    upper.push([length, -to / 2]);
    const lower = upper.map(([a, b]) => [a, -b]).reverse();
    return [s("path", { class: "river deep block-river", d: river(flow, slot, [...upper, ...lower]) }), s("path", { class: "step", d: ticks })];
  }
  if (stage.kind === "classifier") {
    // The pooled features fan out into classes.
    const middle = length * 0.3;
    return [s("path", { class: "river", d: river(flow, slot, [[0, -from / 2], [middle, -5], [length - 26, -5], [length - 26, 5], [middle, 5], [0, from / 2]]) })];
  }
  const [a, b] = [length * 0.3, length * 0.7];
  const upper = [[0, -from / 2], [a, -from / 2], [b, -to / 2], [length, -to / 2]];
  return [s("path", { class: "river", d: river(flow, slot, [...upper, ...upper.map(([x, y]) => [x, -y]).reverse()]) })];
}

function labels(slot, flow) {
  const { stage } = slot;
  const space = stage.space_out;
  const inside = stage.kind === "classifier" ? `${stage.c_out} ${stage.c_out === 1 ? "class" : "classes"}` : `${stage.c_out} × ${space.join("×")}`;
  const shown = stage.name.replace(/^denseblock/, "block ").replace(/^transition/, "trans. ");
  const layers = stage.block === undefined ? null : counted(doc.blocks[stage.block].layers.length, "layer");
  if (flow === "row") {
    const x = slot.x + slot.width / 2;
    const middle = { x, "text-anchor": "middle" };
    const tight = slot.width < 100;
    return [
      s("text", { class: "name", ...middle, y: -66 }, shown),
      layers && s("text", { class: "sub", ...middle, y: -51 }, layers),
      stage.kind === "classifier" ? null : s("text", { class: "sub", ...middle, y: 66 }, tight ? `${stage.c_out} ch` : `${stage.c_out} channels`),
      s("text", { class: "sub", ...middle, y: 80 }, stage.kind === "classifier" ? inside : space.join("×")),
      stage.kind === "classifier" ? null : square(x, space),
    ].filter(Boolean);
  }
  const y = slot.y + slot.height / 2;
  return [
    s("text", { class: "name", x: LABEL_X, y: y - 8 }, stage.name),
    s("text", { class: "sub", x: LABEL_X, y: y + 8 }, layers ? `${layers} · ${inside}` : inside),
    s("text", { class: "sub", x: LABEL_X, y: y + 23 }, `${short(stage.params)} parameters`),
  ];
}

/** The river between its neighbours and an open block's panel. */
function joints(slot, flow) {
  const block = doc.blocks[slot.stage.block];
  const g = slot.geometry;
  const [from, to] = [thickness(block.c_in) / 2, thickness(block.c_out) / 2];
  if (flow !== "row") {
    const d = river(flow, { y: slot.y - 30 }, [[0, -from], [30, -from], [30, from], [0, from]]) + river(flow, { y: slot.y + g.height }, [[0, -to], [14, -to], [14, to], [0, to]]);
    return s("g", {}, s("path", { class: "river joint", d }));
  }
  const top = -g.height / 2;
  const [inTop, inHeight] = g.strip(0);
  const [x0, x1] = [slot.x - 16, slot.x + 34];
  const [x2, x3] = [slot.x + g.stripsEnd, slot.x + g.width + 16];
  const bend = (a, b, ay, by) => `C${(a + b) / 2} ${ay} ${(a + b) / 2} ${by} ${b} ${by}`;
  const left = `M${x0} ${-from}${bend(x0, x1, -from, top + inTop)}V${top + inTop + inHeight}${bend(x1, x0, top + inTop + inHeight, from)}Z`;
  const end = top + g.stripsTop + g.stripsHeight;
  const right = `M${x2} ${top + g.stripsTop}${bend(x2, x3, top + g.stripsTop, -to)}V${to}${bend(x3, x2, to, end)}Z`;
  return s("g", {}, s("path", { class: "river joint", d: left }), s("path", { class: "river joint", d: right }));
}

/** Marks what is selected and hovered. */
export function light() {
  const root = document.getElementById("lights");
  if (!root) return;
  root.replaceChildren();
  const tree = root.parentNode;
  for (const element of tree.querySelectorAll(".picked")) element.classList.remove("picked");
  for (const element of tree.querySelectorAll('[aria-selected="true"]')) element.setAttribute("aria-selected", "false");
  const chosen = shownId(state.selected);
  const element = tree.querySelector(`[data-id="${chosen}"]`);
  if (element) {
    element.classList.add("picked");
    element.setAttribute("aria-selected", "true");
  }
  for (const stop of tree.querySelectorAll('[tabindex="0"]')) stop.setAttribute("tabindex", "-1");
  (element ?? tree.querySelector(".item"))?.setAttribute("tabindex", "0");
  const dense = (state.hovered && denseOf(state.hovered)) ?? denseOf(state.selected);
  if (!dense) return;
  const it = target(dense);
  const slot = plan.slots[it.block.stage];
  if (!slot.geometry) return;
  const lit = lightBlock(it.index, slot.geometry, it.number);
  lit.setAttribute("transform", plan.flow === "row" ? `translate(${slot.x} ${-slot.height / 2})` : `translate(0 ${slot.y})`);
  root.append(lit);
}

/** The nearest thing to an id that is drawn: a closed block stands for its layers. */
export function shownId(id) {
  const dense = denseOf(id);
  if (dense && state.open.has(stageOf(id))) return dense;
  const stage = stageOf(id);
  return stage >= 0 ? `stage:${stage}` : id;
}

/** The box of an id in the drawing: [x, y, width, height]. */
export function boxOf(id) {
  const shown = shownId(id);
  const slot = plan.slots[stageOf(id)];
  if (!slot) return null;
  if (shown.startsWith("dense:")) {
    const g = slot.geometry;
    const [x, y] = plan.flow === "row" ? [slot.x, -slot.height / 2] : [0, slot.y];
    const number = target(shown).number;
    return [x + g.centre(number) - g.column, y + g.nodeTop, 2 * g.column, g.height - g.nodeTop];
  }
  return plan.flow === "row" ? [slot.x, -slot.height / 2, slot.width, slot.height] : [0, slot.y, slot.width, slot.height];
}

/** Selects by mouse, opens and closes. */
export function listenToDrawing(root) {
  const idAt = (event) => event.target.closest?.("[data-id]")?.dataset.id ?? null;
  root.addEventListener("click", (event) => {
    const toggled = event.target.closest?.("[data-toggle]");
    if (toggled) {
      toggle(Number(toggled.dataset.toggle));
      return;
    }
    const id = idAt(event);
    if (!id) return;
    const it = target(id);
    if (it.kind === "stage" && it.stage.block !== undefined) toggle(it.index, true, { selected: id });
    else change({ selected: id });
  });
  root.addEventListener("pointerover", (event) => {
    const id = idAt(event);
    change({ hovered: id && id.startsWith("dense:") ? id : null });
  });
  root.addEventListener("pointerleave", () => change({ hovered: null }));
}
