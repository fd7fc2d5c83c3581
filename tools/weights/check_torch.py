"""Loads what this project exports with PyTorch, strictly, and compares every tensor.

    cargo run -p densenet-weights --example export_dialects -- FOLDER
    python tools/weights/check_torch.py FOLDER [TUTORIAL.txt]

Every file goes through torch.load(weights_only=True) or safetensors, then load_state_dict(strict=True) into the class of
its dialect: torchvision's, MONAI's and timm's own, the others by structure (networks.py). With the tutorial's text as a
second argument its 2-D, rewritten and 3-D classes are taken from there.
"""

import sys
from collections import OrderedDict
from pathlib import Path
from typing import Tuple

import torch
from safetensors.torch import load_file
from torch import nn

from networks import (
    FOUR,
    SMALL,
    STEPS,
    TINY,
    formula,
    networks,
    new_spelling,
    torchvision_net,
)


def tutorial_classes(text):
    """The class definitions of the tutorial: at column 0 only `class` lines and comments are Python."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("class _DenseLayer("))
    end = next(i for i, line in enumerate(lines) if line.startswith("  •"))
    code = [line for line in lines[start:end] if line.startswith(("class ", " ", "#"))]
    scope = {"torch": torch, "nn": nn, "F": nn.functional, "OrderedDict": OrderedDict, "Tuple": Tuple}
    exec("\n".join(code), scope)
    return scope


def tutorial_networks(path, widths=TINY, blocks=SMALL, four=FOUR):
    scope = tutorial_classes(Path(path).read_text(encoding="utf-8"))
    return {
        "tutorial-2d": scope["DenseNet"](block_config=blocks, **widths),
        "tutorial-rewritten": scope["DenseNet_2d"](block_config=four, **widths),
        "tutorial-3d": scope["DenseNet_3d"](block_config=blocks, **widths),
    }


def read(path):
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, weights_only=True)


def check(path, network, canonical):
    """`canonical` are torchvision's names in the order of the network's tensors, which the formula goes by."""
    state = read(path)
    state = state.get("state_dict", state)
    state = {new_spelling(name).removeprefix("module."): tensor for name, tensor in state.items()}
    network.load_state_dict(state, strict=True)
    compared = 0
    weights = [(n, t) for n, t in network.state_dict().items() if "num_batches" not in n]
    assert len(weights) == len(canonical), path
    for (name, tensor), expected in zip(weights, canonical):
        assert torch.equal(tensor, formula(expected, tuple(tensor.shape))), f"{path}: {name}"
        compared += tensor.numel()
    counters = [t for n, t in state.items() if "num_batches" in n]
    assert all(t.shape == () and t.item() == STEPS for t in counters), path
    print(f"{path.name}: {len(weights)} tensors, {compared} elements, {len(counters)} counters equal")


def canonical_names(blocks, stem_norm=True, final=True):
    net = torchvision_net(blocks)
    names = [n for n in net.state_dict() if "num_batches" not in n]
    names = [n for n in names if stem_norm or not n.startswith("features.norm0")]
    return [n for n in names if final or not n.startswith("features.norm5")]


def main(folder, tutorial=None):
    nets = networks()
    if tutorial:
        nets.update(tutorial_networks(tutorial))
    nets["torchvision-legacy"] = torchvision_net()
    checked = 0
    for name, network in nets.items():
        blocks = FOUR if name in ("tutorial-rewritten", "tutorial-bottom") else SMALL
        names = canonical_names(blocks, name != "gpleiss+small", name != "tutorial-bottom")
        for ending in ("pth", "safetensors"):
            check(folder / f"{name}.{ending}", network, names)
            checked += 1
    # A model file is a .safetensors that torchvision loads as it is.
    check(folder / "model.safetensors", torchvision_net(), canonical_names(SMALL))
    print(f"{checked + 1} files load strictly and agree")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
