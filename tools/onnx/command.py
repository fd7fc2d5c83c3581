"""Running the program, and models whose every tensor, norms and statistics too, is made up."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

# Values for which the logits of every preset are of order 1.
sys.path.append(str(Path(__file__).resolve().parent.parent / "golden"))
import generator  # noqa: E402


class Command:
    def __init__(self, program, folder):
        self.program, self.folder = str(Path(program).resolve()), folder
        self.models, self.made = {}, 0

    def run(self, *arguments):
        done = subprocess.run(
            [self.program, *map(str, arguments)], cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"densenet {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stderr

    def model(self, *network):
        """The model file of a network, given as words of the command line, with generated tensors."""
        if network not in self.models:
            self.made += 1
            path = self.folder / f"model{self.made}.safetensors"
            drawn, plain = self.folder / "drawn.safetensors", self.folder / "plain.safetensors"
            self.run("init", *network, "-o", drawn)
            save_file(generated(load_file(drawn)), plain)
            # Named without the preset: import infers the rest from the tensors.
            self.run("import", plain, *stem_options(network), *network[1:], "-o", path)
            drawn.unlink()
            plain.unlink()
            self.models[network] = path
        return self.models[network]

    def infer(self, model, inputs):
        """The program's answer to an array."""
        source, target = self.folder / "x.npy", self.folder / "y.npy"
        np.save(source, inputs)
        self.run("infer", model, "--input", source, "--output", target)
        return np.load(target)

    def clear(self):
        """Keeps one model for the next case, and no files of the last one."""
        while len(self.models) > 1:
            self.models.pop(next(iter(self.models))).unlink()
        kept = set(self.models.values())
        for path in self.folder.iterdir():
            if path not in kept:
                path.unlink()


def generated(tensors):
    """Every tensor as the generator makes it; counters as they are."""
    floats = {name for name, tensor in tensors.items() if tensor.dtype == np.float32}
    return {
        name: generator.parameter(name, tensor.shape, 1) if name in floats else tensor for name, tensor in tensors.items()
    }


def stem_options(network):
    """The stem of a CIFAR preset, which no tensor shows."""
    return ("--stem", "small") if network[0].startswith("densenet-") else ()
