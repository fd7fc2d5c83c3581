#!/usr/bin/env python3
"""Prints the best temperatures of generated logits as scipy finds them: the figures of the test in
crates/densenet-cli/src/commands/calibrate/temperature.rs."""

import sys
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

sys.path.append(str(Path(__file__).resolve().parent.parent / "golden"))
import generator  # noqa: E402


def answers(samples, classes, factor):
    logits = generator.fill("logits", samples * classes, 5, 0.0, 4.0).reshape(samples, classes)
    noise = generator.fill("noise", samples * classes, 5, 0.0, 6.0).reshape(samples, classes)
    return (np.float32(factor) * logits).astype(np.float64), (logits + noise).argmax(1)


for case in [(400, 5, 2.5), (250, 2, 0.5), (600, 30, 1.25)]:
    logits, labels = answers(*case)

    def nll(beta):
        return np.mean(logsumexp(beta * logits, axis=1) - beta * logits[np.arange(len(labels)), labels])

    best = minimize_scalar(nll, bounds=(1e-2, 1e2), method="bounded", options={"xatol": 1e-14, "maxiter": 1000})
    print(f"({case[0]}, {case[1]}, {case[2]}, {float(1 / best.x)!r}, {float(nll(1.0))!r}, {float(nll(best.x))!r}),")
