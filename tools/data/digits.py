"""Make assets/digits: the UCI handwritten digits in a fixed order, as gzipped IDX files.

Needs scikit-learn 1.9.1 and numpy (any version gives the same data: the set has not changed since 1998).
Run from the repository's root:  python tools/data/digits.py

Order: 1,297 training images, then 500 test images, stratified, drawn with numpy's PCG64 under seed 0 and within each
part shuffled, so that the first n images of either part are a fair sample of it.
"""

import gzip
import pathlib
import struct

import numpy as np
from sklearn.datasets import load_digits

TEST = 500


def write(path, array):
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + b"".join(struct.pack(">I", n) for n in array.shape)
    # No time stamp and no name: the same data gives the same bytes.
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(head + array.astype(np.uint8).tobytes())


def main():
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    assert images.shape == (1797, 8, 8) and images.max() == 16
    random = np.random.Generator(np.random.PCG64(0))
    # Test images per class: largest remainders, so that they add up to TEST.
    exact = np.bincount(labels) * TEST / len(labels)
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: TEST - counts.sum()]] += 1
    test = np.concatenate([random.permutation(np.flatnonzero(labels == c))[:n] for c, n in enumerate(counts)])
    train = np.setdiff1d(np.arange(len(labels)), test)
    order = np.concatenate([random.permutation(train), random.permutation(test)])
    folder = pathlib.Path("assets/digits")
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "images.idx3-ubyte.gz", images[order])
    write(folder / "labels.idx1-ubyte.gz", labels[order])


main()
