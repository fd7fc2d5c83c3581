"""Draws the loss of three hundred steps, PyTorch's and ours: same batches, same initial weights, no dropout.

    cargo build --release -p densenet --example steps
    python curves.py ../../target/release/examples/steps [--out ../../docs/pictures/curves.svg] [--losses FILE.json]

Two roundings of the same network drift apart: after some steps the curves are two samples of one distribution. How fast, is
measured by PyTorch against itself in its other memory format. `--losses` keeps the losses; where the file exists, they are
only drawn.
"""

import argparse
import copy
import json
import math
import pathlib
import tempfile

import numpy as np

import side_by_side

COLOURS = {"PyTorch": "#8a94a6", "PyTorch, channels last": "#d08b3e", "densenet": "#3f7fe8"}
WIDTH, LEFT, TOP, HEIGHT, BELOW = 480, 46, 56, 180, 64
STROKES = [3.6, 2, 1.1]
SMOOTHED = 10


def batches(images, labels, steps, batch, seed):
    """Random batches: [step, batch, channel, height, width]."""
    order = np.random.default_rng(seed).integers(0, len(images), (steps, batch))
    return images[order], labels[order]


def networks():
    """(name, configuration, images, labels, learning rate)"""
    images, labels = side_by_side.digits()
    config = side_by_side.small(in_channels=1, growth_rate=12, num_init_features=24, block_config=[4, 4, 4])
    yield "digits, 8×8, batch 32", config, *batches(images[:, None] * 2 - 1, labels, 300, 32, 1), 0.05
    # As large as CIFAR's: each pixel four wide, three channels with noise of their own.
    noise = np.random.default_rng(2).normal(0, 0.5, (len(images), 3, 32, 32)).astype(np.float32)
    large = np.kron(images, np.ones((1, 4, 4), np.float32))[:, None] * 2 - 1 + noise
    config = side_by_side.cases.cifar(True, 40, 12, 2)
    yield "densenet-bc-40-12, 32×32, batch 64", config, *batches(large, labels, 300, 64, 3), 0.1


def trained(program):
    """{network: {who: losses}}"""
    runs = {}
    for name, config, images, labels, lr in networks():
        module = side_by_side.initialised(config, 0)
        with tempfile.TemporaryDirectory() as folder:
            found = side_by_side.ours(program, folder, module, config, images, labels, lr)
        runs[name] = {
            "PyTorch": side_by_side.theirs(copy.deepcopy(module), images, labels, lr),
            "PyTorch, channels last": side_by_side.theirs(copy.deepcopy(module), images, labels, lr, True),
            "densenet": found,
        }
    return runs


def smoothed(losses):
    return np.convolve(losses, np.ones(SMOOTHED) / SMOOTHED, "valid")


def panel(x0, y0, titles, lines, ticks, first):
    """One chart: `lines` is {who: values}, `ticks` [(value, label)] from the lowest to the highest, `first` the first step."""
    width, low, high = WIDTH - LEFT - 24, ticks[0][0], ticks[-1][0]
    count = len(next(iter(lines.values())))

    def y(value):
        return y0 + HEIGHT * (high - min(max(value, low), high)) / (high - low)

    title, what = titles
    parts = [f'<text x="{x0}" y="{y0 - 12}" class="title">{title}</text>']
    parts.append(f'<text x="{x0 + width}" y="{y0 - 12}" class="tick" text-anchor="end">{what}</text>')
    for value, label in ticks:
        parts.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{y(value):.1f}" y2="{y(value):.1f}" class="grid"/>')
        parts.append(f'<text x="{x0 - 6}" y="{y(value) + 4:.1f}" class="tick" text-anchor="end">{label}</text>')
    for step in sorted({0, count // 2, count - 1}):
        x = x0 + width * step / (count - 1)
        parts.append(f'<text x="{x:.1f}" y="{y0 + HEIGHT + 18}" class="tick" text-anchor="middle">{step + first}</text>')
    # The later a line is drawn the thinner it is: one that hides another leaves a rim of it.
    for who, values, stroke in zip(lines, lines.values(), STROKES[-len(lines) :]):
        points = " ".join(f"{x0 + width * i / (count - 1):.1f},{y(v):.1f}" for i, v in enumerate(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[who]}" stroke-width="{stroke}" stroke-linejoin="round"/>')
    return parts


def chart(runs):
    """Losses above, how far they lie from PyTorch's ordinary ones below; a network a column."""
    parts = []
    x = LEFT
    for (who, colour), stroke in zip(COLOURS.items(), STROKES):
        parts.append(f'<line x1="{x}" x2="{x + 22}" y1="14" y2="14" stroke="{colour}" stroke-width="{stroke}"/>')
        parts.append(f'<text x="{x + 28}" y="18" class="name" fill="{colour}">{who}</text>')
        x += 60 + 7 * len(who)
    for column, (name, losses) in enumerate(runs.items()):
        x0, exact = LEFT + WIDTH * column, np.array(losses["PyTorch"])
        lines = {who: smoothed(values) for who, values in losses.items()}
        high = math.ceil(2 * max(values.max() for values in lines.values())) / 2
        ticks = [(high * i / 5, f"{high * i / 5:.1f}") for i in range(6)]
        parts += panel(x0, TOP, (name, f"loss, mean of {SMOOTHED} steps"), lines, ticks, SMOOTHED)
        # In powers of ten.
        apart = {who: np.abs(np.array(values) - exact) for who, values in losses.items() if who != "PyTorch"}
        apart = {who: np.log10(np.maximum(values, 1e-8)) for who, values in apart.items()}
        ticks = [(power, f"1e{power}" if power else "1") for power in range(-8, 1, 2)]
        below = TOP + HEIGHT + BELOW
        parts += panel(x0, below, ("distance from PyTorch's loss", "of each step"), apart, ticks, 1)
    style = (
        "text{font-family:system-ui,sans-serif}.title{font-size:13px;font-weight:600;fill:#3c4452}"
        ".tick{font-size:11px;fill:#8a94a6}.name{font-size:12px}.grid{stroke:#8a94a6;stroke-opacity:.25}"
        "@media (prefers-color-scheme:dark){.title{fill:#c9d1d9}}"
    )
    size = f"0 0 {WIDTH * len(runs)} {TOP + 2 * HEIGHT + BELOW + 30}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" role="img" aria-label="Loss curves, PyTorch\'s and ours">'
    return "\n".join([f"{head}<style>{style}</style>", *parts, "</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=side_by_side.ROOT / "docs/pictures/curves.svg")
    parser.add_argument("--losses", type=pathlib.Path, help="a file to keep the losses in")
    arguments = parser.parse_args()
    if arguments.losses and arguments.losses.exists():
        runs = json.loads(arguments.losses.read_text())
    else:
        runs = trained(arguments.program.resolve())
        if arguments.losses:
            arguments.losses.write_text(json.dumps(runs))
    for name, curves in runs.items():
        exact = np.array(curves["PyTorch"])
        for who, losses in curves.items():
            losses = np.array(losses)
            apart = np.abs(losses - exact)
            print(
                f"{name}: {who}: mean of the first 50 losses {losses[:50].mean():.4f}, of the last 50 {losses[-50:].mean():.4f}; "
                f"off by at most {apart[:10].max():.1e} in 10 steps, {apart[:50].max():.1e} in 50, {apart[:100].max():.1e} in 100, "
                f"on average {apart.mean():.4f} in all"
            )
    arguments.out.write_text(chart(runs))


if __name__ == "__main__":
    main()
