"""Writes crates/densenet-weights/tests/golden: tiny weight files by PyTorch itself in every dialect and format.

    python tools/weights/make_golden.py crates/densenet-weights/tests/golden

Versions are pinned in requirements.txt. Tensors follow a formula (networks.py), so that the Rust tests know every
element without a second file. Old-form and deflated files differ from run to run in bytes (addresses as keys, dates), not
in content.
"""

import sys
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

from networks import TINY, fill, networks, old_spelling, timm_net, torchvision_net


def without_counters(state):
    return OrderedDict((name, t) for name, t in state.items() if "num_batches" not in name)


def renamed(state, rename):
    """Filled under the new names, as every golden file is."""
    state = OrderedDict((rename(name), tensor) for name, tensor in without_counters(state).items())
    return fill(state)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for name, network in networks().items():
        if name != "kenshohara-2018":
            torch.save(fill(network.state_dict()), folder / f"{name}.pth")

    # Other spellings and wrappers.
    old = renamed(torchvision_net().state_dict(), old_spelling)
    torch.save(old, folder / "torchvision-legacy.pth", _use_new_zipfile_serialization=False)
    network = networks()["kenshohara-2018"]
    state = renamed(network.state_dict(), lambda name: "module." + old_spelling(name))
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    checkpoint = {"epoch": 3, "arch": "densenet-121", "state_dict": state, "optimizer": optimizer.state_dict()}
    torch.save(checkpoint, folder / "kenshohara-2018.pth", _use_new_zipfile_serialization=False)

    # Formats and element types.
    state = fill(torchvision_net().state_dict())
    save_file(state, folder / "torchvision+f32.safetensors")
    floats = lambda to: {name: t.to(to) if t.is_floating_point() else t for name, t in state.items()}
    save_file(floats(torch.bfloat16), folder / "torchvision+bf16.safetensors")
    # A little more than the formula, which rounding to f32 takes away again.
    more = {n: t + 2.0**-40 if t.is_floating_point() else t for n, t in floats(torch.float64).items()}
    save_file(more, folder / "torchvision+f64.safetensors")
    torch.save(floats(torch.float16), folder / "torchvision+f16.pth")

    # What training scripts save: a compiled, parallel model's weights among other things, on Python's newest protocol.
    wrapped = OrderedDict((f"module._orig_mod.{name}", tensor) for name, tensor in state.items())
    extra = {
        "epoch": 12,
        "best": 0.75,
        "none": None,
        "names": ["a", "b"],
        "flags": (True, False),
        "set": {1, 2},
        "milestones": Counter([30, 60]),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "size": torch.Size([1, 2]),
        "rng": torch.get_rng_state(),
        "long": 1 << 80,
    }
    torch.save({"model_state_dict": wrapped, **extra}, folder / "torchvision+checkpoint.pth", pickle_protocol=4)

    # Tensors that are views: strided like channels-last, or parts of one storage.
    strided = OrderedDict(
        (name, t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t) for name, t in state.items()
    )
    torch.save(strided, folder / "torchvision+channels-last.pth")
    flat = torch.cat([t.reshape(-1) for t in without_counters(state).values()])
    parts, start = OrderedDict(), 0
    for name, tensor in without_counters(state).items():
        parts[name] = flat[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()
    torch.save(parts, folder / "torchvision+one-storage.pth")
    torch.save(parts, folder / "torchvision+one-storage-legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(
        OrderedDict((name, torch.nn.Parameter(t) if t.is_floating_point() else t) for name, t in state.items()),
        folder / "torchvision+parameters.pth",
    )
    with zipfile.ZipFile(folder / "torchvision.pth") as source:
        with zipfile.ZipFile(folder / "torchvision+deflated.pth", "w", zipfile.ZIP_DEFLATED) as target:
            for record in source.infolist():
                target.writestr(record.filename, source.read(record))

    # Refused.
    torch.save(fill(timm_net("deep").state_dict()), folder / "refused+timm-deep.pth")
    torch.save(torch.nn.Sequential(torch.nn.Linear(TINY["growth_rate"], 1)), folder / "refused+module.pth")
    sparse = torch.eye(3).to_sparse()
    torch.save({"features.conv0.weight": sparse}, folder / "refused+sparse.pth")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
