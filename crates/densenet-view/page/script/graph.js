// The page of any other ONNX graph: layers from top to bottom. Only what is in sight is drawn, so large graphs stay light.
import { h, s, facts } from "./elements.js";
import { doc } from "./data.js";
import { state, change, listen } from "./state.js";
import { camera } from "./camera.js";
import { listenToSearch } from "./search.js";
import { listenToCopy } from "./copy.js";
import { element, header, theme, zoomButtons } from "./frame.js";
import { counted, grouped, short } from "./format.js";

const NODE = { width: 174, height: 34, across: 168, down: 76 };
/** More nodes than this in sight are drawn as plain boxes. */
const MOST_WITH_TEXT = 700;

const placeX = (node) => node.x * NODE.across;
const placeY = (node) => node.layer * NODE.down;
const valueShape = (value) => (value.shape ? (value.shape.length ? value.shape.join(" × ") : "scalar") : "shape unknown");
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** An edge from bottom to top; one that passes other nodes by leads from side to side around them. */
function edgePath([from, to]) {
  const [a, b] = [doc.nodes[from], doc.nodes[to]];
  const [x0, y0, x1, y1] = [placeX(a), placeY(a) + NODE.height / 2, placeX(b), placeY(b) - NODE.height / 2];
  const span = b.layer - a.layer;
  if (span > 1 && Math.abs(x0 - x1) < NODE.width) {
    const half = NODE.width / 2;
    const far = Math.max(x0, x1) + half + 26 + Math.min(span, 60) * 5;
    return `M${(x0 + half).toFixed(1)} ${placeY(a)}C${far.toFixed(1)} ${placeY(a)} ${far.toFixed(1)} ${placeY(b)} ${(x1 + half).toFixed(1)} ${placeY(b)}`;
  }
  const pull = Math.min((y1 - y0) / 2, 60 + span * 6);
  return `M${x0.toFixed(1)} ${y0}C${x0.toFixed(1)} ${y0 + pull} ${x1.toFixed(1)} ${y1 - pull} ${x1.toFixed(1)} ${y1}`;
}

function extent() {
  const xs = doc.nodes.map(placeX);
  const left = xs.reduce((a, b) => Math.min(a, b), 0) - NODE.width;
  const right = xs.reduce((a, b) => Math.max(a, b), 0) + NODE.width * 2;
  const deepest = doc.nodes.reduce((most, node) => Math.max(most, node.layer), 0);
  return { x: left, y: -NODE.down, width: right - left, height: (deepest + 2) * NODE.down };
}

/** Draws the nodes and edges that touch [x, y, width, height], or all of them. */
function drawGraph(group, window, neighbours) {
  const near = (node, margin) => !window || (Math.abs(placeX(node) - window[0] - window[2] / 2) < window[2] / 2 + NODE.width + margin && placeY(node) > window[1] - NODE.down && placeY(node) < window[1] + window[3] + NODE.down);
  const inSight = [];
  for (const [index, node] of doc.nodes.entries()) if (near(node, 0) || state.selected === `node:${index}`) inSight.push(index);
  const crosses = ([from, to]) => {
    const [a, b] = [doc.nodes[from], doc.nodes[to]];
    return !window || (placeY(b) > window[1] && placeY(a) < window[1] + window[3]);
  };
  const edges = doc.edges.filter(crosses);
  const tree = s("g", { role: "tree", class: "drawing", "aria-label": "Operations" });
  tree.append(s("path", { class: "edge", d: edges.map(edgePath).join("") }));
  const picked = state.selected.startsWith("node:") ? Number(state.selected.slice(5)) : -1;
  tree.append(s("path", { class: "edge picked", d: (neighbours[picked] ?? []).map((edge) => edgePath(doc.edges[edge])).join("") }));
  if (inSight.length > MOST_WITH_TEXT) {
    const box = (index) => `M${(placeX(doc.nodes[index]) - NODE.width / 2).toFixed(1)} ${placeY(doc.nodes[index]) - NODE.height / 2}h${NODE.width}v${NODE.height}h${-NODE.width}Z`;
    tree.append(s("path", { class: "river", d: inSight.map(box).join("") }));
  } else {
    if (edges.length < 400) tree.append(...edges.filter((_, i) => i < 400).map(edgeLabel).filter(Boolean));
    tree.append(...inSight.map((index) => drawNode(index, picked)));
  }
  group.replaceChildren(tree);
}

