// What is known about the selected thing.
import { h, facts } from "./elements.js";
import { doc, passes, target, parent, nameOf, lastPart, shortPath, channelsOf, readerOf } from "./data.js";
import { change } from "./state.js";
import { histogram, readStrip } from "./charts.js";
import { kernelPictures } from "./images.js";
import { shape, grouped, short, bytes, ms, real, percent, counted, windowText, sentence } from "./format.js";

/** Fills the column for an id. */
export function details(id) {
  const it = target(id);
  const body = { network, stage: stageDetails, dense: denseDetails, layer: layerDetails }[it.kind](it);
  return [crumbs(id), ...body.flat().filter(Boolean)];
}

const pick = (id) => change({ selected: id });

function crumbs(id) {
  const steps = [];
  for (let up = parent(id); up; up = parent(up)) steps.unshift(up);
  if (!steps.length) return null;
  return h("nav", { class: "crumbs", "aria-label": "Where this is" }, steps.map((step) => [h("button", { type: "button", onclick: () => pick(step) }, nameOf(step)), h("span", {}, "›")]));
}

const section = (title, ...children) => h("section", {}, h("h3", {}, title), ...children);

const noWeights = () => h("p", { class: "none" }, "No weights: this is the architecture alone. Open a model file to see their statistics.");

const maps = (channels, space) => shape([channels, ...space]);

