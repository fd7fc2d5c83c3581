// The drawing as a picture of its own: SVG with its styles inside, or PNG.
import { h, s, tell } from "./elements.js";
import { doc } from "./data.js";

/** The drawing's style with the page's colours filled in. */
function filledStyle() {
  const colours = getComputedStyle(document.documentElement);
  const text = document.getElementById("drawing-style").textContent;
  return text.replace(/var\((--[\w-]+)\)/g, (_, name) => colours.getPropertyValue(name).trim());
}

/** The drawing in the extent `box` as the text of an SVG file. */
export function asSvg(group, box) {
  const ground = getComputedStyle(document.documentElement).getPropertyValue("--ground").trim();
  const size = { viewBox: `${box.x} ${box.y} ${box.width} ${box.height}`, width: Math.ceil(box.width), height: Math.ceil(box.height) };
  const copy = group.cloneNode(true);
  copy.removeAttribute("transform");
  copy.setAttribute("class", "drawing");
  for (const element of copy.querySelectorAll(".hit, .ring, .toggle")) element.remove();
  for (const element of copy.querySelectorAll("[tabindex]")) element.removeAttribute("tabindex");
  const svg = s("svg", { xmlns: "http://www.w3.org/2000/svg", ...size, role: "img" }, s("title", {}, doc.name), s("style", {}, filledStyle()), s("rect", { ...box, fill: ground }), copy);
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