function edgeLabel([from, to, value]) {
  const [a, b] = [doc.nodes[from], doc.nodes[to]];
  if (b.layer - a.layer > 1 || !doc.values[value].shape) return null;
  const [x, y] = [(placeX(a) + placeX(b)) / 2, (placeY(a) + placeY(b)) / 2];
  return s("text", { class: "small", x: x + 5, y: y + 3 }, cut(valueShape(doc.values[value]), 34));
}

function drawNode(index, picked) {
  const node = doc.nodes[index];
  const [x, y] = [placeX(node), placeY(node)];
  const frame = { x: x - NODE.width / 2, y: y - NODE.height / 2, width: NODE.width, height: NODE.height, rx: node.role === "node" ? 5 : 17 };
  const name = node.name.slice(node.name.lastIndexOf("/") + 1);
  return s("g", { class: `graph-node item${index === picked ? " picked" : ""}`, role: "treeitem", tabindex: index === Math.max(picked, 0) ? "0" : "-1", "data-id": `node:${index}`, "aria-label": `${node.op} ${node.name}`, "aria-selected": String(index === picked) },
    s("rect", { class: "box", ...frame }), s("rect", { class: "ring", ...frame, x: frame.x - 3, y: frame.y - 3, width: frame.width + 6, height: frame.height + 6 }),
    s("text", { x, y: y - 1, class: "name" }, cut(node.op, 20)), s("text", { x, y: y + 12, class: "small" }, cut(name, 24)));
}

function graphDetails(id) {
  const value = (index) => {
    const it = doc.values[index];
    return [it.name, `${it.dtype} ${valueShape(it)}${it.stored ? ", stored" : ""}`];
  };
  const section = (title, rows) => (rows.length ? h("section", {}, h("h3", {}, title), facts(rows)) : null);
  if (!id.startsWith("node:")) {
    const ops = new Map();
    for (const node of doc.nodes) if (node.role === "node") ops.set(node.op, (ops.get(node.op) ?? 0) + 1);
    const list = [...ops].sort((a, b) => b[1] - a[1]).slice(0, 40).map(([op, count]) => [op, grouped(count)]);
    const about = [["Graph", doc.graph], ["Written by", doc.producer], ["Opset", String(doc.opset)], ["Stored numbers", grouped(doc.params)]];
    return [
      h("h2", {}, doc.name),
      h("p", { class: "none" }, `Shown as a plain graph, because it was not recognised as a DenseNet: ${doc.reason}`),
      doc.about ? h("p", { class: "about" }, doc.about) : null,
      facts(about.filter(([, text]) => text)),
      section("Operations", list),
      section("Metadata", doc.metadata),
    ];
  }
  const node = doc.nodes[Number(id.slice(5))];
  const links = (title, ends) => (ends.length ? h("section", {}, h("h3", {}, title), h("ul", { class: "ops" }, ends.map((index) => h("li", {}, h("button", { type: "button", onclick: () => change({ selected: `node:${index}` }) }, h("span", {}, doc.nodes[index].name || doc.nodes[index].op), h("span", { class: "quiet" }, doc.nodes[index].op)))))) : null);
  const index = Number(id.slice(5));
  return [
    h("nav", { class: "crumbs", "aria-label": "Where this is" }, h("button", { type: "button", onclick: () => change({ selected: "network" }) }, doc.name), h("span", {}, "›")),
    h("h2", {}, node.op),
    h("p", { class: "about" }, node.name),
    section("Inputs", node.inputs.map(value)),
    section("Outputs", node.outputs.map(value)),
    section("Attributes", node.attributes ?? []),
    links("Reads", doc.edges.filter((edge) => edge[1] === index).map((edge) => edge[0])),
    links("Read by", doc.edges.filter((edge) => edge[0] === index).map((edge) => edge[1])),
  ];
}

