#!/usr/bin/env python3
"""Writes tests/golden/formats: small volumes in every format, as pynrrd, SimpleITK and nibabel write them.

    formats.py [tests/golden/formats]

Beside each file lies NAME.npy, `[depth, height, width, channels]` as f32. `affines.json` has for each file the rows of the
map from [width, height, depth] to millimetres rightwards, forwards and upwards.
"""

import json
import pathlib
import sys

import nibabel
import nrrd
import numpy as np
import SimpleITK as sitk

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/formats")
AFFINES = {}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def expect(name, array, affine):
    """`array` is [x, y, z] or [x, y, z, channel]."""
    array = np.asarray(array, dtype=np.float32)
    array = array[..., None] if array.ndim == 3 else array
    np.save(OUT / f"{name}.npy", np.ascontiguousarray(array.transpose(2, 1, 0, 3)))
    AFFINES[name] = np.round(np.asarray(affine, dtype=float)[:3], 9).tolist()


def sample(shape, kind):
    """Numbers that use most of their type's range."""
    count = np.arange(np.prod(shape), dtype=np.float64)
    if np.dtype(kind).kind == "f":
        values = np.sin(count) * 1e3
    else:
        limits = np.iinfo(kind)
        values = limits.min / 2 + np.floor(count * (limits.max / 2 - limits.min / 2) / count.size)
    return values.reshape(shape, order="F").astype(kind)


def oblique():
    """Columns along x, y, z of DICOM's world, and an origin."""
    turn = np.linalg.qr(np.array([[1.0, 0.1, -0.2], [-0.15, 1.0, 0.05], [0.2, 0.0, -1.0]]))[0]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [0.5, 0.75, 2.5], [12.5, -30.25, 7.125]
    return affine


def write_nrrd(name, array, header, **options):
    """Without the line that says when."""
    path = OUT / name
    nrrd.write(str(path), array, header, **options)
    lines = path.read_bytes().split(b"\n", 3)
    assert lines[2].startswith(b"# on "), lines[2]
    path.write_bytes(b"\n".join(lines[:2] + lines[3:]))


