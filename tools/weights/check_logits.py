"""Holds the `densenet` program's logits against PyTorch's, with weights going both ways.

    cargo build --release
    python tools/weights/check_logits.py target/release/densenet [TUTORIAL.txt] [--only WORD]...

For every preset in 2-D and 3-D and for a network of every dialect, at full width and tiny: PyTorch builds the network at
random, norms and statistics included, and saves it as the programs of its dialect did; `densenet import` reads the
file; `densenet infer` answers a random input; the logits must be PyTorch's. Then `densenet export` writes the dialect's
.pth and .safetensors, which a fresh network of the same class loads with strict=True, and whose logits must again be the
same. With the tutorial's text its own classes take the place of the rebuilt ones. Prints a table; the exit status is 1
if anything differs. --only keeps the networks whose name contains a WORD.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from check_torch import tutorial_networks
from networks import SMALL_INPUTS, load, monai_net, networks, randomise, rebuilt, save, torchvision_net

# Of logits up to 1; in proportion where they are larger.
TOLERANCE = 1e-4
PRESETS = {
    "121": (32, 64, (6, 12, 24, 16)),
    "161": (48, 96, (6, 12, 36, 24)),
    "169": (32, 64, (6, 12, 32, 32)),
    "201": (32, 64, (6, 12, 48, 32)),
    "264": (32, 64, (6, 12, 64, 48)),
}


@dataclass
class Case:
    name: str
    dialect: str
    build: object
    """Makes the network; each call makes another one."""
    shape: tuple
    options: list = field(default_factory=list)
    """Of `densenet import`, for what the tensors do not show."""


def presets():
    for name, (growth, init, blocks) in PRESETS.items():
        widths = dict(growth_rate=growth, num_init_features=init, bn_size=4)
        flat = lambda blocks=blocks, widths=widths: torchvision_net(blocks, {**widths, "num_classes": 1000})
        yield Case(f"densenet{name} 2-D", "torchvision", flat, (2, 3, 224, 224))
        deep = lambda blocks=blocks, widths=widths: monai_net(3, 1, blocks, {**widths, "num_classes": 2})
        yield Case(f"densenet{name} 3-D", "monai", deep, (2, 1, 64, 72, 60))


def dialects(kind, widths, blocks, four, tutorial):
    """A network of every dialect and of what options make of its class."""

    def build(name):
        if tutorial and name in ("tutorial-2d", "tutorial-rewritten", "tutorial-3d"):
            return tutorial_networks(tutorial, widths, blocks, four)[name]
        return networks(widths, blocks, four)[name]

    def case(name, dialect, build, options=()):
        network = build()
        _, channels, *kernel = next(p for p in network.parameters() if p.dim() > 2).shape
        shape = (3, channels, *([75, 61] if len(kernel) == 2 else [40, 58, 45]))
        return Case(f"{name} {kind}", dialect, build, shape, list(options))

    for name in networks(widths, blocks, four):
        yield case(name, name.split("+")[0], lambda name=name: build(name))
    yield case("torchvision-legacy", "torchvision-legacy", lambda: torchvision_net(blocks, widths))
    plain = dict(blocks=blocks, compression=0.7, **widths, **SMALL_INPUTS)
    yield case("gpleiss+compression", "gpleiss", lambda: rebuilt("gpleiss", **plain))
    short = dict(blocks=blocks, stem_kernel=(3, 7, 7), stem_stride=2, stem_pool=False, **widths)
    options = ["--stem-stride", "2x2x2", "--stem-pool", "false"]
    yield case("kenshohara+options", "kenshohara", lambda: rebuilt("kenshohara", **short), options)
    grey = dict(blocks=blocks, in_channels=1, **widths)
    options = ["--dialect", "kenshohara"]
    yield case("kenshohara+grey", "kenshohara", lambda: rebuilt("kenshohara", **grey), options)


def cases(tutorial):
    yield from presets()
    tiny = dict(growth_rate=4, num_init_features=8, bn_size=2, num_classes=5)
    yield from dialects("tiny", tiny, (2, 1), (1, 2, 1, 1), tutorial)
    full = dict(growth_rate=32, num_init_features=64, bn_size=4, num_classes=10)
    yield from dialects("121", full, (6, 12, 24, 16), (6, 12, 24, 16), tutorial)


class Failed(Exception):
    pass


def densenet(program, *arguments):
    """Runs the program; what it wrote to both streams."""
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"densenet {arguments[0]}: status {done.returncode}: {done.stderr.strip()}")
    return done.stdout + done.stderr


@torch.no_grad()
def answer(network, x):
    return network.eval()(x.clone()).numpy()


def difference(what, found, expected):
    """The largest difference in the tolerance's measure."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise Failed(f"{what}: {found.dtype} {found.shape}, not {expected.dtype} {expected.shape}")
    # NaN compares as false, so this asks for what must hold.
    worst = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
    if not worst <= TOLERANCE:
        raise Failed(f"{what}: logits differ by {worst:.1e}")
    if (found.argmax(1) != expected.argmax(1)).any():
        raise Failed(f"{what}: top-1 differs")
    return float(worst)


