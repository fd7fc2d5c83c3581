#!/usr/bin/env python3
"""A data set cut from a real scan, and a training run on it: the table in docs/volumes.md.

    atlas.py path/to/densenet [FOLDER]

The scan is the T1 average of 152 heads (ICBM 152, 2009a symmetric) that nilearn ships. 56 mm cubes around places in five
regions are written as NIfTI, each with an orientation, voxel size, number type and scaling of its own, as files from many
scanners have. Training and validation see the left half of the head, the test the right half: an anatomy that was not
trained on, mirrored. The regions are told apart by shape and texture, since every cube's brightness is normalised.

Without FOLDER the cubes and the run go into a temporary folder.
"""

import csv
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import nibabel
import nilearn
import numpy as np
from scipy.ndimage import map_coordinates

SCAN = pathlib.Path(nilearn.__file__).parent / "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
# Where a cube's middle may lie: millimetres from the middle plane, from the anterior commissure forwards and upwards.
REGIONS = {
    "cerebellum": ([10, 40], [-80, -50], [-50, -30]),
    "frontal": ([8, 40], [30, 55], [0, 40]),
    "occipital": ([8, 35], [-95, -70], [-8, 25]),
    "parietal": ([8, 40], [-60, -30], [42, 65]),
    "temporal": ([42, 62], [-40, 8], [-28, -2]),
}
SIDE_MM = 56
COUNTS = {"train": 60, "val": 12, "test": 30}
OPTIONS = ["--spacing", "2", "--image-size", "28", "--fit", "crop", "--model", "shapes3d", "--epochs", "20",
           "--augment", "crop:2,rotate:10,scale:0.1,gamma:0.2,noise:0.05", "--schedule", "onecycle", "--warmup", "0",
           "--label-smoothing", "0.1", "--weight-decay", "5e-4", "--lr", "0.05", "--seed", "0"]  # fmt: skip


def write(scan, data, middle, random, path):
    """One cube, turned and scaled as some scanner would have it."""
    letters = [random.permutation(list(pair))[0] for pair in ("LR", "PA", "IS")]
    code = "".join(random.permutation(letters))
    zooms = random.choice([1.0, 1.25, 1.5, 2.0], 3)
    turn = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(nibabel.orientations.axcodes2ornt(code)):
        turn[int(world), axis] = sign
    # A few degrees, as heads lie.
    tilt = nibabel.eulerangles.euler2mat(*np.radians(random.uniform(-4, 4, 3)))
    affine = np.eye(4)
    affine[:3, :3] = tilt @ turn * zooms
    size = np.ceil(SIDE_MM / zooms).astype(int)
    affine[:3, 3] = middle - affine[:3, :3] @ ((size - 1) / 2)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), axis=-1)
    places = nibabel.affines.apply_affine(np.linalg.inv(scan.affine) @ affine, grid)
    cube = map_coordinates(data, np.moveaxis(places, -1, 0), order=1, mode="nearest")
    cube = cube * random.uniform(0.5, 2) + random.uniform(-20, 20) + random.normal(0, 4, cube.shape)
    kind = random.choice(["<i2", ">i2", "<f4", "<u2"])
    make = [nibabel.Nifti1Image, nibabel.Nifti2Image][random.integers(2)]
    header = make.header_class(endianness=kind[0])
    if kind == "<u2":
        cube = cube - cube.min()
    image = make(cube.astype(kind), affine, header, dtype=np.dtype(kind))
    if kind[1] == "i":
        image.header.set_slope_inter(0.5, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    keep = tempfile.TemporaryDirectory()
    folder = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else keep.name).resolve()
    scan = nibabel.load(SCAN)
    data = scan.get_fdata()
    random = np.random.default_rng(7)
    for split, count in COUNTS.items():
        side = 1 if split == "test" else -1
        for region, ranges in REGIONS.items():
            for i in range(count):
                middle = np.array([random.uniform(*limits) for limits in ranges]) * [side, 1, 1]
                write(scan, data, middle, random, folder / "cubes" / split / region / f"{i}.nii.gz")
    run = lambda *args: subprocess.run([program, *args], cwd=folder, check=True, capture_output=True, text=True)
    found = json.loads(run("check", "cubes", *OPTIONS[:8], "--json").stdout)
    print(found["samples"], "cubes,", found["sizes"])
    begun = time.monotonic()
    run("train", "cubes", *OPTIONS, "--name", "atlas")
    rows = list(csv.DictReader((folder / "runs/atlas-1/metrics.csv").open()))
    print(f"{len(rows)} epochs in {time.monotonic() - begun:.0f} s")
    for split in ("val", "test"):
        args = ["eval", "runs/atlas-1/best.safetensors", "cubes", "--split", split, "--json"]
        document = json.loads(run(*args).stdout)
        print(split, "accuracy", document["accuracy"], "macro AUROC", document["macro_auroc"])
        print(*document["confusion"], sep="\n")


if __name__ == "__main__":
    main()
