"""Trains the digits with `--tensorboard`, interrupted and resumed, and reads the event files back with TensorBoard itself.

    python tools/train/check_tensorboard.py target/release/densenet

Needs what requirements.txt names. Checks that every scalar of metrics.csv is there at its step with its value, that the
curves by step have no step twice although the run was interrupted, and that the configuration stands in the text tab. Exits
with 1 otherwise.
"""

import csv
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import time

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

failures = []


def check(condition, what):
    print(("  ok    " if condition else "  FAIL  ") + what)
    if not condition:
        failures.append(what)


def f32(text):
    """A number as TensorBoard stores it."""
    return struct.unpack("f", struct.pack("f", float(text)))[0]


def train(densenet, place):
    """A run that is stopped by Ctrl-C in the middle of an epoch, then resumed."""
    words = "train --tensorboard --epochs 3 --model digits --growth-rate 4 --block-config 2,2 --save-every 0 --threads 1"
    process = subprocess.Popen([densenet, *words.split()], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    metrics = place / "runs/digits-1/metrics.csv"
    until = time.time() + 300
    while time.time() < until and process.poll() is None:
        if metrics.exists() and len(metrics.read_text().splitlines()) >= 2:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.005)
    process.wait()
    check(process.returncode == 130, f"stopped by Ctrl-C after saving (exit code {process.returncode})")
    subprocess.run([densenet, "train", "--resume", "runs/digits-1"], cwd=place, check=True, capture_output=True)
    return place / "runs/digits-1"


COLUMNS = {
    "train_loss": "loss/train",
    "val_loss": "loss/val",
    "train_accuracy": "accuracy/train",
    "val_accuracy": "accuracy/val",
    "val_macro_auroc": "macro_auroc/val",
    "lr": "lr",
    "epoch": "epoch",
}


def main():
    densenet = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        run = train(densenet, pathlib.Path(folder))
        files = sorted((run / "tensorboard").iterdir())
        check(len(files) == 2, f"one file for each session: {len(files)}")
        events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        with open(run / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        check(len(rows) == 3, "three epochs")
        for column, tag in COLUMNS.items():
            expected = [(int(row["step"]), f32(row[column])) for row in rows]
            found = [(e.step, e.value) for e in events.Scalars(tag)]
            check(found == expected, f"{tag}: {len(found)} points, each at its step with its value")
        for tag in ["step/loss", "step/lr", "step/samples_per_second"]:
            steps = [e.step for e in events.Scalars(tag)]
            check(steps == sorted(set(steps)) and len(steps) > 5, f"{tag}: {len(steps)} steps, none twice")
        text = tensor_util.make_ndarray(events.Tensors("configuration")[-1].tensor_proto)[0].decode()
        check("    epochs = 3" in text, "the configuration stands in the text tab")
        check(events.SummaryMetadata("configuration").plugin_data.plugin_name == "text", "as text")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
