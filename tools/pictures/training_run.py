"""Draws a run's metrics.csv as an SVG: loss on the left, validation accuracy on the right. Standard library only.

    python3 tools/pictures/training_run.py runs/digits-1/metrics.csv docs/pictures/digits.svg
"""

import csv
import sys

WIDTH, HEIGHT, GAP, TOP, BOTTOM, LEFT = 760, 260, 70, 34, 34, 46
TRAIN, VALID = "#8a94a6", "#2f6fdb"


def panel(x0, width, title, lines, low, high, label):
    """One chart: `lines` is [(name, colour, values)], the vertical axis runs from `low` to `high`."""
    bottom, height = HEIGHT - BOTTOM, HEIGHT - TOP - BOTTOM
    count = len(lines[0][2])
    x = lambda i: x0 + width * i / max(count - 1, 1)
    y = lambda v: bottom - height * (v - low) / (high - low)
    parts = [f'<text x="{x0}" y="20" class="title">{title}</text>']
    for step in range(5):
        value = low + (high - low) * step / 4
        parts.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{y(value):.1f}" y2="{y(value):.1f}" class="grid"/>')
        parts.append(f'<text x="{x0 - 6}" y="{y(value) + 4:.1f}" class="tick" text-anchor="end">{label(value)}</text>')
    for epoch in sorted({0, count // 2, count - 1}):
        parts.append(f'<text x="{x(epoch):.1f}" y="{bottom + 18}" class="tick" text-anchor="middle">{epoch + 1}</text>')
    for order, (name, colour, values) in enumerate(lines):
        points = " ".join(f"{x(i):.1f},{y(min(max(v, low), high)):.1f}" for i, v in enumerate(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.2"/>')
        parts.append(
            f'<text x="{x0 + width}" y="{TOP + 14 + 17 * order}" class="name" text-anchor="end" fill="{colour}">{name}</text>'
        )
    return parts


def main():
    source, target = sys.argv[1:3]
    with open(source, newline="") as file:
        rows = list(csv.DictReader(file))
    column = lambda name: [float(row[name]) for row in rows]
    width = (WIDTH - 2 * LEFT - GAP) / 2 + 10
    losses = [("training", TRAIN, column("train_loss")), ("validation", VALID, column("val_loss"))]
    accuracy = [("validation", VALID, [100 * v for v in column("val_accuracy")])]
    top = max(losses[0][2] + losses[1][2])
    parts = panel(LEFT, width, "loss by epoch", losses, 0, top, lambda v: f"{v:.1f}")
    right = LEFT + width + GAP
    # The caption of the accuracy stands at the bottom, where the curve is not.
    chart = panel(right, width, "accuracy by epoch", accuracy, 0, 100, lambda v: f"{v:.0f} %")
    best = max(accuracy[0][2])
    chart[-1] = f'<text x="{right + width}" y="{HEIGHT - BOTTOM - 12}" class="name" text-anchor="end" fill="{VALID}">best {best:.1f} %</text>'
    style = (
        "text{font-family:system-ui,sans-serif}.title{font-size:14px;font-weight:600;fill:#5b6470}"
        ".tick{font-size:11px;fill:#8a94a6}.name{font-size:12px}.grid{stroke:#8a94a6;stroke-opacity:.25}"
    )
    with open(target, "w") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" ')
        file.write(f'aria-label="A training run: loss and accuracy by epoch"><style>{style}</style>\n')
        file.write("\n".join(parts + chart))
        file.write("\n</svg>\n")


if __name__ == "__main__":
    main()
