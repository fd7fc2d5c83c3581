// Numbers as people read them.

const scaled = (value, step, units) => {
  let unit = 0;
  while (value >= step - 0.5 && unit + 1 < units.length) {
    value /= step;
    unit += 1;
  }
  const decimals = unit === 0 ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return value.toFixed(decimals) + units[unit];
};

/** 7978856 as 7.98 M */
export const short = (value) => scaled(value, 1000, ["", " k", " M", " G", " T", " P"]);

/** 48234496 as 46.0 MiB */
export const bytes = (value) => scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB", " PiB"]);

/** 7978856 as 7,978,856 */
export const grouped = (value) => value.toLocaleString("en-US");

/** Milliseconds, in the unit that fits. */
export function ms(value) {
  if (value < 0.995) return `${(1000 * value).toFixed(0)} µs`;
  return value < 999.5 ? `${value.toPrecision(3)} ms` : `${(value / 1000).toFixed(2)} s`;
}

/** Channels and space as 256×56×56. */
export const shape = (sizes) => (sizes.length ? sizes.join("×") : "scalar");

/** A measured number with four digits. */
export function real(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  return text.replace("-", "−");
}

/** A share as a percentage. */
export const percent = (share) =>
  share >= 0.1 ? `${(100 * share).toFixed(1)} %` : share >= 0.001 ? `${(100 * share).toFixed(2)} %` : share === 0 ? "0 %" : "< 0.1 %";

/** "1 layer", "6 layers" */
export const counted = (number, thing) => `${grouped(number)} ${thing}${number === 1 ? "" : "s"}`;

/** The window of an operation: 3×3, stride 2, padding 1. */
export function windowText([kernel, stride, padding]) {
  const one = (sizes) => (sizes.every((s) => s === sizes[0]) ? String(sizes[0]) : sizes.join("×"));
  let text = kernel.join("×");
  if (stride.some((s) => s > 1)) text += `, stride ${one(stride)}`;
  if (padding.some((p) => p > 0)) text += `, padding ${one(padding)}`;
  return text;
}

/** What an operation does, in a sentence. */
export function sentence(layer) {
  switch (layer.op) {
    case "Conv":
      return layer.window[0].every((k) => k === 1)
        ? "Mixes the channels of each pixel."
        : "Looks at a neighbourhood of each pixel in all channels.";
    case "BatchNorm":
      return "Brings every channel to mean 0 and deviation 1, then scales and shifts it by what it has learned.";
    case "ReLU":
      return "Sets what is negative to zero.";
    case "MaxPool":
      return "Keeps the largest value of each window.";
    case "AvgPool":
      return "Keeps the mean of each window.";
    case "Dropout":
      return "While training, sets features to zero at random; rests otherwise.";
    case "Concat":
      return "Puts the layer's new channels beside all that came before.";
    case "GlobalAvgPool":
      return "The mean of each channel over all pixels.";
    case "Linear":
      return "One weighted sum of the features for each class.";
    default:
      return "";
  }
}
