"""How far gradients stray from float64, layer by layer: ours and PyTorch's own float32.

    cargo build --release -p densenet --example steps
    python gradients.py ../../target/release/examples/steps

Errors are root mean squares over a parameter's elements. The last column is ours divided by PyTorch's, for the weights of
all convolutions and norms: median, 90th percentile, worst.
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=pathlib.Path)
    program = parser.parse_args().program.resolve()
    for name, config, shape in [
        ("densenet121, 2-D, 128×128, batch 4", side_by_side.cases.imagenet(121, 2), (4, 3, 128, 128)),
        ("densenet121, 3-D, 64×64×64, batch 4", side_by_side.cases.imagenet(121, 3), (4, 1, 64, 64, 64)),
        ("densenet-bc-40-12, 32×32, batch 16", side_by_side.cases.cifar(True, 40, 12, 2), (16, 3, 32, 32)),
    ]:
        rng = np.random.default_rng(5)
        images = rng.normal(0, 1, (1, *shape)).astype(np.float32)
        labels = rng.integers(0, config["num_classes"], (1, shape[0]))
        module = side_by_side.initialised(config, 7)
        with tempfile.TemporaryDirectory() as folder:
            found = side_by_side.ours(program, folder, module, config, images, labels, 0.0, gradients=True)
        x, y = torch.from_numpy(images[0]), torch.from_numpy(labels[0])
        single = gradients(copy.deepcopy(module), x, y)
        exact = gradients(copy.deepcopy(module).double(), x.double(), y)
        ratios, worst = [], ("", 0.0)
        for key, value in exact.items():
            theirs, mine = rms(single[key] - value), rms(found[key] - value)
            ratio = mine / max(theirs, 1e-7 * rms(value), 1e-30)
            ratios.append(ratio)
            worst = max(worst, (key, ratio), key=lambda w: w[1])
        relative = [rms(found[k] - v) / max(rms(v), 1e-30) for k, v in exact.items() if v.ndim > 1]
        print(
            f"{name}: {len(ratios)} parameters, relative error of weights {np.median(relative):.1e} in the median; "
            f"ours / PyTorch's {np.median(ratios):.2f} median, {np.percentile(ratios, 90):.2f} 90 %, "
            f"{worst[1]:.2f} worst ({worst[0]})"
        )


if __name__ == "__main__":
    main()