def by_nrrd():
    affine = oblique()
    directions, origin = affine[:3, :3].T, affine[:3, 3]
    kinds = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
    for i, kind in enumerate(kinds):
        array = sample((4, 3, 2), kind)
        name = f"nrrd_{kind}.nrrd"
        header = {
            "space": ["left-posterior-superior", "right-anterior-superior", "left-anterior-superior"][i % 3],
            "space directions": directions,
            "space origin": origin,
            "encoding": ["raw", "gzip"][i % 2],
            "endian": ["little", "big"][i // 2 % 2],
        }
        data = array.astype(array.dtype.newbyteorder("<>"[i // 2 % 2]))
        write_nrrd(name, data, header)
        sign = np.diag([[-1, -1, 1, 1], [1, 1, 1, 1], [-1, 1, 1, 1]][i % 3])
        expect(name, array, sign @ affine)
    # Three values a voxel, together; their axis has no direction.
    array = sample((3, 4, 3, 2), "i2")
    header = {
        "kinds": ["vector", "domain", "domain", "domain"],
        "space": "LPS",
        "space directions": np.vstack([[np.nan] * 3, directions]),
        "space origin": origin,
    }
    write_nrrd("nrrd_vector.nrrd", array, header)
    expect("nrrd_vector.nrrd", np.moveaxis(array, 0, -1), LPS @ affine)
    # Two volumes behind each other; voxel sizes alone; the numbers in a file of their own.
    array = sample((4, 3, 2, 2), "u2")
    write_nrrd("nrrd_apart.nhdr", array, {"spacings": [0.5, 1.5, 3.0, np.nan]}, detached_header=True)
    expect("nrrd_apart.nhdr", array, np.diag([0.5, 1.5, 3.0, 1.0]))


def by_itk():
    affine = oblique()
    sizes = np.linalg.norm(affine[:3, :3], axis=0)

    def image(array, vector=False):
        out = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=vector)
        out.SetSpacing(sizes.tolist())
        out.SetDirection((affine[:3, :3] / sizes).ravel().tolist())
        out.SetOrigin(affine[:3, 3].tolist())
        return out

    kinds = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
    for i, kind in enumerate(kinds):
        array = sample((4, 3, 2), kind)
        name = f"meta_{kind}.{['mha', 'mhd'][i % 4 == 3]}"
        sitk.WriteImage(image(array.T), str(OUT / name), useCompression=i % 2 == 1)
        expect(name, array, LPS @ affine)
    array = sample((3, 4, 3, 2), "f4")
    sitk.WriteImage(image(array.T, vector=True), str(OUT / "meta_vector.mha"))
    expect("meta_vector.mha", np.moveaxis(array, 0, -1), LPS @ affine)
    sitk.WriteImage(image(array.T, vector=True), str(OUT / "nrrd_itk.nrrd"), useCompression=True)
    expect("nrrd_itk.nrrd", np.moveaxis(array, 0, -1), LPS @ affine)
    # The other byte order, which ITK reads but does not write.
    small = sample((4, 3, 2), "i2")
    plain = OUT / "meta_big.mha"
    sitk.WriteImage(image(small.T), str(plain), useCompression=False)
    head = plain.read_bytes()[: -small.nbytes].replace(b"ByteOrderMSB = False", b"ByteOrderMSB = True")
    plain.write_bytes(head + small.astype(">i2").tobytes(order="F"))
    again = sitk.ReadImage(str(plain))
    assert (sitk.GetArrayFromImage(again).T == small).all()
    expect("meta_big.mha", small, LPS @ affine)


def by_nibabel():
    """Which of its two places a NIfTI file means, and what its fourth dimension is."""
    array = sample((4, 3, 2), "i2")
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(oblique()[:3, :3])[0] * [2, 3, 4]
    turn[:3, 3] = [1, -2, 3]
    sheared = turn.copy()
    sheared[0, 1] += 0.5
    for name, sform, qform in [
        ("both", sheared, turn),
        ("sform", sheared, None),
        ("qform", None, turn),
        ("neither", None, None),
    ]:
        for version, make in enumerate([nibabel.Nifti1Image, nibabel.Nifti2Image], start=1):
            image = make(array, np.diag([2.0, 3, 4, 1]))
            image.header.set_sform(sform, 0 if sform is None else 1)
            image.header.set_qform(qform, 0 if qform is None else 1)
            if qform is None:
                image.header.set_zooms((2, 3, 4))
            file = f"nifti{version}_{name}.nii"
            (OUT / file).write_bytes(image.to_bytes())
            expect(file, array, make.from_bytes((OUT / file).read_bytes()).affine)
    series = sample((4, 3, 2, 1, 3), "f4")
    nibabel.save(nibabel.Nifti1Image(series, turn), OUT / "nifti1_series.nii")
    expect("nifti1_series.nii", series.reshape(4, 3, 2, 3, order="F"), nibabel.load(OUT / "nifti1_series.nii").affine)
    colour = np.zeros((4, 3, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    for i, name in enumerate("RGB"):
        colour[name] = sample((4, 3, 2), "u1") // (i + 1)
    nibabel.save(nibabel.Nifti1Image(colour, turn), OUT / "nifti1_rgb.nii")
    channels = np.stack([colour[name] for name in "RGB"], axis=-1)
    expect("nifti1_rgb.nii", channels, nibabel.load(OUT / "nifti1_rgb.nii").affine)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    by_nrrd()
    by_itk()
    by_nibabel()
    (OUT / "affines.json").write_text(json.dumps(AFFINES, indent=1) + "\n")
    print(len(AFFINES), "files")


if __name__ == "__main__":
    main()
