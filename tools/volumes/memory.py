#!/usr/bin/env python3
"""How much memory training on a folder of volumes takes, in and beyond the budget: the table in docs/volumes.md.

    memory.py path/to/densenet

Writes volumes of 64×64×64 (1 MiB each once prepared) into a temporary folder, trains a small network on 16 and on 160 of
them with a budget of 16 MiB, and asks the system for the peak of the process.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import nibabel
import numpy as np

SIDE = 64
NETWORK = ["--model", "densenet121", "--growth-rate", "4", "--block-config", "1,1", "--num-init-features", "4",
           "--batch-size", "2", "--epochs", "2", "--no-augment", "--threads", "2", "--loader-threads", "2"]  # fmt: skip


def peak(program, folder, data, *options):
    """MiB and seconds."""
    begun = time.monotonic()
    args = [program, "train", data, *NETWORK, *options, "--out", folder / "runs"]
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, status
    return usage.ru_maxrss / 1024, time.monotonic() - begun


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for count in (16, 160):
            for i in range(count):
                path = folder / f"{count}/{'ab'[i % 2]}/{i}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                values = random.integers(0, 100 + 100 * (i % 2), (SIDE,) * 3).astype(np.int16)
                nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
        for count, options in [
            (16, ["--cache-mb", "16"]),
            (160, ["--cache-mb", "16"]),
            (160, ["--cache-mb", "16", "--cache-dir", folder / "kept"]),
            (160, ["--cache-mb", "16", "--cache-dir", folder / "kept"]),
            (160, ["--cache-mb", "1024"]),
        ]:
            mib, seconds = peak(program, folder, folder / str(count), *options)
            named = " ".join(str(o) if not isinstance(o, pathlib.Path) else "DIR" for o in options)
            print(f"{count:4} volumes  {named:32} {mib:7.0f} MiB  {seconds:6.1f} s", flush=True)


if __name__ == "__main__":
    main()
