"""Training steps against PyTorch's: time, and peak memory above the loaded model."""

import statistics

from . import table
from .cases import MEMORY_EFFICIENT_TARGETS
from .inference import met, round_up
from .lineup import Engine, start
from .ours import Refused
from .process import Gone


def rivals(case, settings):
    """PyTorch's ways to train this network."""

    def pytorch(name, **options):
        options = {"channels_last": False, "compile": False, "memory_efficient": False, **options}
        return Engine(name, "f32", "workers.step", options)

    found = [pytorch("PyTorch"), pytorch("PyTorch channels-last", channels_last=True)]
    if case.dims == 2:
        # torchvision's option; MONAI's network has none.
        found.append(pytorch("PyTorch memory_efficient", channels_last=True, memory_efficient=True))
    # Every worker keeps its network resident: one more of the largest would not fit beside the others.
    if settings.compile and not case.heavy:
        found.append(pytorch("torch.compile", channels_last=True, compile=True))
    return [e for e in found if not any(word in e.name.lower() for word in settings.skip)]


def modes(ours):
    """Ours, and ours recomputing bottlenecks where the program offers that."""
    found = {"densenet": ["--train"]}
    if ours.accepts("--train", "--memory-efficient"):
        found["densenet memory_efficient"] = ["--train", "--memory-efficient"]
    return found


def step_bytes(report):
    """What a step adds to the loaded model. A program that does not say how much that is gives its whole peak."""
    if "step_bytes" in report:
        return report["step_bytes"], True
    return report["peak_rss_bytes"], False


def measure(case, models, ours, settings):
    """Rounds of everyone's blocks; a heavy case gets few runs because its blocks are long already."""
    folder = models.of(case, onnx=False)
    own = modes(ours)
    row = {"case": case.name, "shape": case.shape, "engines": {name: {"times_ms": []} for name in own}, "absent": {}}
    if "densenet memory_efficient" not in own:
        row["absent"]["densenet memory_efficient"] = "not offered by this binary"
    workers = {}
    try:
        for engine in rivals(case, settings):
            worker, _ = start(engine, case, folder, settings)
            try:
                row["engines"][engine.name] = {"times_ms": [], **worker.hear()}
                workers[engine.name] = worker
            except Gone as gone:
                worker.end()
                row["absent"][engine.name] = str(gone)
        runs = {}
        for round in range(settings.rounds):
            for name, entry in row["engines"].items():
                report = block(name, own, workers, runs.get(name, 1), case, folder, ours, settings)
                remember_memory(entry, report)
                if round == 0:
                    once = statistics.median(report["times_ms"])
                    runs[name] = max(1, min(settings.most_runs, round_up(settings.block_ms / once)))
                else:
                    entry["times_ms"] += report["times_ms"]
    finally:
        for worker in workers.values():
            worker.end()
    for entry in row["engines"].values():
        entry["median_ms"] = statistics.median(entry["times_ms"])
        entry["min_ms"] = min(entry["times_ms"])
        entry["samples_per_second"] = 1e3 * case.batch / entry["median_ms"]
    return row


def block(name, own, workers, runs, case, folder, ours, settings):
    if name in own:
        return ours.bench(folder / "model.safetensors", case, settings.threads, settings.warmup, runs, *own[name])
    return workers[name].block(settings.warmup, runs)


def remember_memory(entry, report):
    if "loaded_rss_bytes" in entry:
        entry["step_bytes"] = max(entry.get("step_bytes", 0), report["peak_rss_bytes"] - entry["loaded_rss_bytes"])
    else:
        bytes, exact = step_bytes(report)
        entry["step_bytes"] = max(entry.get("step_bytes", 0), bytes)
        entry["step_bytes_is_whole_process"] = not exact
        entry["optimizer"] = report.get("optimizer")


def best_ordinary(row, figure):
    """PyTorch's best by a figure, without memory_efficient and torch.compile, which stand beside."""
    ordinary = [name for name in row["engines"] if name in ("PyTorch", "PyTorch channels-last")]
    return min(ordinary, key=lambda name: row["engines"][name][figure], default=None)


