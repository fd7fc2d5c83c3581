// The keyboard in the drawing: arrows walk, Enter opens, Escape closes.
import { target, parent, stageOf } from "./data.js";
import { state, change, toggle } from "./state.js";

/** Where an arrow leads from `id`, or null. */
function neighbour(root, id, step) {
  const level = root.querySelector(`[data-id="${id}"]`)?.getAttribute("aria-level");
  const same = [...root.querySelectorAll(`.item[aria-level="${level}"]`)].map((element) => element.dataset.id);
  const siblings = same.filter((other) => level === "1" || stageOf(other) === stageOf(id));
  return siblings[siblings.indexOf(id) + step] ?? null;
}

/** Wires the drawing's keys; `show(id)` brings something into sight. */
export function listenToKeys(svg, show, camera) {
  const go = (id) => {
    if (!id) return;
    change({ selected: id });
    show(id);
    svg.querySelector(`[data-id="${id}"]`)?.focus({ preventScroll: true });
  };
  svg.addEventListener("keydown", (event) => {
    const id = event.target.closest?.("[data-id]")?.dataset.id;
    if (!id || event.altKey || event.ctrlKey || event.metaKey) return;
    const it = target(id);
    const isBlock = it.kind === "stage" && it.stage.block !== undefined;
    const open = isBlock && state.open.has(it.index);
    switch (event.key) {
      case "ArrowRight":
        go(neighbour(svg, id, 1));
        break;
      case "ArrowLeft":
        go(neighbour(svg, id, -1));
        break;
      case "ArrowDown":
        if (isBlock) {
          toggle(it.index, true);
          go(`dense:${it.stage.block}:0`);
        } else if (it.kind === "stage") go(neighbour(svg, id, 1));
        break;
      case "ArrowUp":
        go(it.kind === "dense" ? parent(id) : neighbour(svg, id, -1));
        break;
      case "Home":
        go("stage:0");
        break;
      case "End":
        go([...svg.querySelectorAll('.item[aria-level="1"]')].pop()?.dataset.id);
        break;
      case "Enter":
      case " ":
        change({ selected: id });
        if (isBlock) {
          toggle(it.index, !open);
          go(id);
        }
        break;
      case "Escape":
        if (it.kind === "dense") go(parent(id));
        else if (open) {
          toggle(it.index, false);
          go(id);
        }
        break;
      default:
        return;
    }
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest?.("input, select, textarea") || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "/") document.getElementById("search").focus();
    else if (state.view !== "network") return;
    else if (event.key === "+" || event.key === "=") camera.zoomBy(1.25);
    else if (event.key === "-") camera.zoomBy(0.8);
    else if (event.key === "0") camera.fit();
    else return;
    event.preventDefault();
  });
}
