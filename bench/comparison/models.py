"""Models and inputs of the cases, made once and kept under the target folder."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from .process import HOME

SOURCES = ["prepare.py", "networks.py", "presets.py"]


class Models:
    def __init__(self, folder, ours, threads, fresh):
        self.folder, self.ours, self.threads = Path(folder), ours, threads
        if fresh:
            shutil.rmtree(self.folder, ignore_errors=True)

    def of(self, case, onnx=True):
        """The folder of a case: model.safetensors (ours), weights.safetensors (PyTorch's), x.npy, reference.npy and, if
        asked for, model.onnx. Made again when the scripts that make it or their requirements have changed."""
        task = {
            "preset": case.preset,
            "dims": case.dims,
            "blocks": case.blocks,
            "shape": case.shape,
            "threads": self.threads,
            "in_f64": not case.heavy,
            "onnx": onnx and not case.only_pytorch,
        }
        made_from = json.dumps(task) + "".join(
            path.read_text() for path in [HOME / "requirements.txt", *(HOME / "comparison" / s for s in SOURCES)]
        )
        key = hashlib.sha256(made_from.encode()).hexdigest()[:16]
        folder = self.folder / f"{case.preset}-{case.dims}d-{case.size}-b{case.batch}-{key}"
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            job = json.dumps({**task, "binary": self.ours.binary, "folder": str(folder)})
            done = subprocess.run(
                [sys.executable, "-m", "comparison.prepare", job], cwd=HOME, capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(f"{case.name}: the model could not be made:\n{done.stderr.strip()}")
            (folder / "complete").touch()
        return folder