def verdicts(row, case):
    goals = []
    if "f32" in case.targets:
        goals.append(("densenet", "time", "median_ms", case.targets["f32"]))
        goals.append(("densenet", "memory of a step", "step_bytes", case.memory_target))
        goals.append(("densenet memory_efficient", "time", "median_ms", MEMORY_EFFICIENT_TARGETS["time"]))
        goals.append(("densenet memory_efficient", "memory of a step", "step_bytes", MEMORY_EFFICIENT_TARGETS["memory"]))
    for mine, what, figure, target in goals:
        rival = best_ordinary(row, figure)
        if mine in row["engines"] and rival:
            ours, theirs = row["engines"][mine][figure], row["engines"][rival][figure]
            yield {
                "who": mine, "what": what, "target": target, "ours": ours, "rival": rival, "theirs": theirs,
                "ratio": ours / theirs, "met": met(ours / theirs, target),
            }


def run(cases, models, ours, settings, progress):
    rows = []
    for case in cases:
        progress("training " + case.name)
        row = measure(case, models, ours, settings)
        row["verdicts"] = list(verdicts(row, case))
        rows.append(row)
    return {"cases": rows, "table": target_table(rows) + [""] + figures_table(rows) + [""] + table.absences(rows)}


def target_table(rows):
    lines = []
    for row in rows:
        for v in row["verdicts"]:
            show = table.number if v["what"] == "time" else table.mebibytes
            lines.append([
                f"{row['case']}, {v['who']}, {v['what']}", show(v["ours"]), v["rival"], show(v["theirs"]),
                f"{v['ratio']:.2f}", f"≤ {v['target']:.2f}", "met" if v["met"] else "missed",
            ])
    return table.rows(["training step", "ours", "PyTorch's best", "theirs", "ratio", "target", ""], lines)


def figures_table(rows):
    lines = []
    for row in rows:
        for name, entry in row["engines"].items():
            whole = " (whole process)" if entry.get("step_bytes_is_whole_process") else ""
            lines.append([
                f"{row['case']}, {name}", f"{table.number(entry['median_ms'])} ({table.number(entry['min_ms'])})",
                table.number(entry["samples_per_second"]), table.mebibytes(entry["step_bytes"]) + whole,
            ])
    header = ["training step", "milliseconds, median (minimum)", "samples a second", "memory above the loaded model"]
    return table.rows(header, lines)


def depth(cases, models, ours, settings, progress):
    """Memory of a step as the third block gets deeper. Each takes two steps: the second has what the first left behind."""
    rows = []
    for case in cases:
        progress("memory of " + case.name)
        folder = models.of(case, onnx=False)
        row = {"case": case.name, "step_bytes": {}}
        for name, options in modes(ours).items():
            try:
                report = ours.bench(folder / "model.safetensors", case, settings.threads, 1, 1, *options)
                row["step_bytes"][name] = step_bytes(report)[0]
            except Refused as refused:
                row["step_bytes"][name] = None
                progress(f"{case.name}, {name}: {refused}")
        for engine in rivals(case, settings):
            worker, _ = start(engine, case, folder, settings)
            try:
                loaded = worker.hear()["loaded_rss_bytes"]
                row["step_bytes"][engine.name] = worker.block(1, 1)["peak_rss_bytes"] - loaded
            except Gone as gone:
                row["step_bytes"][engine.name] = None
                progress(f"{case.name}, {engine.name}: {gone}")
            finally:
                worker.end()
        rows.append(row)
    names = list(rows[0]["step_bytes"])
    lines = [
        [row["case"], *("–" if row["step_bytes"][n] is None else table.mebibytes(row["step_bytes"][n]) for n in names)]
        for row in rows
    ]
    return {"cases": rows, "table": table.rows(["memory of a step above the loaded model", *names], lines)}
