// Bytes out of the document, painted onto canvases.
import { h } from "./elements.js";
import { doc } from "./data.js";

/** base64 as bytes. */
export function decode(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

// Dark blue over teal to pale yellow: even steps of lightness, readable without telling hues apart.
const STOPS = [[22, 24, 58], [34, 66, 120], [38, 116, 142], [74, 164, 134], [158, 204, 108], [248, 232, 130]];

/** The colour of `share` in [0, 1] as [r, g, b]. */
export function heatColour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const index = Math.min(Math.floor(place), STOPS.length - 2);
  const part = place - index;
  return STOPS[index].map((from, c) => Math.round(from + part * (STOPS[index + 1][c] - from)));
}

const RAMP = Array.from({ length: 256 }, (_, i) => heatColour(i / 255));

/** A canvas of width × height pixels; `colour(pixel)` gives [r, g, b] or [r, g, b, a]. */
export function painted(width, height, colour, attributes = {}) {
  const canvas = h("canvas", { width, height, ...attributes });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    const [r, g, b, a = 255] = colour(pixel);
    image.data[4 * pixel] = r;
    image.data[4 * pixel + 1] = g;
    image.data[4 * pixel + 2] = b;
    image.data[4 * pixel + 3] = a;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** The colour of a byte. */
export const ramp = (byte) => RAMP[byte];

/** Kernels of the stem's convolution as pictures, `side` pixels for each weight. */
export function kernelPictures(limit) {
  const { shape, data, scale, total } = doc.stem;
  const [count, channels, depth, height, width] = shape;
  const values = decode(data);
  const size = channels * depth * height * width;
  const volume = depth * height * width;
  const colours = channels === 3;
  const side = Math.max(2, Math.floor(42 / Math.max(width, height)));
  const pictures = [];
  for (let kernel = 0; kernel < Math.min(count, limit); kernel += 1) {
    const at = (channel, z, pixel) => values[kernel * size + channel * volume + z * height * width + pixel];
    // Slices of a volume stand side by side, one dark column apart.
    const across = depth * (width + 1) - 1;
    const canvas = painted(across, height, (place) => {
      const x = place % across;
      const z = Math.floor(x / (width + 1));
      const column = x % (width + 1);
      if (column === width) return [128, 128, 128, 0];
      const pixel = Math.floor(place / across) * width + column;
      if (colours) return [at(0, z, pixel), at(1, z, pixel), at(2, z, pixel)];
      let sum = 0;
      for (let c = 0; c < channels; c += 1) sum += at(c, z, pixel);
      const grey = sum / channels;
      return [grey, grey, grey];
    }, { role: "img", "aria-label": `Kernel ${kernel}` });
    canvas.title = `kernel ${kernel}: largest |weight| ${scale[kernel]}`;
    canvas.style.width = `${across * side}px`;
    canvas.style.height = `${height * side}px`;
    pictures.push(canvas);
  }
  const left = total - pictures.length;
  return h("div", { class: "kernels" }, pictures, left > 0 ? h("p", { class: "hint" }, `and ${left} more`) : null);
}