def check(program, case, folder):
    """The largest logit, and how far those imported and those of both exports are from PyTorch's."""
    network = randomise(case.build())
    x = torch.randn(case.shape)
    # Samples of different strength and mean: an average pool takes equal noise for the same.
    sample = torch.arange(case.shape[0]).reshape(-1, *[1] * (x.dim() - 1))
    x = x * (1 + sample) + sample - 1
    expected = answer(network, x)
    scale = max(1.0, np.abs(expected).max())
    if np.ptp(expected, axis=0).max() < 100 * TOLERANCE * scale:
        raise Failed("the logits hardly depend on the input: they prove nothing")

    weights, model = folder / "weights.pth", folder / "model.safetensors"
    save(network, weights, case.dialect)
    np.save(folder / "x.npy", x.numpy())
    said = densenet(program, "import", weights, "-o", model, *case.options)
    # timm's names are torchvision's.
    recognised = "torchvision" if case.dialect == "timm" else case.dialect
    if f": read as {recognised}\n" not in said:
        raise Failed(f"not recognised as {recognised}: {said.strip()}")
    densenet(program, "infer", model, "--input", folder / "x.npy", "--output", folder / "y.npy")
    worst = [difference("imported", np.load(folder / "y.npy"), expected)]
    for ending in ("pth", "safetensors"):
        path = folder / f"exported.{ending}"
        densenet(program, "export", model, "-o", path, "--dialect", case.dialect)
        fresh = load(path, randomise(case.build()))
        for (name, ours), (_, theirs) in zip(fresh.state_dict().items(), network.state_dict().items()):
            if not torch.equal(ours, theirs) and not lost_counter(case, name):
                raise Failed(f"{path.name}: {name} is not what it was")
        worst.append(difference(path.name, answer(fresh, x), expected))
    return np.abs(expected).max(), worst


def lost_counter(case, name):
    """Whether `name` counts batches in a dialect that has no such counters."""
    return name.endswith("num_batches_tracked") and case.dialect in ("torchvision-legacy", "kenshohara-2018")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program", help="the built `densenet`")
    parser.add_argument("tutorial", nargs="?", help="the tutorial's text")
    parser.add_argument("--only", action="append", metavar="WORD", help="networks whose name contains WORD")
    options = parser.parse_args()
    torch.manual_seed(21)
    failures, checked, worst = [], 0, np.zeros(3)
    print(f"{'network':27} {'dialect':18} {'input':17} {'largest':>8} {'import':>8} {'.pth':>8} {'.safet.':>8}")
    for case in cases(options.tutorial):
        if options.only and not any(word in case.name for word in options.only):
            continue
        size = "x".join(map(str, case.shape))
        line = f"{case.name:27} {case.dialect:18} {size:17}"
        checked += 1
        with tempfile.TemporaryDirectory() as folder:
            try:
                largest, found = check(options.program, case, Path(folder))
            except (Failed, RuntimeError) as error:
                failures.append(case.name)
                print(line, f"FAILED: {error}", flush=True)
                continue
        worst = np.maximum(worst, found)
        print(line, f"{largest:8.2f}", *(f"{value:8.1e}" for value in found), flush=True)
    print(f"{'worst, relative to logits above 1':74}", *(f"{value:8.1e}" for value in worst))
    if failures or not checked:
        sys.exit(f"{len(failures)} of {checked} networks differ: {', '.join(failures)}")
    print(f"{checked} networks agree with PyTorch both ways, top-1 included")


if __name__ == "__main__":
    main()
