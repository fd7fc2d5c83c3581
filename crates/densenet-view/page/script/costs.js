// What each stage costs, as bars.
import { h } from "./elements.js";
import { doc, passes, stageOf } from "./data.js";
import { state, change } from "./state.js";
import { bars } from "./charts.js";
import { short, bytes, counted, ms, percent } from "./format.js";

/** The view: a chart each for parameters, multiply-adds, maps and time. */
export function costs() {
  const { totals, time } = doc;
  const pick = (id) => change({ selected: id });
  const current = `stage:${stageOf(state.selected)}`;
  const figure = (title, hint, rows) =>
    h("figure", { class: "card" }, h("h2", {}, title), h("p", { class: "hint" }, hint), bars(rows, pick, current));
  const chart = (title, hint, value, text) =>
    figure(title, hint, doc.stages.map((stage, i) => ({ id: `stage:${i}`, label: stage.name, value: value(stage), text: text(stage) })));
  const sum = doc.stages.reduce((total, stage) => total + stage.bytes, 0);
  const fused = passes().find((pass) => pass.stages.length > 1);
  const measured = time
    ? `${ms(time.total_ms)}: ${time.runs === 1 ? "one run" : `median of ${time.runs} runs`}, ${counted(time.threads, "thread")}, ${time.isa}${time.random_weights ? ", random weights" : ""}${fused ? `; ${fused.name} are one pass` : ""}`
    : null;
  return [
    h("div", { class: "grid" },
      chart("Parameters", `${short(totals.params)} in all`, (s) => s.params, (s) => short(s.params)),
      chart("Multiply-adds", `${short(totals.macs)} for one sample`, (s) => s.macs, (s) => short(s.macs)),
      chart("Memory of maps", `${bytes(sum)} for one sample in f32, every map counted once`, (s) => s.bytes, (s) => bytes(s.bytes)),
      time
        ? figure("Measured time", measured, timed(current))
        : h("figure", { class: "card" }, h("h2", {}, "Measured time"), h("p", { class: "hint" }, "Not measured. Leave out --no-time to have it measured on your machine.")),
    ),
    h("p", { class: "hint" }, `The largest stage holds ${percent(Math.max(...doc.stages.map((s) => s.params)) / totals.params)} of all parameters. Norms and ReLUs ride along with their neighbours and make no maps of their own.`),
  ];
}

/** A bar for each pass; whichever of its stages is selected, the bar is. */
function timed(current) {
  return passes().map(({ stages, name, ms: value }) => {
    const ids = stages.map((stage) => `stage:${doc.stages.indexOf(stage)}`);
    return { id: ids.includes(current) ? current : ids.at(-1), label: name, value, text: ms(value) };
  });
}
