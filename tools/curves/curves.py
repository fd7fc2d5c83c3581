"""Draws the loss of a few hundred steps, PyTorch's and ours: same batches, same initial weights, no dropout.

    cargo build --release -p densenet --example steps
    python curves.py ../../target/release/examples/steps [--out ../../docs/pictures]

Two roundings of the same network drift apart: after some steps the curves are two samples of one distribution. How far, is
measured by PyTorch against itself in its other memory format.
"""

import argparse
import copy
import pathlib
import tempfile

import numpy as np

import side_by_side

COLOURS = {"PyTorch": "#8a94a6", "PyTorch, channels last": "#d08b3e", "densenet": "#2f6fdb"}


def batches(images, labels, steps, batch, seed):
    """Random batches: [step, batch, channel, height, width]."""
    order = np.random.default_rng(seed).integers(0, len(images), (steps, batch))
    return images[order], labels[order]


def runs():
    """(name, configuration, images, labels, learning rate)"""
    images, labels = side_by_side.digits()
    config = side_by_side.small(in_channels=1, growth_rate=12, num_init_features=24, block_config=[4, 4, 4])
    yield "digits, 8×8, batch 32", config, *batches(images[:, None] * 2 - 1, labels, 300, 32, 1), 0.05
    # As large as CIFAR's: each pixel four wide, three channels with noise of their own.
    noise = np.random.default_rng(2).normal(0, 0.5, (len(images), 3, 32, 32)).astype(np.float32)
    large = np.kron(images, np.ones((1, 4, 4), np.float32))[:, None] * 2 - 1 + noise
    yield "densenet-bc-40-12, 32×32, batch 16", side_by_side.cases.cifar(True, 40, 12, 2), *batches(large, labels, 200, 16, 3), 0.05


def smoothed(losses, width=10):
    return np.convolve(losses, np.ones(width) / width, "valid")


def chart(runs, path):
    """Both runs side by side, as SVG."""
    width, height, left, top = 400, 250, 46, 40
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * width} {height + 60}" font-family="sans-serif" font-size="12">']
    parts.append(f'<rect width="{2 * width}" height="{height + 60}" fill="#ffffff"/>')
    for i, (name, curves) in enumerate(runs):
        x0, w, h = i * width + left, width - left - 24, height - top
        high = max(max(v) for v in curves.values())
        parts.append(f'<text x="{x0}" y="22" font-size="14" fill="#20242c">{name}</text>')
        for tick in range(5):
            y, value = top + h * (1 - tick / 4), high * tick / 4
            parts.append(f'<line x1="{x0}" x2="{x0 + w}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e6eb"/>')
            parts.append(f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#5a6372">{value:.1f}</text>')
        for row, (label, values) in enumerate(curves.items()):
            points = " ".join(
                f"{x0 + w * k / (len(values) - 1):.1f},{top + h * (1 - v / high):.1f}" for k, v in enumerate(values)
            )
            parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[label]}" stroke-width="1.8"/>')
            parts.append(f'<text x="{x0 + w}" y="{top + 16 + 17 * row}" text-anchor="end" fill="{COLOURS[label]}">{label}</text>')
        steps = len(next(iter(curves.values()))) + 9
        parts.append(f'<text x="{x0 + w / 2}" y="{height + 22}" text-anchor="middle" fill="#5a6372">{steps} steps, mean loss of ten</text>')
    path.write_text("\n".join(parts + ["</svg>"]) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=side_by_side.ROOT / "docs/pictures")
    arguments = parser.parse_args()
    drawn = []
    for name, config, images, labels, lr in runs():
        module = side_by_side.initialised(config, 0)
        with tempfile.TemporaryDirectory() as folder:
            found = side_by_side.ours(arguments.program.resolve(), folder, module, config, images, labels, lr)
        curves = {
            "PyTorch": side_by_side.theirs(copy.deepcopy(module), images, labels, lr),
            "PyTorch, channels last": side_by_side.theirs(copy.deepcopy(module), images, labels, lr, True),
            "densenet": found,
        }
        exact = np.array(curves["PyTorch"])
        for label, losses in curves.items():
            losses = np.array(losses)
            apart = np.abs(losses - exact)
            print(
                f"{name}: {label}: mean of the last 50 losses {losses[-50:].mean():.4f}, "
                f"off by at most {apart[:10].max():.1e} in 10 steps, {apart[:50].max():.1e} in 50, "
                f"on average {apart.mean():.4f} in all"
            )
        drawn.append((name, {label: smoothed(losses) for label, losses in curves.items()}))
    chart(drawn, arguments.out / "curves.svg")


if __name__ == "__main__":
    main()
