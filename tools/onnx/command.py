"""Running the program, and models whose norms and statistics are not 0 and 1."""

import subprocess
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


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
        """The model file of a network, given as words of the command line, every tensor drawn at random."""
        if network not in self.models:
            self.made += 1
            path = self.folder / f"model{self.made}.safetensors"
            drawn, plain = self.folder / "drawn.safetensors", self.folder / "plain.safetensors"
            self.run("init", *network, "-o", drawn)
            save_file(randomise(load_file(drawn)), plain)
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


def randomise(tensors):
    """Norms and statistics at random, the rest as drawn: 0 and 1 would hide that something was lost."""
    draw = np.random.default_rng(1)
    for name, tensor in tensors.items():
        if tensor.ndim == 1 and tensor.dtype == np.float32:
            positive = name.endswith(("running_var", "weight"))
            low, high = (0.5, 1.5) if positive else (-0.5, 0.5)
            tensors[name] = draw.uniform(low, high, tensor.shape).astype(np.float32)
    return tensors


def stem_options(network):
    """The stem of a CIFAR preset, which no tensor shows."""
    return ("--stem", "small") if network[0].startswith("densenet-") else ()
