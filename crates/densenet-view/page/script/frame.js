// What every page has: its title and totals, the choice of colours, and tabs.
import { h } from "./elements.js";
import { doc } from "./data.js";
import { state, change, listen } from "./state.js";

/** Narrower windows get the drawing as a column. */
export const NARROW = 640;

export const element = (id) => document.getElementById(id);

/** The page's title, where the network comes from, and [term, value] pairs that sum it up. */
export function header(origin, rows) {
  element("name").textContent = doc.name;
  element("origin").textContent = origin;
  element("totals").append(...rows.filter(Boolean).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
}

/** Light or dark: as the system asks, until the button is pressed. */
export function theme() {
  const button = element("theme");
  const asked = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const dark = state.theme ? state.theme === "dark" : asked.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-label", dark ? "Use light colours" : "Use dark colours");
  };
  button.addEventListener("click", () => change({ theme: document.documentElement.dataset.theme === "dark" ? "light" : "dark" }));
  asked.addEventListener("change", apply);
  listen((changed) => changed.has("theme") && apply());
  apply();
}

/** Tabs: arrow keys move between them, as is the custom. */
export function tabs(views, panels) {
  const list = element("tabs");
  const buttons = views.map(([id, name]) =>
    h("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `view-${id}`, onclick: () => change({ view: id }) }, name));
  list.append(...buttons);
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const now = views.findIndex(([id]) => id === state.view);
    const next = (now + step + views.length) % views.length;
    change({ view: views[next][0] });
    buttons[next].focus();
    event.preventDefault();
  });
  const apply = () => {
    for (const [i, [id]] of views.entries()) {
      const on = state.view === id;
      buttons[i].setAttribute("aria-selected", String(on));
      buttons[i].tabIndex = on ? 0 : -1;
      panels[id].hidden = !on;
    }
  };
  listen((changed) => changed.has("view") && apply());
  apply();
}

/** The buttons that zoom. */
export function zoomButtons(view) {
  const button = (text, label, action) => h("button", { type: "button", "aria-label": label, title: label, onclick: action }, text);
  return h("div", { class: "zoom" },
    button("−", "Zoom out ( - )", () => view.zoomBy(0.8)),
    button("+", "Zoom in ( + )", () => view.zoomBy(1.25)),
    button("Fit", "Show everything ( 0 )", () => view.fit()));
}
