"""One prediction in a process of its own: how much memory it takes, and how soon the answer is there.

Ours is the whole process of `densenet infer`, from its start to its end with the logits on disk. The rivals' time starts
after Python has imported them: session creation and first run. Their memory is the whole process's, importing no more than
the engine and numpy.
"""

import json
import os
import statistics
import subprocess
import sys

from . import table
from .cases import FIRST_ANSWER_TARGET_MS, ONE_SHOT_MEMORY_TARGET
from .inference import dtype, met, ours_name
from .process import HOME

RIVALS = {"ONNX Runtime": ["onnx_runtime"], "OpenVINO": ["open_vino", "f32"], "OpenVINO bf16": ["open_vino", "bf16"]}

# A child's peak starts with what its parent had resident when it split off, so a small process stands in between.
SPAWN = """
import os, sys, time
start = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(pid, 0)
print(1e3 * (time.perf_counter() - start), 1024 * usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""


def whole_process(command, environment):
    """Milliseconds from start to end, and peak resident bytes."""
    launcher = [sys.executable, "-I", "-S", "-c", SPAWN, *command]
    done = subprocess.run(launcher, capture_output=True, text=True, env=environment, check=True)
    milliseconds, peak, status = done.stdout.split()
    if status != "0":
        sys.exit(f"{' '.join(command)}: status {status}: {done.stderr.strip()}")
    return float(milliseconds), int(peak)


def first_answer(engine, folder, threads):
    """What `workers/first_answer.py` says of itself."""
    command = [sys.executable, "-m", "comparison.workers.first_answer", str(threads), str(folder / "model.onnx")]
    command += [str(folder / "x.npy"), *engine]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True)
    if done.returncode:
        return None
    report = json.loads(done.stdout.splitlines()[-1])
    return report["milliseconds"], report["peak_rss_bytes"]


def run(cases, models, ours, settings):
    figures, lines = [], []
    for case in cases:
        folder = models.of(case)
        found = {}
        for _ in range(settings.repeats):
            for precision in sorted(settings.precisions, reverse=True):
                command = [ours.binary, "infer", str(folder / "model.safetensors"), "--input", str(folder / "x.npy")]
                command += ["--output", str(settings.scratch / "y.npy"), "--threads", str(settings.threads)]
                answer = whole_process(command + dtype(precision), {**os.environ, **ours.environment})
                found.setdefault(ours_name(precision), []).append(answer)
            for name, engine in RIVALS.items():
                if answer := first_answer(engine, folder, settings.threads):
                    found.setdefault(name, []).append(answer)
        figures.append({"case": case.name, "milliseconds_and_peak_bytes": found})
        lines += summary(case, found)
    header = ["one prediction", "start to answer, ms", "peak memory", "memory, ours ÷ theirs", "targets"]
    return {"cases": figures, "table": table.rows(header, lines)}


def summary(case, found):
    """Medians of times and of peaks."""
    middle = {
        name: tuple(statistics.median(values) for values in zip(*answers)) for name, answers in found.items()
    }
    mine = middle["densenet"]
    for name, (milliseconds, peak) in middle.items():
        ratio, target = "–", "–"
        if name == "densenet":
            target = f"< {FIRST_ANSWER_TARGET_MS:.0f} ms " + verdict(milliseconds < FIRST_ANSWER_TARGET_MS)
        elif not name.startswith("densenet"):
            ratio = f"{mine[1] / peak:.2f}"
            if name == "ONNX Runtime":
                goal = ONE_SHOT_MEMORY_TARGET
                target = f"≤ {goal} {verdict(met(mine[1] / peak, goal))}"
        yield [f"{case.name}, {name}", table.number(milliseconds), table.mebibytes(peak), ratio, target]


def verdict(reached):
    return "met" if reached else "missed"
