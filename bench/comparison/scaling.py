"""Two threads against one, alternating."""

import statistics

from . import table
from .cases import SCALING_TARGET


def run(cases, models, ours, settings):
    lines, figures = [], []
    for case in cases:
        model = models.of(case) / "model.safetensors"
        times = {1: [], settings.threads: []}
        for round in range(settings.rounds):
            for threads, all_times in times.items():
                runs = 1 if settings.quick else 10
                all_times += ours.bench(model, case, threads, 1, runs)["times_ms"]
        one, many = (statistics.median(times[threads]) for threads in (1, settings.threads))
        met = "met" if one / many >= SCALING_TARGET else "missed"
        figures.append({"case": case.name, "times_ms": times, "ratio": one / many})
        lines.append(
            [case.name, table.number(one), table.number(many), f"{one / many:.2f}", f"≥ {SCALING_TARGET}", met]
        )
    header = ["ours, milliseconds", "1 thread", f"{settings.threads} threads", "ratio", "target", ""]
    return {"cases": figures, "table": table.rows(header, lines)}