function network() {
  const { totals, config, time } = doc;
  const rows = [
    ["Input", shape(doc.input)],
    ["Smallest input", doc.min_input.join("×")],
    ["Classes", grouped(config.num_classes)],
    ["Depth", `${totals.depth} weighted layers`],
    ["Parameters", grouped(totals.params)],
    ["Multiply-adds", grouped(totals.macs)],
    ["Memory, inference", bytes(totals.infer_bytes)],
    ["Memory, training", bytes(totals.train_bytes)],
    ["… memory-efficient", bytes(totals.train_memory_efficient_bytes)],
    time && ["Measured", ms(time.total_ms)],
  ];
  const settings = Object.entries(config).map(([key, value]) => [key, typeof value === "object" ? JSON.stringify(value).replace(/[{}"]/g, "").replace(/,/g, ", ") : String(value)]);
  return [
    h("h2", {}, doc.name),
    h("p", { class: "about" }, "In a dense block every layer reads the channels of all layers before it and adds growth_rate channels of its own. Open a block to see it."),
    facts(rows),
    section("Configuration", facts(settings)),
    section("Stages", h("ul", { class: "ops" }, doc.stages.map((stage, i) => entry(`stage:${i}`, stage.name, maps(stage.c_out, stage.space_out))))),
    doc.has_weights ? null : h("section", {}, noWeights()),
  ];
}

const entry = (id, name, value) => h("li", {}, h("button", { type: "button", "data-id": id, onclick: () => pick(id) }, h("span", { title: name }, name), h("span", { class: "quiet" }, value)));

const ABOUT = {
  stem: "Brings the picture to the channels and the size that the first block works on.",
  block: "Layers that each read everything before them in the block: the input's channels and all that was added since.",
  transition: "Between two blocks: fewer channels by a 1×1 convolution, half the size by average pooling.",
  norm: "The last norm and ReLU before the pooling.",
  classifier: "The mean of each channel over all pixels, and one weighted sum of them for each class.",
};

function share(value, total) {
  return total ? ` (${percent(value / total)})` : "";
}

function stageDetails({ stage, index }) {
  const pass = passes().find((pass) => pass.stages.includes(stage));
  const rows = [
    ["Input", maps(stage.kind === "stem" ? doc.input[0] : stage.c_in, stage.space_in)],
    ["Output", maps(stage.c_out, stage.space_out)],
    ["Parameters", grouped(stage.params) + share(stage.params, doc.totals.params)],
    ["Multiply-adds", short(stage.macs) + share(stage.macs, doc.totals.macs)],
    ["Maps it makes", bytes(stage.bytes)],
    ["Receptive field", field(doc.layers[stage.layers[1] - 1].field)],
    pass && ["Measured", ms(pass.ms) + share(pass.ms, doc.time.total_ms) + (pass.stages.length > 1 ? `, ${pass.name} in one pass` : "")],
  ];
  const list = stage.block === undefined ? operations(stage.layers) : denseLayers(stage.block);
  return [
    h("h2", {}, stage.name),
    h("p", { class: "about" }, ABOUT[stage.kind]),
    facts(rows),
    stage.kind === "stem" ? stemKernels() : null,
    section(stage.block === undefined ? "Operations" : "Layers", list),
  ];
}

function stemKernels() {
  if (!doc.stem) return doc.has_weights ? null : h("section", {}, noWeights());
  return section("Kernels, each scaled by its largest weight", kernelPictures(96));
}

const operations = ([from, to]) => h("ul", { class: "ops" }, doc.layers.slice(from, to).map((layer, i) => entry(`layer:${from + i}`, lastPart(layer.name), `${layer.op}${layer.window ? " " + layer.window[0].join("×") : ""}`)));

function denseLayers(index) {
  const block = doc.blocks[index];
  return h("ul", { class: "ops" }, block.layers.map((layer, number) => entry(`dense:${index}:${number}`, lastPart(layer.name), `${layer.c_in} + ${block.growth_rate}`)));
}

const field = (sizes) => (sizes ? `${sizes.join("×")} pixels` : "the whole input");

const sum = (layers, key) => layers.reduce((total, layer) => total + layer[key], 0);

function denseDetails({ block, layer, index, number }) {
  const layers = doc.layers.slice(...layer.layers);
  const last = layers[layers.length - 1];
  const space = last.space_out;
  const reads = block.growth_rate * number + block.c_in;
  const [first, end] = channelsOf(block, number + 1, number + 1);
  const heat = block.heat?.[number];
  return [
    h("h2", {}, shortPath(layer.name)),
    h("p", { class: "about" }, `Layer ${number + 1} of ${block.layers.length}. It reads the block's input${number ? ` and the features of ${number === 1 ? "the layer" : `all ${number} layers`} before it` : ""}; what it adds is read by every later layer and by ${readerOf(index)}.`),
    facts([
      ["Reads", `${maps(reads, space)}`],
      ["Adds", `${maps(block.growth_rate, space)}`],
      ["As channels", `${first}–${end}`],
      ["Parameters", grouped(sum(layers, "params"))],
      ["Multiply-adds", short(sum(layers, "macs"))],
      ["Maps it makes", bytes(sum(layers, "bytes"))],
      ["Receptive field", field(last.field)],
    ]),
    section(heat ? "What it reads, and how strongly (mean |weight| by source)" : "What it reads and adds", readStrip(block, number, heat), heat ? strongest(block, index, heat) : null),
    section("Operations", operations(layer.layers)),
    doc.has_weights ? section("Weights", layers.flatMap((l) => tensors(l, /conv\d\.weight$/))) : h("section", {}, noWeights()),
  ];
}

/** The sources that a layer reads most. */
function strongest(block, index, heat) {
  const order = heat.map((value, source) => [value, source]).sort((a, b) => b[0] - a[0]).slice(0, 3);
  return h("ul", { class: "ops" }, order.map(([value, source]) => (source === 0 ? entry(`stage:${block.stage}`, "the block's input", real(value)) : entry(`dense:${index}:${source - 1}`, `layer ${source}`, real(value)))));
}

function layerDetails({ layer, stage, index }) {
  const rows = [
    ["Operation", layer.op],
    layer.window && ["Window", windowText(layer.window)],
    ["Input", maps(layer.c_in, layer.space_in)],
    ["Output", layer.field ? maps(layer.c_out, layer.space_out) : grouped(layer.c_out)],
    ["Parameters", grouped(layer.params)],
    ["Multiply-adds", layer.macs ? short(layer.macs) : "none"],
    ["Map it makes", layer.bytes ? bytes(layer.bytes) : "none: works in place"],
    ["Receptive field", field(layer.field)],
  ];
  const weights = layer.tensors[1] > layer.tensors[0];
  return [
    h("h2", {}, shortPath(layer.name)),
    h("p", { class: "about" }, sentence(layer)),
    facts(rows),
    stage.kind === "stem" && index === stage.layers[0] ? stemKernels() : null,
    weights ? section(counted(layer.tensors[1] - layer.tensors[0], "tensor"), tensors(layer)) : null,
    weights && !doc.has_weights ? h("section", {}, noWeights()) : null,
  ];
}

/** The tensors of an operation with their statistics, where there are weights. */
function tensors(layer, only = /./) {
  return doc.tensors.slice(...layer.tensors).filter((tensor) => only.test(tensor.name)).map((tensor) => {
    const { stats } = tensor;
    const name = only.source === "." ? lastPart(tensor.name) : tensor.name.split(".").slice(-2).join(".");
    const head = h("p", {}, h("code", {}, name), h("span", { class: "quiet" }, shape(tensor.shape) + (tensor.learned ? "" : ", running")));
    if (!stats) return h("div", { class: "tensor" }, head);
    const numbers = [`mean ${real(stats.mean)}`, `deviation ${real(stats.std)}`];
    if (stats.zeros) numbers.push(`zeros ${percent(stats.zeros)}`);
    if (stats.min === stats.max) return h("div", { class: "tensor" }, head, h("p", { class: "numbers" }, `all ${real(stats.min)}`));
    return h("div", { class: "tensor" }, head, h("p", { class: "numbers" }, numbers.map((text) => h("span", {}, text))), histogram(stats, tensor.name));
  });
}
