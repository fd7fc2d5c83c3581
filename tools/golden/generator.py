"""Seeded values, the same bits as densenet-testkit's `generate.rs`, where the formula is written down."""

import math

import numpy as np

GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(z):
    """SplitMix64's finaliser on an array of uint64 (wrapping)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _elements(name, length, seed):
    """The 64 random bits of every element of the tensor called `name`."""
    fnv1a = 0xCBF29CE484222325
    for byte in name.encode():
        fnv1a = ((fnv1a ^ byte) * 0x100000001B3) % 2**64
    seed = _mix(np.array([seed], dtype=np.uint64))
    key = _mix(np.array([fnv1a], dtype=np.uint64) ^ seed)
    return _mix(key + np.arange(length, dtype=np.uint64) * GAMMA)


def fill(name, length, seed, center, half_width):
    """`length` float32 values of the tensor called `name`, uniform in center ± half_width."""
    bits = (_elements(name, length, seed) >> np.uint64(40)).astype(np.int64)
    unit = (2 * bits + 1 - 2**24).astype(np.float64) / 2.0**24
    return (center + half_width * unit).astype(np.float32)


def distribution(name, shape):
    """(center, half_width) of the parameter called `name`."""
    suffix = name.rsplit(".", 1)[1]
    if suffix in ("running_var",) or (suffix == "weight" and len(shape) == 1):
        return 1.0, 0.5
    if suffix in ("running_mean", "bias"):
        return 0.0, 0.5
    fan_in = math.prod(shape[1:])
    return 0.0, math.sqrt((0.1875 if name == "classifier.weight" else 6.0) / fan_in)


def parameter(name, shape, seed):
    """A parameter or running statistic, by its torchvision path."""
    return fill(name, math.prod(shape), seed, *distribution(name, shape)).reshape(shape)


def batch(shape, seed, step):
    """The input of batch number `step`."""
    return fill(f"input.{step}", math.prod(shape), seed, 0.0, math.sqrt(3.0)).reshape(shape)


def labels(count, num_classes, seed, step):
    """The labels of batch number `step`."""
    bits = _elements(f"labels.{step}", count, seed) >> np.uint64(32)
    return (bits % np.uint64(num_classes)).astype(np.int64)


def samples():
    """Values for the Rust twin to compare bit by bit."""
    cases = [
        ("input.0", 7, 1, 0.0, math.sqrt(3.0)),
        ("input.11", 5, 18446744073709551615, 0.0, math.sqrt(3.0)),
        ("features.conv0.weight", 9, 42, 0.0, math.sqrt(6.0 / 147)),
        ("features.norm0.running_var", 8, 0, 1.0, 0.5),
        ("classifier.weight", 6, 3, 0.0, math.sqrt(0.1875 / 1024)),
    ]
    out = []
    for name, length, seed, center, half_width in cases:
        values = fill(name, length, seed, center, half_width)
        out.append({
            "name": name,
            # As text: JSON readers may round whole numbers beyond 2^53.
            "seed": str(seed),
            "center": center,
            "half_width": half_width,
            "bits": [int(b) for b in values.view(np.uint32)],
            "labels": [int(label) for label in labels(length, 10, seed, 0)],
        })
    return out