/** Builds the page. */
export function startGraph() {
  const operations = doc.nodes.filter((node) => node.role === "node").length;
  header(doc.origin, [["operations", grouped(operations)], ["stored numbers", short(doc.params)], ["opset", String(doc.opset)], doc.producer && ["written by", doc.producer]]);
  theme();
  element("tabs").hidden = true;
  const group = s("g", {});
  const svg = s("svg", { id: "drawing", "aria-label": `${doc.name}, drawn` }, group);
  const stagehand = h("div", { class: "stagehand" }, svg);
  const legend = h("div", { class: "legend" }, h("span", {}, `plain graph: ${counted(operations, "operation")} from top to bottom, shapes beside the lines`), h("span", {}, "arrows walk, / searches"));
  element("views").append(h("section", { class: "view canvas", "aria-label": "Graph" }, stagehand, legend));
  const view = camera(svg, group, extent);
  stagehand.append(zoomButtons(view));

  const neighbours = doc.nodes.map(() => []);
  for (const [i, [from, to]] of doc.edges.entries()) {
    neighbours[from].push(i);
    neighbours[to].push(i);
  }
  let waiting = false;
  let painting = false;
  const paint = () => {
    waiting = false;
    const { x, y, zoom } = view.view();
    const [width, height] = view.size();
    const focused = svg.contains(document.activeElement);
    painting = true;
    drawGraph(group, [-x / zoom, -y / zoom, width / zoom, height / zoom], neighbours);
    if (focused) svg.querySelector(`[data-id="${state.selected}"]`)?.focus({ preventScroll: true });
    painting = false;
  };
  view.onMove(() => {
    if (waiting || painting) return;
    waiting = true;
    requestAnimationFrame(paint);
  });
  const show = (id) => {
    const node = doc.nodes[Number(id.slice(5))];
    if (node) view.show([placeX(node) - NODE.width, placeY(node) - NODE.down, 2 * NODE.width, 2 * NODE.down]);
  };
  const showDetails = () => element("details").replaceChildren(...graphDetails(state.selected).filter(Boolean));
  listen((changed) => {
    if (!changed.has("selected")) return;
    showDetails();
    show(state.selected);
    paint();
  });
  svg.addEventListener("click", (event) => {
    const id = event.target.closest?.("[data-id]")?.dataset.id;
    if (id) change({ selected: id });
  });
  svg.addEventListener("keydown", (event) => {
    const now = Number((event.target.closest?.("[data-id]")?.dataset.id ?? "node:0").slice(5));
    const beside = (step) => {
      const layer = doc.nodes.map((node, i) => [node, i]).filter(([node]) => node.layer === doc.nodes[now].layer).sort((a, b) => a[0].x - b[0].x);
      return layer[layer.findIndex(([, i]) => i === now) + step]?.[1];
    };
    const to = {
      ArrowDown: () => doc.edges.find((edge) => edge[0] === now)?.[1],
      ArrowUp: () => doc.edges.find((edge) => edge[1] === now)?.[0],
      ArrowRight: () => beside(1),
      ArrowLeft: () => beside(-1),
      Enter: () => now,
      " ": () => now,
    }[event.key];
    if (!to) return;
    event.preventDefault();
    const next = to();
    if (next !== undefined) change({ selected: `node:${next}` });
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest?.("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") element("search").focus();
    else if (event.key === "+" || event.key === "=") view.zoomBy(1.25);
    else if (event.key === "-") view.zoomBy(0.8);
    else if (event.key === "0") view.fit();
    else return;
    event.preventDefault();
  });
  let entries = null;
  const among = () => {
    entries ??= doc.nodes.map((node, i) => ({ id: `node:${i}`, name: node.name || node.op, note: node.op, key: `${node.name} ${node.op}`.toLowerCase() }));
    return entries;
  };
  listenToSearch(show, among);
  listenToCopy(() => {
    // All of it, drawn where nobody sees it, so that its style is known.
    const whole = s("g", {});
    whole.setAttribute("visibility", "hidden");
    svg.append(whole);
    drawGraph(whole, null, neighbours);
    setTimeout(() => whole.remove());
    return [whole, extent()];
  });
  // The top of the graph at a readable size; small graphs whole.
  view.fit();
  if (view.view().zoom < 0.7) {
    const top = doc.nodes[0];
    view.zoomBy(0.9 / view.view().zoom);
    view.show([placeX(top) - NODE.width, -NODE.down, 2 * NODE.width, 8 * NODE.down]);
  }
  showDetails();
  paint();
}
