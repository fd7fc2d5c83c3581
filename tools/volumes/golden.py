#!/usr/bin/env python3
"""Writes tests/golden/volumes: small volumes, and what nibabel, MONAI and torch make of them.

    golden.py [tests/golden/volumes]

The sources are cut from the scans that nibabel ships for its own tests. Arrays are stored as [depth, height, width] f32.
"""

import gzip
import pathlib
import sys

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    NormalizeIntensity,
    Orientation,
    ResizeWithPadOrCrop,
    ScaleIntensityRange,
    ScaleIntensityRangePercentiles,
    Spacing,
)

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/volumes")
DATA = pathlib.Path(nibabel.__file__).parent / "tests/data"


def save(name, array):
    """A tensor [1, x, y, z] or an array [x, y, z], as [z, y, x]."""
    array = np.asarray(array, dtype=np.float32)
    array = array[0] if array.ndim == 4 else array
    np.save(OUT / f"{name}.npy", np.ascontiguousarray(array.T))


def members(raw):
    """gzip in two members."""
    half = len(raw) // 2
    return gzip.compress(raw[:half], mtime=0) + gzip.compress(raw[half:], mtime=0)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    scan = nibabel.load(DATA / "anatomical.nii")
    part = scan.slicer[4:24, 6:30, 3:19]
    data = part.get_fdata().astype(np.float32)

    # Axes to the left, upwards and to the front, unevenly spaced, a little oblique.
    turn = nibabel.eulerangles.euler2mat(0.1, -0.05, 0.08) @ np.array([[-2.0, 0, 0], [0, 0, 3.5], [0, 1.5, 0]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn, [30, -20, 10]
    image = nibabel.Nifti1Image(data.astype(np.int16), affine)
    image.header.set_slope_inter(0.5, -3)
    raw = image.to_bytes()
    (OUT / "oblique.nii").write_bytes(raw)
    (OUT / "two_members.nii.gz").write_bytes(members(raw))
    loaded = nibabel.Nifti1Image.from_bytes(raw)
    save("oblique", loaded.get_fdata())
    save("oblique_ras", nibabel.as_closest_canonical(loaded).get_fdata())

    # Every type, both byte orders, both versions, by turns.
    kinds = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
    small = np.arange(24).reshape(2, 3, 4, order="F") * 5
    for i, kind in enumerate(kinds):
        make = [nibabel.Nifti1Image, nibabel.Nifti2Image][i % 2]
        order = "<>"[i // 2 % 2]
        header = make.header_class(endianness=order)
        image = make(small.astype(kind), np.diag([1, 2, 3, 1]), header, dtype=np.dtype(order + kind))
        image.header.set_sform(None, 0)
        image.header.set_qform(np.diag([1, 2, 3, 1]), 1)
        (OUT / f"kind_{kind}.nii").write_bytes(image.to_bytes())
    save("kinds", small)

    # MONAI's transforms of the oblique scan; some change their input.
    tensor = MetaTensor(torch.as_tensor(loaded.get_fdata()[None].astype(np.float32)), affine=torch.as_tensor(affine))
    ras = Orientation(axcodes="RAS")(tensor)
    save("ras_monai", ras)
    save("zscore", NormalizeIntensity()(ras.clone()))
    save("zscore_nonzero", NormalizeIntensity(nonzero=True)(ras.clone()))
    save("window", ScaleIntensityRange(20, 90, 0, 1, clip=True)(ras.clone()))
    save("percentiles", ScaleIntensityRangePercentiles(5, 95, 0, 1, clip=True)(ras.clone()))
    # Finer along every axis: plain linear interpolation, voxels' outer faces kept.
    fine = [float(v) / 2 for v in np.linalg.norm(np.asarray(ras.affine)[:3, :3], axis=0)]
    spaced = Spacing(pixdim=fine, mode="bilinear", padding_mode="border", scale_extent=True)(ras)
    save("spacing_half", spaced)
    print("half spacing [d, h, w]:", fine[::-1])

    # Coarser along every axis: the average of what the larger voxels cover. MONAI resamples without it; torch's
    # antialiased interpolation at the same sizes is what is promised.
    sizes = [round(n / 2) for n in ras.shape[1:]]
    coarse = np.asarray(ras)[0].astype(np.float64)
    for axis, size in enumerate(sizes):
        coarse = antialiased(coarse, axis, size)
    save("spacing_double", coarse)

    # Cut from the middle and surrounded with the smallest value, odd and even both ways.
    least = float(ras.min())
    for name, size in [("odd", (9, 10, 27)), ("even", (12, 31, 26)), ("pad", (23, 18, 29)), ("cut", (7, 5, 11))]:
        cut = ResizeWithPadOrCrop(size, mode="constant", constant_values=least)(ras.clone())
        assert cut.shape[1:] == size, cut.shape
        save(f"crop_{name}", cut)

    # Several channels are each brought to scale alone.
    two = torch.cat([torch.as_tensor(np.asarray(ras)), torch.as_tensor(np.asarray(ras)) * -3 + 7])
    both = NormalizeIntensity(channel_wise=True)(two)
    save("zscore_second", both[1:])

    # Sizes: torch's linear interpolation when growing; Pillow's rule, axis by axis, when shrinking.
    x = torch.as_tensor(np.asarray(ras)[None].astype(np.float64))
    grown = torch.nn.functional.interpolate(x, size=(30, 40, 50), mode="trilinear", align_corners=False)
    save("resize_grown", grown[0])
    shrunk = np.asarray(ras)[0].astype(np.float64)
    for axis, size in enumerate((7, 9, 5)):
        shrunk = antialiased(shrunk, axis, size)
    save("resize_shrunk", shrunk)


def antialiased(array, axis, size):
    """torch's antialiased linear interpolation, which is Pillow's, along one axis."""
    moved = np.moveaxis(array, axis, -1)
    flat = torch.as_tensor(np.ascontiguousarray(moved).reshape(1, 1, -1, moved.shape[-1]))
    out = torch.nn.functional.interpolate(
        flat, size=(flat.shape[2], size), mode="bilinear", align_corners=False, antialias=True
    )
    return np.moveaxis(out.numpy().reshape(*moved.shape[:-1], size), -1, axis)


if __name__ == "__main__":
    main()
