// The drawing as a picture of its own, SVG or PNG.
import { h, s, tell } from "./elements.js";
import { doc } from "./data.js";

// What the page's style sheet decides, as attributes: other programs need no style sheet then, and the page's policy lets
// no picture bring one.
const LOOKS = ["fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray", "stroke-linejoin", "paint-order"];
const TEXT_LOOKS = [...LOOKS, "font-family", "font-size", "font-weight", "text-anchor"];

function withLooks(original) {
  const copy = original.cloneNode(false);
  const tag = original.localName;
  if (tag !== "g") {
    const style = getComputedStyle(original);
    for (const name of tag === "text" || tag === "tspan" ? TEXT_LOOKS : LOOKS) {
      const value = style.getPropertyValue(name);
      if (value && value !== "normal") copy.setAttribute(name, value.replace(/"/g, "'"));
    }
  }
  for (const name of ["class", "role", "tabindex", "data-id", "aria-level", "aria-selected", "aria-expanded", "aria-hidden", "id"]) copy.removeAttribute(name);
  for (const child of original.childNodes) {
    if (child.nodeType === Node.TEXT_NODE) copy.append(child.cloneNode());
    else if (!child.matches(".hit, .ring, .toggle")) copy.append(withLooks(child));
  }
  return copy;
}

/** The drawing in the extent `box` as the text of an SVG file; `group` must be part of the page. */
export function asSvg(group, box) {
  const ground = getComputedStyle(document.documentElement).getPropertyValue("--ground").trim();
  const size = { viewBox: `${box.x} ${box.y} ${box.width} ${box.height}`, width: Math.ceil(box.width), height: Math.ceil(box.height) };
  const copy = withLooks(group);
  copy.removeAttribute("transform");
  const svg = s("svg", { xmlns: "http://www.w3.org/2000/svg", ...size, role: "img" }, s("title", {}, doc.name), s("rect", { ...box, fill: ground }), copy);
  return new XMLSerializer().serializeToString(svg);
}

/** SVG text as a PNG, twice as large so that it stays sharp. */
async function asPng(text, box) {
  const image = new Image();
  const address = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  try {
    image.src = address;
    await image.decode();
    // Browsers refuse canvases beyond some ten thousand pixels a side.
    const scale = Math.min(2, 12000 / Math.max(box.width, box.height));
    const canvas = h("canvas", { width: Math.ceil(box.width * scale), height: Math.ceil(box.height * scale) });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((done, failed) => canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("too large"))), "image/png"));
  } finally {
    URL.revokeObjectURL(address);
  }
}

function save(blob, ending) {
  const name = `${doc.name.replace(/[^\w.-]+/g, "_").slice(0, 80) || "network"}.${ending}`;
  const address = URL.createObjectURL(blob);
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  tell(`saved ${name}`);
}

/** Wires the menu; `drawing()` gives the group and its extent. */
export function listenToCopy(drawing) {
  const button = document.getElementById("copy");
  const menu = document.getElementById("copy-menu");
  const svg = () => {
    const [group, box] = drawing();
    return [asSvg(group, box), box];
  };
  const actions = [
    ["Copy SVG", async () => {
      await navigator.clipboard.writeText(svg()[0]);
      tell("copied the drawing as SVG");
    }],
    ["Copy PNG", async () => {
      const [text, box] = svg();
      await navigator.clipboard.write([new ClipboardItem({ "image/png": asPng(text, box) })]);
      tell("copied the drawing as PNG");
    }],
    ["Save SVG", async () => save(new Blob([svg()[0]], { type: "image/svg+xml" }), "svg")],
    ["Save PNG", async () => save(await asPng(...svg()), "png")],
  ];
  const open = (on) => {
    menu.hidden = !on;
    button.setAttribute("aria-expanded", String(on));
  };
  for (const [name, action] of actions) {
    const run = async () => {
      open(false);
      button.focus();
      try {
        await action();
      } catch {
        tell("the browser does not allow this here; save the picture instead");
      }
    };
    menu.append(h("button", { type: "button", role: "menuitem", tabindex: "-1", onclick: run }, name));
  }
  const items = () => [...menu.children];
  button.addEventListener("click", () => {
    open(menu.hidden);
    if (!menu.hidden) items()[0].focus();
  });
  menu.addEventListener("keydown", (event) => {
    const now = items().indexOf(document.activeElement);
    if (event.key === "ArrowDown") items()[(now + 1) % items().length].focus();
    else if (event.key === "ArrowUp") items()[(now + items().length - 1) % items().length].focus();
    else if (event.key === "Escape") {
      open(false);
      button.focus();
    } else return;
    event.preventDefault();
  });
  document.addEventListener("pointerdown", (event) => {
    if (!menu.hidden && !event.target.closest(".menu")) open(false);
  });
}
