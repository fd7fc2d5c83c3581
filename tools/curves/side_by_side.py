"""The same network, weights and batches in PyTorch and here."""

import gzip
import json
import pathlib
import subprocess
import sys

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/golden"))

import cases  # noqa: E402
import network  # noqa: E402


def initialised(config, seed):
    """A network with He-normal convolutions and fresh norms, as torchvision starts."""
    torch.manual_seed(seed)
    module = network.DenseNet(config)
    for layer in module.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Conv3d)):
            torch.nn.init.kaiming_normal_(layer.weight)
    torch.nn.init.zeros_(module.classifier.bias)
    return module


def digits():
    """The embedded digits, 0…1, and their labels."""
    folder = ROOT / "assets/digits"
    images = np.frombuffer(gzip.decompress((folder / "images.idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = np.frombuffer(gzip.decompress((folder / "labels.idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    return images.reshape(-1, 8, 8).astype(np.float32) / images.max(), labels.astype(np.int64)


def ours(program, folder, module, config, images, labels, lr, gradients=False):
    """Losses of our steps over `images` [step, batch, channel, …]; with `gradients` those of the first batch."""
    folder = pathlib.Path(folder)
    axes, stem = slice(3 - config["spatial_dims"], None), config["stem"]
    stem = stem | {key: stem[key][axes] for key in ("kernel", "stride")}
    (folder / "config.json").write_text(json.dumps(config | {"stem": stem}))
    state = [v.numpy().ravel() for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")]
    np.concatenate(state).astype("<f4").tofile(folder / "weights.f32")
    np.moveaxis(images, 2, -1).astype("<f4").tofile(folder / "images.f32")
    labels.astype("<u4").tofile(folder / "labels.u32")
    size = ([1] + list(images.shape[3:]))[-3:]
    command = [program, "config.json", "weights.f32", "images.f32", "labels.u32", images.shape[1]]
    command += ["x".join(map(str, size)), lr] + (["gradients.f32"] if gradients else [])
    run = subprocess.run(list(map(str, command)), cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    losses = json.loads(run.stdout)
    if not gradients:
        return losses
    flat, found = np.fromfile(folder / "gradients.f32", "<f4"), {}
    for name, parameter in module.named_parameters():
        found[name], flat = flat[: parameter.numel()].reshape(parameter.shape), flat[parameter.numel() :]
    assert len(flat) == 0
    return found


def theirs(module, images, labels, lr, channels_last=False):
    """Losses of PyTorch's steps."""
    if channels_last:
        module = module.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(module.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
    losses = []
    for x, y in zip(torch.from_numpy(images), torch.from_numpy(labels)):
        x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
        loss = torch.nn.functional.cross_entropy(module(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def small(**fields):
    """A network with the small stem."""
    return cases.config(2, stem="small", num_classes=10, **fields)
