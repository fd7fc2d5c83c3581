"""Writes crates/densenet/tests/golden: checkpoints of every dialect, and what PyTorch's networks answer with them.

    python tools/weights/make_logits_golden.py crates/densenet/tests/golden [TUTORIAL.txt]

All weights are random, norms and statistics included. A case in logits.json names a checkpoint, how to
import it, the shape of an input and the logits, computed in f64 by the class that the checkpoint belongs to:
torchvision's, MONAI's and timm's own, the others rebuilt by structure (networks.py). With the tutorial's text as a
second argument its 2-D, rewritten and 3-D classes are run as well and must agree. Versions are pinned in
requirements.txt; the files of the old form differ from run to run in bytes, not in content.
"""

import json
import sys
from pathlib import Path

import torch

from check_torch import tutorial_networks
from networks import (
    FOUR,
    SMALL,
    SMALL_INPUTS,
    generator,
    load,
    monai_net,
    networks,
    randomise,
    rebuilt,
    save,
    torchvision_net,
)

SEED = 12
WIDTHS = dict(growth_rate=4, num_init_features=8, bn_size=2, num_classes=5)
DEEP = {"kernel": [7, 7, 7], "stride": [2, 2, 2], "norm": True, "pool": False}
SHORT = {**DEEP, "kernel": [3, 7, 7]}


def more_networks():
    """Networks of a dialect that take an option to be recognised, or another form."""
    short = dict(stem_kernel=(3, 7, 7), stem_stride=2, stem_pool=False, in_channels=2)
    plain = dict(blocks=(2, 3, 1), compression=0.7, **SMALL_INPUTS)
    return {
        "torchvision-legacy": torchvision_net(SMALL, WIDTHS),
        "gpleiss+compression": rebuilt("gpleiss", **WIDTHS, **plain),
        "kenshohara+options": rebuilt("kenshohara", **WIDTHS, **short),
        "monai+3d-f16": monai_net(3, 2, FOUR, WIDTHS),
    }


def with_eps(network, eps):
    for module in network.modules():
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
            module.eps = eps
    return network


def cases(nets):
    """(checkpoint, recognised dialect, network, what happens to its input, how it is imported) of every case."""
    for name, network in nets.items():
        dialect = name.split("+")[0]
        # timm's names are torchvision's.
        recognised = "torchvision" if dialect == "timm" else dialect
        options = {"config": {"stem": SHORT}} if name == "kenshohara+options" else {}
        yield name, recognised, network, None, options

    # What no tensor shows.
    eps = with_eps(torchvision_net(SMALL, WIDTHS), 0.1)
    yield "torchvision", "torchvision", eps, None, {"config": {"bn_eps": 0.1}}
    strided = rebuilt("kenshohara", **WIDTHS, stem_stride=2, stem_pool=False)
    yield "kenshohara", "kenshohara", strided, None, {"config": {"stem": DEEP}}
    one_channel = rebuilt("kenshohara", **WIDTHS, in_channels=1)
    yield "tutorial-3d", "kenshohara", one_channel, None, {"dialect": "kenshohara"}
    # A first convolution for one channel: the old one on three equal channels.
    for change, share in (("sum", 1), ("mean", 1 / 3)):
        grey = lambda x, share=share: x.expand(-1, 3, -1, -1) * share
        option = {"input": {"in_channels": 1, "change": change}}
        yield "torchvision", "torchvision", torchvision_net(SMALL, WIDTHS), grey, option


def input_shape(network, grey):
    """Odd sides of different length, large enough for four blocks."""
    _, channels, *kernel = next(p for p in network.parameters() if p.dim() > 2).shape
    return [3, 1 if grey else channels, *([43, 69] if len(kernel) == 2 else [33, 45, 38])]


def images(shape, step):
    """Noise of another strength and mean for every sample; nothing but noise looks the same to an average pool."""
    x = torch.from_numpy(generator.batch(shape, SEED, step))
    for sample in range(shape[0]):
        for channel in range(shape[1]):
            x[sample, channel] *= 1 + sample
            x[sample, channel] += (sample + channel) % 3 - 1
    return x.double()


def check_margins(what, logits):
    """Logits that hardly depend on the input, or whose largest is a matter of rounding, would prove little."""
    peak = max(1.0, logits.abs().max().item())
    spread = (logits.max(0).values - logits.min(0).values).max().item()
    top = logits.topk(2, dim=1).values
    margin = (top[:, 0] - top[:, 1]).min().item()
    assert spread > 1e-2 * peak and margin > 2e-3 * peak, f"{what}: spread {spread}, margin {margin}"


@torch.no_grad()
def main(folder, tutorial=None):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    nets = {**networks(WIDTHS), **more_networks()}
    for name, network in nets.items():
        randomise(network)
        save(network.half() if "f16" in name else network, folder / f"{name}.pth", name.split("+")[0])
    originals = tutorial_networks(tutorial, WIDTHS) if tutorial else {}
    out = []
    for step, (name, recognised, network, change, options) in enumerate(cases(nets)):
        path = folder / f"{name}.pth"
        network = load(path, network.double())
        shape = input_shape(network, change)
        x = images(shape, step)
        logits = network(change(x) if change else x)
        check_margins(name, logits)
        if recognised == name and not options and name in originals:
            original = load(path, originals[name].double())(x)
            assert torch.allclose(original, logits, rtol=1e-12, atol=1e-12), name
            print(f"{name}: the tutorial's class agrees within {(original - logits).abs().max():.1e}")
        case = {"checkpoint": path.name, "recognised": recognised, **options, "input_shape": shape}
        out.append({**case, "logits": logits.tolist()})
    about = "Written by tools/weights/make_logits_golden.py; crates/densenet/tests/dialects.rs reads it."
    lines = ",\n".join("  " + json.dumps(case) for case in out)
    text = f'{{\n"about": {json.dumps(about)},\n"seed": {SEED},\n"cases": [\n{lines}\n]\n}}\n'
    (folder / "logits.json").write_text(text)
    print(f"{len(out)} cases")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
