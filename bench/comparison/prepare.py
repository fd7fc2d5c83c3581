"""Makes what a case is measured on: `python -m comparison.prepare JOB`.

Our `init` draws the weights. PyTorch gives every norm a random γ and β, estimates running statistics from random inputs
and scales the classifier until logits have deviation 1: a network with statistics 0 and 1 has logits of any size, and
hides mistakes in folding norms. The result goes through our `import` for us and through `torch.onnx.export` for others;
PyTorch's answers in f64 are what every program is held against.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from . import networks

IN_F64 = 8
"""Samples of a batch whose reference is in f64; the rest is f32."""


def densenet(binary, *arguments):
    done = subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"densenet {' '.join(map(str, arguments))}: {done.stderr.strip()}")


def fresh(task, folder):
    """PyTorch's network with the weights that `densenet init` draws."""
    options = ["--dims", task["dims"]]
    if task["dims"] == 3:
        options += ["--num-classes", 1000]
    if task.get("blocks"):
        options += ["--block-config", ",".join(map(str, task["blocks"]))]
    drawn, theirs = folder / "drawn.safetensors", folder / "drawn-for-pytorch.safetensors"
    densenet(task["binary"], "init", task["preset"], *options, "--seed", 1, "-o", drawn)
    # CIFAR networks keep the names of a model file, which are torchvision's.
    dialect = "monai" if task["dims"] == 3 else "torchvision"
    if len(networks.PRESETS[task["preset"]][2]) == 4:
        densenet(task["binary"], "export", drawn, "-o", theirs, "--dialect", dialect)
    else:
        theirs = drawn
    net = networks.build(task["preset"], task["dims"], task.get("blocks"))
    net.load_state_dict(load_file(theirs), strict=True)
    for path in {drawn, theirs}:
        path.unlink()
    return net


def norms(net):
    return [m for m in net.modules() if isinstance(m, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d))]


def classifier(net):
    return [m for m in net.modules() if isinstance(m, torch.nn.Linear)][-1]


@torch.no_grad()
def randomise_norms(net, generator):
    """A random γ and β for every norm."""
    for norm in norms(net):
        norm.weight.uniform_(0.5, 1.5, generator=generator)
        norm.bias.uniform_(-0.5, 0.5, generator=generator)


@torch.no_grad()
def estimate_statistics(net, samples):
    """Running statistics: the mean over these batches'."""
    for norm in norms(net):
        norm.momentum = None
    net.train()
    for sample in samples:
        net(sample)
    net.eval()


@torch.no_grad()
def calibrate(net, shape, generator):
    """Random γ and β, running statistics of random inputs, logits of deviation 1."""
    randomise_norms(net, generator)
    samples = [torch.randn(shape, generator=generator) for _ in range(2)]
    estimate_statistics(net, samples)
    spread = torch.cat([net(sample) for sample in samples]).std()
    last = classifier(net)
    last.weight /= spread
    last.bias /= spread


@torch.inference_mode()
def reference(net, data, in_f64):
    logits = net(data).double()
    if in_f64:
        logits[:IN_F64] = net.double()(data[:IN_F64].double())
        net.float()
    return logits.numpy()


def main():
    task = json.loads(sys.argv[1])
    folder = Path(task["folder"])
    torch.set_num_threads(task["threads"])
    generator = torch.Generator().manual_seed(2)
    net = fresh(task, folder)
    shape = task["shape"]
    few = [4, shape[1], *(min(n, 64 if task["dims"] == 3 else 224) for n in shape[2:])]
    calibrate(net, few, generator)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "weights.safetensors")
    densenet(task["binary"], "import", folder / "weights.safetensors", "-o", folder / "model.safetensors")
    data = torch.randn(shape, generator=generator)
    np.save(folder / "x.npy", data.numpy())
    np.save(folder / "reference.npy", reference(net, data, task["in_f64"]))
    if task["onnx"]:
        torch.onnx.export(
            net, (data,), folder / "model.onnx", input_names=["input"], output_names=["logits"],
            dynamo=True, external_data=False, verbose=False,
        )


if __name__ == "__main__":
    main()
