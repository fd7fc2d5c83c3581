"""Writes crates/densenet-train/tests/golden/train.json: what PyTorch and scikit-learn answer on small cases.

Run from the repository's root with Python 3, torch 2.x, numpy and scikit-learn:

    python tools/train/golden.py

Every number is written so that it reads back as the same f32 (optimisers) or f64 (loss, metrics). Inputs come from
a small generator that the Rust test repeats, so that only outputs need storing.
"""

import json
import pathlib

import numpy as np
import sklearn
import torch
from sklearn.metrics import roc_auc_score

OUT = pathlib.Path("crates/densenet-train/tests/golden/train.json")


def values(seed, n, scale=1.0):
    """n multiples of 1/1024 in [-scale, scale): a 32-bit linear congruential generator, its top 11 bits."""
    state, out = seed, []
    for _ in range(n):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append(((state >> 21) / 1024.0 - 1.0) * scale)
    return out


def optimizer_case(name, make, lrs, n=24, decay=16):
    """Parameters after each step; the first `decay` elements decay, the rest do not."""
    parameter = torch.tensor(values(1, n), dtype=torch.float32)
    a = parameter[:decay].clone().requires_grad_()
    b = parameter[decay:].clone().requires_grad_()
    optimizer = make([{"params": [a]}, {"params": [b], "weight_decay": 0.0}])
    after = []
    for step, lr in enumerate(lrs):
        grad = torch.tensor(values(100 + step, n, 0.5), dtype=torch.float32)
        a.grad, b.grad = grad[:decay].clone(), grad[decay:].clone()
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        after.append(torch.cat([a, b]).detach().tolist())
    return {"name": name, "lrs": lrs, "after": after}


def optimizers():
    lrs = [0.1, 0.1, 0.05, 0.05, 0.01, 0.01, 0.01, 0.2, 0.1, 0.1]
    sgd = lambda **options: lambda groups: torch.optim.SGD(groups, lr=0.1, **options)
    adamw = lambda **options: lambda groups: torch.optim.AdamW(groups, lr=0.1, **options)
    return [
        optimizer_case("sgd_plain", sgd(), lrs),
        optimizer_case("sgd_momentum", sgd(momentum=0.9, weight_decay=1e-2), lrs),
        optimizer_case("sgd_nesterov", sgd(momentum=0.9, weight_decay=1e-2, nesterov=True), lrs),
        optimizer_case("adamw", adamw(weight_decay=1e-2), lrs),
        optimizer_case("adamw_betas", adamw(betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1), lrs),
    ]


def losses():
    batch, classes = 7, 5
    logits = torch.tensor(values(7, batch * classes, 4.0), dtype=torch.float64).reshape(batch, classes)
    labels = torch.tensor([i * 3 % classes for i in range(batch)])
    cases = []
    for smoothing in [0.0, 0.1]:
        for weights in [None, [0.5, 2.0, 1.0, 0.25, 3.0]]:
            z = logits.clone().requires_grad_()
            weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
            loss = torch.nn.functional.cross_entropy(z, labels, weight=weight, label_smoothing=smoothing)
            loss.backward()
            cases.append({
                "label_smoothing": smoothing,
                "class_weights": weights,
                "loss": loss.item(),
                "grad": z.grad.flatten().tolist(),
            })
    return cases


def metrics():
    """Logits on a coarse grid, so that many probabilities tie."""
    cases = []
    for seed, samples, classes in [(11, 60, 3), (12, 200, 7), (13, 40, 2)]:
        logits = np.round(np.array(values(seed, samples * classes, 2.0)) * 4).reshape(samples, classes) / 4
        labels = np.array([i * i % classes for i in range(samples)])
        probabilities = torch.softmax(torch.tensor(logits), 1).numpy().astype(np.float32)
        areas = [
            roc_auc_score(labels == c, probabilities[:, c]) if 0 < (labels == c).sum() < samples else None
            for c in range(classes)
        ]
        known = [a for a in areas if a is not None]
        cases.append({"seed": seed, "samples": samples, "classes": classes, "auroc": areas,
                      "macro_auroc": float(np.mean(known))})
    return cases


def one_cycle():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    steps = 50
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < steps:
            schedule.step()
    return rates


def clip():
    parameter = torch.nn.Parameter(torch.zeros(24))
    parameter.grad = torch.tensor(values(5, 24), dtype=torch.float32)
    norm = torch.nn.utils.clip_grad_norm_([parameter], max_norm=1.0)
    return {"norm": norm.item(), "clipped": parameter.grad.tolist()}


document = {
    "written_by": f"tools/train/golden.py with torch {torch.__version__}, scikit-learn {sklearn.__version__}",
    "optimizers": optimizers(),
    "losses": losses(),
    "metrics": metrics(),
    "one_cycle": one_cycle(),
    "clip": clip(),
}
OUT.parent.mkdir(parents=True, exist_ok=True)
OUT.write_text(json.dumps(document) + "\n")
print(f"{OUT}: {OUT.stat().st_size} bytes")
