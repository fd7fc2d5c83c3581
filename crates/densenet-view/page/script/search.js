// Finding stages, layers and operations by their names.
import { h } from "./elements.js";
import { doc, shortPath, stageOf, denseOf } from "./data.js";
import { change, toggle } from "./state.js";
import { shape } from "./format.js";

const MOST = 40;
let entries = null;

function all() {
  if (entries) return entries;
  entries = doc.stages.map((stage, i) => ({ id: `stage:${i}`, name: stage.name, note: `stage, ${shape([stage.c_out, ...stage.space_out])}` }));
  for (const [b, block] of doc.blocks.entries()) {
    for (const [l, layer] of block.layers.entries()) {
      entries.push({ id: `dense:${b}:${l}`, name: shortPath(layer.name), note: `dense layer, reads ${layer.c_in}, adds ${block.growth_rate}` });
    }
  }
  for (const [i, layer] of doc.layers.entries()) {
    entries.push({ id: `layer:${i}`, name: shortPath(layer.name), note: `${layer.op}, ${shape([layer.c_out, ...layer.space_out])}` });
  }
  for (const entry of entries) entry.key = `${entry.name} ${entry.note}`.toLowerCase();
  return entries;
}

/** Entries that hold every word of the query; names that hold them early and are short come first. */
export function find(query, among = all()) {
  const words = query.toLowerCase().split(/[\s.]+/).filter(Boolean);
  if (!words.length) return [];
  const hits = [];
  for (const entry of among) {
    let score = entry.name.length / 100;
    let miss = false;
    for (const word of words) {
      const at = entry.key.indexOf(word);
      if (at < 0) {
        miss = true;
        break;
      }
      // "layer1" means layer 1, not layer 12.
      const whole = !/\d$/.test(word) || !/\d/.test(entry.key[at + word.length] ?? "");
      score += at / 50 + (whole ? 0 : 2);
    }
    if (!miss) hits.push([score, entry]);
  }
  return hits.sort((a, b) => a[0] - b[0]).slice(0, MOST).map(([, entry]) => entry);
}

/** Wires the search field; `show(id)` brings something into sight. */
export function listenToSearch(show, among) {
  const field = document.getElementById("search");
  const list = document.getElementById("found");
  let hits = [];
  let current = -1;

  const close = () => {
    list.hidden = true;
    field.setAttribute("aria-expanded", "false");
    field.removeAttribute("aria-activedescendant");
  };
  const mark = (index) => {
    current = index;
    for (const [i, row] of [...list.children].entries()) row.setAttribute("aria-selected", String(i === index));
    const row = list.children[index];
    if (row) {
      field.setAttribute("aria-activedescendant", row.id);
      row.scrollIntoView({ block: "nearest" });
    }
  };
  const choose = (entry) => {
    close();
    field.value = "";
    if (!among && denseOf(entry.id)) toggle(stageOf(entry.id), true);
    change({ view: "network", selected: entry.id });
    show(entry.id);
  };
  const update = () => {
    hits = find(field.value, among?.());
    list.replaceChildren(...hits.map((entry, i) => h("li", { role: "option", id: `found-${i}`, "aria-selected": "false", onpointerdown: (event) => { event.preventDefault(); choose(entry); } }, entry.name, h("span", {}, entry.note))));
    if (!hits.length && field.value.trim()) list.replaceChildren(h("li", { role: "option", "aria-disabled": "true", id: "found-none" }, "nothing found"));
    list.hidden = !field.value.trim();
    field.setAttribute("aria-expanded", String(!list.hidden));
    mark(hits.length ? 0 : -1);
  };
  field.addEventListener("input", update);
  field.addEventListener("focus", () => field.value.trim() && update());
  field.addEventListener("blur", close);
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && hits.length) mark((current + 1) % hits.length);
    else if (event.key === "ArrowUp" && hits.length) mark((current - 1 + hits.length) % hits.length);
    else if (event.key === "Enter" && hits[current]) choose(hits[current]);
    else if (event.key === "Escape") {
      field.value = "";
      close();
      return;
    } else return;
    event.preventDefault();
  });
}
