"""How far gradients stray from float64, layer by layer: ours, and PyTorch's own float32 in both memory formats.

    cargo build --release -p densenet --example steps
    python gradients.py ../../target/release/examples/steps [--seeds 3] [--only 3-D] [--beta 8]

A layer is a convolution, a norm (γ and β together) or the classifier; its error is the root mean square over all its
elements. Both columns are divided by PyTorch's error in its ordinary memory format: ours, and PyTorch's with channels last,
which is how much of a ratio is luck. Each line is one seed of weights, images and labels; the last lines take the root mean
square over the seeds, once against PyTorch's ordinary format and once against both of its formats together.

A ReLU whose input lies within rounding of zero takes one side in float32 and the other in float64; one such element outweighs
all rounding of a layer, and whether there is one is chance. `--beta 8` lifts every input off zero: what is left is rounding.
"""

import argparse
import copy
import pathlib
import tempfile

import numpy as np
import torch

import side_by_side


def gradients(module, x, y):
    """PyTorch's, of the mean cross entropy."""
    module.zero_grad()
    torch.nn.functional.cross_entropy(module(x), y).backward()
    return {name: p.grad.double().numpy().copy() for name, p in module.named_parameters()}


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def by_layer(gradients):
    """All elements of each layer's parameters."""
    layers = {}
    for name, values in gradients.items():
        layers.setdefault(name.rpartition(".")[0], []).append(np.ravel(values))
    return {name: np.concatenate(parts) for name, parts in layers.items()}


def summary(ratios):
    name, worst = max(ratios.items(), key=lambda item: item[1])
    values = np.array(list(ratios.values()))
    shares = f"{np.median(values):.2f} median, {np.percentile(values, 90):.2f} 90 %, {worst:.2f} worst ({name})"
    return f"{shares}, {np.sum(values > 4)} of {len(values)} above 4"


def case(program, name, config, shape, seed, beta):
    rng = np.random.default_rng(5 + seed)
    images = rng.normal(0, 1, (1, *shape)).astype(np.float32)
    labels = rng.integers(0, config["num_classes"], (1, shape[0]))
    module = side_by_side.initialised(config, 7 + seed)
    for layer in module.modules():
        if isinstance(layer, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
            torch.nn.init.constant_(layer.bias, beta)
    with tempfile.TemporaryDirectory() as folder:
        found = side_by_side.ours(program, folder, module, config, images, labels, 0.0, gradients=True)
    x, y = torch.from_numpy(images[0]), torch.from_numpy(labels[0])
    last = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    exact = by_layer(gradients(copy.deepcopy(module).double(), x.double(), y))
    single = by_layer(gradients(copy.deepcopy(module), x, y))
    other = by_layer(gradients(copy.deepcopy(module).to(memory_format=last), x.to(memory_format=last), y))
    found = by_layer(found)
    # Relative to the gradient, so that seeds weigh the same; an error below float32's own rounding counts as that.
    sizes = {k: max(rms(v), 1e-30) for k, v in exact.items()}
    errors = [{k: rms(values[k] - v) / sizes[k] for k, v in exact.items()} for values in (found, single, other)]
    mine, theirs, theirs_last = errors
    theirs.update({k: max(v, 1e-7) for k, v in theirs.items()})
    relative = np.median(list(theirs.values()))
    print(f"{name}, seed {seed}: {len(exact)} layers, PyTorch's relative error {relative:.1e} in the median", flush=True)
    for who, values in ("ours", mine), ("PyTorch, channels last", theirs_last):
        print(f"    {who}: {summary({k: v / theirs[k] for k, v in values.items()})}", flush=True)
    return errors


def over_seeds(errors, formats):
    """Ratios of root mean squares over seeds: ours to PyTorch's in these formats."""

    def of(layer, which):
        return rms([seed[i][layer] for seed in errors for i in which])

    return {layer: of(layer, [0]) / of(layer, formats) for layer in errors[0][0]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--beta", type=float, default=0.0, help="every norm's β; from about 6 on no ReLU cuts anything")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    arguments = parser.parse_args()
    for name, config, shape in [
        ("densenet121, 2-D, 128×128, batch 4", side_by_side.cases.imagenet(121, 2), (4, 3, 128, 128)),
        ("densenet121, 3-D, 64×64×64, batch 4", side_by_side.cases.imagenet(121, 3), (4, 1, 64, 64, 64)),
        ("densenet-bc-40-12, 2-D, 32×32, batch 16", side_by_side.cases.cifar(True, 40, 12, 2), (16, 3, 32, 32)),
    ]:
        if arguments.only in name:
            program = arguments.program.resolve()
            errors = [case(program, name, config, shape, seed, arguments.beta) for seed in range(arguments.seeds)]
            for which, formats in ("PyTorch's", [1]), ("both of PyTorch's", [1, 2]):
                print(f"    {len(errors)} seeds, ours to {which}: {summary(over_seeds(errors, formats))}", flush=True)


if __name__ == "__main__":
    main()
