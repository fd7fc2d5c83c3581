// What the network makes of a picture: classes, where they come from, and the maps of every stage.
import { h } from "./elements.js";
import { doc, seen, hasSeen } from "./data.js";
import { bars } from "./charts.js";
import { decode, painted, ramp } from "./images.js";
import { real, percent, shape, counted } from "./format.js";

/** Maps drawn at first; more on demand. */
const AT_ONCE = 256;

/** The view. */
export function picture() {
  if (!hasSeen) {
    const why = doc.has_weights ? "No picture: run densenet view with --image FILE to see what the network makes of it." : "No weights, so there is nothing to run. Open a model file and add --image FILE.";
    return [h("p", { class: "none" }, why)];
  }
  const data = seen();
  return [...answer(data), stages(data)];
}

/** The picture with a class's activation map over it, and the likeliest classes. */
function answer(data) {
  const { input } = data;
  const [depth, height, width] = input.shape;
  const pixels = decode(input.data);
  const holder = h("div", { class: "picture" });
  let slice = Math.floor(depth / 2);
  let cam = data.cams[0];
  let strength = 0.55;
  const colour = (pixel) => {
    const at = (slice * height * width + pixel) * input.channels;
    return input.channels === 3 ? [pixels[at], pixels[at + 1], pixels[at + 2]] : [pixels[at], pixels[at], pixels[at]];
  };
  const paint = () => {
    const base = painted(width, height, colour, { role: "img", "aria-label": `The picture ${data.file}` });
    const layers = [base];
    if (cam) {
      const over = camCanvas(cam, slice / depth, width, height);
      over.style.opacity = strength;
      layers.push(over);
    }
    holder.replaceChildren(...layers);
    legend.textContent = cam ? `map of ${named(cam.index)}: ${cam.shape.every((size) => size === 1) ? `${real(cam.low)} everywhere, for the last maps have one pixel; a larger input shows more` : `from ${real(cam.low)} to ${real(cam.high)}`}` : "";
    for (const button of list.querySelectorAll("button")) {
      if (cam && button.dataset.id === String(cam.index)) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  };
  const named = (index) => data.top.find((entry) => entry.index === index)?.class ?? String(index);
  const choice = h("select", { onchange: (event) => { cam = data.cams.find((c) => String(c.index) === event.target.value) ?? null; paint(); } },
    data.cams.map((c) => h("option", { value: c.index }, named(c.index))), h("option", { value: "none" }, "no map"));
  const amount = h("input", { type: "range", min: 0, max: 1, step: 0.05, value: strength, oninput: (event) => { strength = event.target.value; paint(); } });
  const controls = h("div", { class: "row" }, h("label", {}, "Map of", choice), h("label", {}, "strength", amount));
  if (depth > 1) controls.append(slider(depth, slice, (value) => { slice = value; paint(); }));
  const choose = (id) => {
    const index = Number(id);
    const found = data.cams.find((c) => c.index === index);
    if (!found) return;
    cam = found;
    choice.value = String(index);
    paint();
  };
  const rows = data.top.map((entry) => ({ id: String(entry.index), label: entry.class, value: entry.probability, text: percent(entry.probability) }));
  const list = bars(rows, choose);
  const legend = h("p", { class: "hint", "aria-live": "polite" });
  paint();
  const left = h("figure", {}, controls, holder, legend, h("p", { class: "hint" }, `${data.file}, as the network reads it: ${shape([input.channels, ...doc.input.slice(1)])}`));
  const right = h("section", { class: "card" }, h("h2", {}, "Classes"), h("p", { class: "hint" }, `The likeliest of ${data.classes}. The map over the picture shows where a class comes from: its mean, and the bias, make the class's logit. Bright is more.`), list);
  return [h("div", { class: "two" }, left, right)];
}

/** A class activation map stretched smoothly over the picture. */
function camCanvas(cam, along, width, height) {
  const [depth, rows, columns] = cam.shape;
  const bytes = decode(cam.data);
  const slice = Math.min(depth - 1, Math.floor(along * depth));
  const small = painted(columns, rows, (pixel) => {
    const byte = bytes[slice * rows * columns + pixel];
    return [...ramp(byte), 90 + byte * 0.64];
  });
  // Small pictures are enlarged first, so that the map stays smooth over their pixels.
  const larger = Math.max(1, Math.ceil(340 / width));
  const canvas = h("canvas", { width: width * larger, height: height * larger, class: "smooth", role: "img", "aria-label": `Class activation map, from ${real(cam.low)} to ${real(cam.high)}` });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** A slider through the slices of a volume, which says where it stands. */
function slider(depth, value, changed) {
  const said = h("span", {});
  const tell = (at) => { said.textContent = `slice ${at + 1} of ${depth}`; };
  const move = (event) => {
    const at = Number(event.target.value);
    tell(at);
    changed(at);
  };
  tell(value);
  return h("label", {}, said, h("input", { type: "range", min: 0, max: depth - 1, step: 1, value, oninput: move }));
}

/** The maps of one stage, chosen from a list. */
function stages(data) {
  const place = h("div", { class: "maps" });
  const choice = h("select", { id: "maps-stage" }, data.stages.map((stage, i) => h("option", { value: i }, `${stage.name}: ${shape([stage.channels, ...(doc.dims === 2 ? stage.shape.slice(1) : stage.shape)])}`)));
  let slice = 0;
  let common = false;
  let limit = AT_ONCE;
  const chosen = () => data.stages[Number(choice.value)];
  const show = () => place.replaceChildren(...grids(chosen(), slice, common, limit, () => { limit *= 4; show(); }));
  const sliceSlot = h("span", {});
  // The slider stays while it is dragged; another stage has another one.
  const restage = () => {
    const depth = chosen().stored[0];
    slice = Math.floor(depth / 2);
    limit = AT_ONCE;
    sliceSlot.replaceChildren(...(depth > 1 ? [slider(depth, slice, (at) => { slice = at; show(); })] : []));
    show();
  };
  choice.addEventListener("change", restage);
  const scale = h("label", {}, h("input", { type: "checkbox", onchange: (event) => { common = event.target.checked; show(); } }), "one scale for all maps");
  restage();
  return h("section", {}, h("h2", {}, "Activations"), h("div", { class: "row" }, h("label", {}, "Stage", choice), sliceSlot, scale), place);
}

/** A block's maps come in groups: its input, then what each layer added. */
function groups(stage) {
  const facts = doc.stages.find((s) => s.name === stage.name);
  if (facts?.block === undefined || doc.config.concat_order === "new_old") return [["", 0, stage.channels]];
  const block = doc.blocks[facts.block];
  const parts = [["the block's input", 0, block.c_in]];
  for (const [i, layer] of block.layers.entries()) parts.push([`layer ${i + 1}`, layer.c_in, layer.c_in + block.growth_rate]);
  return parts;
}

function grids(stage, slice, common, limit, more) {
  const [, height, width] = stage.stored;
  const bytes = decode(stage.data);
  const volume = stage.stored[0] * height * width;
  const side = Math.max(stage.channels > 256 ? 26 : stage.channels > 64 ? 34 : 44, Math.min(60, width));
  const lowest = Math.min(...stage.low);
  const highest = Math.max(...stage.high);
  const readout = h("p", { class: "hint", "aria-live": "polite" }, `${counted(stage.channels, "map")}, ${common ? `from ${real(lowest)} to ${real(highest)}` : "each from its smallest to its largest value"}${stage.factor > 1 ? `; shown at 1/${stage.factor} of their size` : ""}`);
  const parts = [readout];
  let drawn = 0;
  for (const [title, from, to] of groups(stage)) {
    if (drawn >= limit) break;
    const tiles = [];
    for (let channel = from; channel < to && drawn < limit; channel += 1) {
      drawn += 1;
      const start = channel * volume + slice * height * width;
      const [low, high] = [stage.low[channel], stage.high[channel]];
      const shown = (byte) => {
        if (!common) return byte;
        const value = low + (byte / 255) * (high - low);
        return highest > lowest ? Math.round(((value - lowest) / (highest - lowest)) * 255) : 0;
      };
      const canvas = painted(width, height, (pixel) => ramp(shown(bytes[start + pixel])));
      const tell = () => { readout.textContent = `map ${channel}: from ${real(low)} to ${real(high)}`; };
      const tile = h("button", { type: "button", "aria-label": `Map ${channel}`, "aria-pressed": "false", onpointerenter: tell, onfocus: tell, onclick: (event) => enlarge(event.currentTarget, side) }, canvas);
      tile.style.width = `${side}px`;
      tile.style.height = `${(side * height) / width}px`;
      tiles.push(tile);
    }
    if (title) parts.push(h("h3", {}, `${title}: channels ${from}–${to - 1}`));
    parts.push(h("div", { class: "tiles" }, tiles));
  }
  if (drawn < stage.channels) parts.push(h("p", { class: "row" }, h("button", { type: "button", onclick: more }, `Show more of the ${stage.channels} maps`)));
  return parts;
}

/** A map grows where it stands, and shrinks again. */
function enlarge(tile, side) {
  const large = tile.getAttribute("aria-pressed") !== "true";
  tile.setAttribute("aria-pressed", String(large));
  const ratio = parseFloat(tile.style.height) / parseFloat(tile.style.width);
  const size = large ? Math.min(280, side * 6) : side;
  tile.style.width = `${size}px`;
  tile.style.height = `${size * ratio}px`;
}
