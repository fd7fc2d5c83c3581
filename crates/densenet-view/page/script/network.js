// The page of a DenseNet.
import { h, s } from "./elements.js";
import { doc, hasSeen } from "./data.js";
import { state, change, listen } from "./state.js";
import { draw, light, listenToDrawing, boxOf, plan } from "./drawing.js";
import { camera } from "./camera.js";
import { details } from "./details.js";
import { costs } from "./costs.js";
import { weights } from "./heat.js";
import { picture } from "./maps.js";
import { listenToSearch } from "./search.js";
import { listenToCopy } from "./copy.js";
import { listenToKeys } from "./keys.js";
import { NARROW, element, header, theme, tabs, zoomButtons } from "./frame.js";
import { short, bytes, ms, shape } from "./format.js";

const VIEWS = [["network", "Network"], ["costs", "Costs"], ["weights", "Weights"], ["picture", "Picture"]];

function legend() {
  const key = (drawn, text, kind) => h("span", { class: kind }, s("svg", { viewBox: "0 0 26 14", "aria-hidden": "true", class: "drawing" }, drawn), text);
  const line = h("div", { class: "legend" });
  const fill = () => {
    const open = state.open.size > 0;
    const items = open
      ? [
          key(s("rect", { class: "strip", x: 0, y: 3, width: 26, height: 8 }), "channels, kept to the block's end"),
          key([s("path", { class: "read", d: "M13 14V0" }), s("path", { class: "dots", d: "M10 7a3 3 0 1 0 6 0a3 3 0 1 0 -6 0" })], doc.has_weights ? "read here; stronger where weights are larger" : "read here"),
          key(s("path", { class: "add", d: "M2 0V7H26" }), "added here"),
          key(s("path", { class: "arc", d: "M2 13C2 0 24 0 24 13" }), "dense connection"),
        ]
      : [
          key(s("path", { class: "river", d: "M0 4H12L14 0H26V14H14L12 10H0Z" }), "thickness: channels (square root)"),
          key(s("rect", { class: "map", x: 7, y: 1, width: 12, height: 12 }), "map size (square root)", "wide-only"),
          h("span", {}, "click a block, or press ↓ on it, to open it"),
        ];
    line.replaceChildren(...items);
  };
  listen((changed) => changed.has("open") && fill());
  fill();
  return line;
}

/** Builds the page. */
export function startNetwork() {
  const { totals, time } = doc;
  header(`${doc.dims}-D · ${doc.origin}`, [
    ["input", shape(doc.input)],
    ["parameters", short(totals.params)],
    ["multiply-adds", short(totals.macs)],
    ["memory", bytes(totals.infer_bytes)],
    time && ["time", ms(time.total_ms)],
  ]);
  theme();
  const group = s("g", {});
  const svg = s("svg", { id: "drawing", "aria-label": `${doc.name}, drawn` }, group);
  const stagehand = h("div", { class: "stagehand" }, svg);
  const panel = (id, ...children) => h("section", { class: id === "network" ? "view canvas" : "view", id: `view-${id}`, role: "tabpanel", "aria-labelledby": `tab-${id}`, hidden: id !== "network" }, ...children);
  const panels = Object.fromEntries(VIEWS.map(([id]) => [id, id === "network" ? panel(id, stagehand, legend()) : panel(id)]));
  element("views").append(...Object.values(panels));
  tabs(VIEWS, panels);

  const flow = () => (view.size()[0] < NARROW ? "column" : "row");
  const view = camera(svg, group, () => plan.box);
  const fit = () => view.fit(plan.flow === "column");
  stagehand.append(zoomButtons(view));

  const show = (id) => {
    const box = boxOf(id);
    if (box) view.show(box);
  };
  const showDetails = () => {
    element("details").replaceChildren(...details(state.selected).filter(Boolean));
    // In the next frame: now it would make the browser lay out the page once more.
    requestAnimationFrame(() => {
      element("details").scrollTop = 0;
    });
  };
  // Views are filled when they are first shown, and the costs again with every selection.
  const filled = new Set();
  const fill = () => {
    const views = { costs, weights, picture };
    if (!(state.view in views) || (filled.has(state.view) && state.view !== "costs")) return;
    const focused = document.activeElement?.dataset?.id;
    panels[state.view].replaceChildren(...views[state.view]().filter(Boolean));
    if (focused) panels[state.view].querySelector(`[data-id="${focused}"][aria-current]`)?.focus();
    filled.add(state.view);
  };

  draw(group, flow());
  fit();
  showDetails();
  listen((changed) => {
    if (changed.has("open")) {
      const focused = document.activeElement?.dataset?.id;
      draw(group, flow());
      if (focused) group.querySelector(`[data-id="${focused}"]`)?.focus({ preventScroll: true });
      const opened = [...state.open].pop();
      if (opened === undefined) fit();
      else show(`stage:${opened}`);
    } else if (changed.has("selected") || changed.has("hovered")) light();
    if (changed.has("selected")) showDetails();
    if (changed.has("selected") || changed.has("view")) fill();
  });
  listenToDrawing(svg);
  listenToKeys(svg, show, view);
  listenToSearch(show);
  listenToCopy(() => [group, plan.box]);

  let lastFlow = flow();
  new ResizeObserver(() => {
    if (state.view !== "network") return;
    if (flow() !== lastFlow) {
      lastFlow = flow();
      draw(group, lastFlow);
      fit();
    }
  }).observe(stagehand);
  if (hasSeen) change({ view: "picture" });
}
