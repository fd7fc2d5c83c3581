// The documents that stand in the page, and how to find things in them.

const parse = (id) => {
  const text = document.getElementById(id).textContent;
  return text ? JSON.parse(text) : null;
};

/** Everything about the network (densenet-view's Document). */
export const doc = parse("data");

let seenDocument;

/** What the network made of a picture, or null. It is large, so it is read when first asked for. */
export function seen() {
  if (seenDocument === undefined) seenDocument = parse("seen");
  return seenDocument;
}

/** Whether there is one, without reading it. */
export const hasSeen = document.getElementById("seen").textContent.length > 0;

// What can be selected has an id: "network", "stage:3", "dense:2:5" (block, layer), "layer:123", "node:7".

/** The parts of an id: { kind, ... } with the facts it stands for. */
export function target(id) {
  const [kind, first, second] = id.split(":");
  const index = Number(first);
  switch (kind) {
    case "stage":
      return { kind, index, stage: doc.stages[index] };
    case "dense": {
      const block = doc.blocks[index];
      const number = Number(second);
      return { kind, index, number, block, layer: block.layers[number], stage: doc.stages[block.stage] };
    }
    case "layer":
      return { kind, index, layer: doc.layers[index], stage: doc.stages[doc.layers[index].stage] };
    case "node":
      return { kind, index, node: doc.nodes[index] };
    default:
      return { kind: "network" };
  }
}

/** The id one step up: an operation's dense layer, a dense layer's stage, a stage's network. */
export function parent(id) {
  const it = target(id);
  if (it.kind === "dense") return `stage:${it.block.stage}`;
  if (it.kind === "layer") {
    const block = it.stage.block;
    if (block !== undefined) {
      const number = doc.blocks[block].layers.findIndex((l) => it.index >= l.layers[0] && it.index < l.layers[1]);
      if (number >= 0) return `dense:${block}:${number}`;
    }
    return `stage:${it.layer.stage}`;
  }
  return it.kind === "network" ? null : "network";
}

/** The dense layer that an id is or lies in, as an id, or null. */
export function denseOf(id) {
  if (id.startsWith("dense:")) return id;
  if (id.startsWith("layer:")) {
    const up = parent(id);
    return up.startsWith("dense:") ? up : null;
  }
  return null;
}

/** The stage's index that an id is or lies in, or -1. */
export function stageOf(id) {
  const it = target(id);
  if (it.kind === "stage") return it.index;
  if (it.kind === "dense") return it.block.stage;
  return it.kind === "layer" ? it.layer.stage : -1;
}

/**
 * Measured times as { stages, ms }: one stage each, but where the engine computes several in one pass (the last norm and
 * the classifier) all of these. The names of `stages` are joined by +.
 */
export function passes() {
  const found = [];
  let stages = [];
  for (const stage of doc.stages) {
    stages.push(stage);
    const ms = doc.time?.stages[stage.name];
    if (ms === undefined) continue;
    found.push({ stages, ms, name: stages.map((s) => s.name).join(" + ") });
    stages = [];
  }
  return found;
}

/** The last part of a path. */
export const lastPart = (path) => path.slice(path.lastIndexOf(".") + 1);

/** torchvision's paths without the part that all of them share. */
export const shortPath = (path) => path.replace(/^features\./, "");

/** What an id is called. */
export function nameOf(id) {
  const it = target(id);
  if (it.kind === "stage") return it.stage.name;
  if (it.kind === "dense") return lastPart(it.layer.name);
  if (it.kind === "layer") return lastPart(it.layer.name);
  if (it.kind === "node") return it.node.name;
  return doc.name;
}

/**
 * The channels [first, last] of what layer `number` of `block` reads that come from `source`: 0 is the block's input,
 * s the layer with number s - 1. In [new, old] networks the newest features stand first.
 */
export function channelsOf(block, number, source) {
  const k = block.growth_rate;
  const size = source === 0 ? block.c_in : k;
  let first = source === 0 ? 0 : block.c_in + (source - 1) * k;
  if (doc.config.concat_order === "new_old") first = source === 0 ? number * k : (number - source) * k;
  return [first, first + size - 1];
}

/** What reads the whole block: the transition behind it, or the classifier. */
export function readerOf(index) {
  const next = doc.stages[doc.blocks[index].stage + 1];
  return next && next.kind === "transition" ? next.name : "classifier";
}
