// Making elements. Text is always set as text, so no name out of a file can become markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.setAttribute("class", value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** An HTML element. */
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/** An SVG element. */
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** A list of terms and what they are. */
export const facts = (rows) =>
  h("dl", { class: "facts" }, rows.filter(Boolean).map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));

let statusTimer;

/** Tells something for a moment, to eyes and to screen readers. */
export function tell(text) {
  const line = document.getElementById("status");
  line.textContent = text;
  line.classList.add("on");
  clearTimeout(statusTimer);
  statusTimer = setTimeout(() => line.classList.remove("on"), 2600);
}
