#!/usr/bin/env python3
"""Reads every test file that nibabel and pydicom ship with `densenet check --dump` and with those packages, and compares.

    check_readers.py path/to/densenet

Voxels must be equal to the rounding of f32, affines to 1e-4 mm. What `densenet` refuses is listed with its reason; a file
is never read differently. Files of every other kind (surfaces, tracts, text) are given to it as well, under the name of a
volume: they must be refused. Exits with 1 if anything differs, or if a refusal is not one line with exit code 3 or 7.
"""

import collections
import gzip
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import nibabel
import numpy as np
import pydicom

warnings.filterwarnings("ignore")
EXPECTED_CODES = (3, 7)


class Tally:
    def __init__(self):
        self.equal, self.refused, self.wrong = [], [], []


def read(program, path, folder):
    """(array, facts) or the line that refuses it."""
    out = folder / "dump.npy"
    out.unlink(missing_ok=True)
    run = subprocess.run(
        [program, "check", path, "--dump", out, "--json", "--threads", "1"], capture_output=True, text=True
    )
    lines = run.stderr.strip().splitlines()
    if run.returncode == 0:
        return np.load(out), json.loads(run.stdout)
    if run.returncode not in EXPECTED_CODES or len(lines) != 1 or not lines[0].startswith("error: "):
        raise RuntimeError(f"exit code {run.returncode}: {run.stderr.strip()}")
    return lines[0].split(": ", 2)[2], None


def compare(tally, name, ours, expected):
    if ours.shape != expected.shape:
        tally.wrong.append(f"{name}: shape {ours.shape}, expected {expected.shape}")
    elif not np.array_equal(ours, expected.astype(np.float32), equal_nan=True):
        worst = np.nanmax(np.abs(ours.astype(np.float64) - expected))
        scale = np.nanmax(np.abs(expected)) or 1.0
        if worst > 2e-7 * scale:
            tally.wrong.append(f"{name}: differs by {worst}")
        else:
            tally.equal.append(name)
    else:
        tally.equal.append(name)


def nifti(program, folder, tally):
    root = pathlib.Path(nibabel.__file__).parent
    for path in sorted(p for p in root.rglob("tests/data/*") if p.is_file()):
        if path.suffix in (".pyc", ".py") or path.name.startswith("."):
            continue
        name = f"nibabel/{path.name}"
        source = path
        # `check` goes by the name of a file alone to tell volumes from lists.
        if not path.name.endswith((".nii", ".nii.gz", ".dcm")):
            source = folder / (path.name.removesuffix(".gz").removesuffix(".dcm") + ".nii")
            source.write_bytes(gzip.decompress(path.read_bytes()) if path.name.endswith(".dcm.gz") else path.read_bytes())
        ours, facts = read(program, source, folder)
        if facts is None:
            tally.refused.append(f"{name}: {ours}")
        elif ".dcm" in path.name:
            dataset = pydicom.dcmread(source, force=True)
            compare(tally, name, ours, values(dataset))
        else:
            image = nibabel.load(path)
            data = np.asarray(image.dataobj)
            if data.dtype.fields:
                data = np.stack([data[field] for field in data.dtype.fields], axis=-1)
            data = data.astype(np.float64)
            while data.ndim < 3:
                data = data[..., None]
            data = data.reshape(*data.shape[:3], -1, order="F").transpose(2, 1, 0, 3)
            compare(tally, name, ours, data)
            units = {"meter": 1e3, "micron": 1e-3}.get(image.header.get_xyzt_units()[0], 1.0)
            if not np.allclose(facts["affine"], image.affine[:3] * units, atol=1e-4):
                tally.wrong.append(f"{name}: affine {facts['affine']}, expected {image.affine}")


def values(dataset):
    """[frames, rows, columns, samples] as `densenet` promises them."""
    array = dataset.pixel_array
    samples = dataset.get("SamplesPerPixel", 1)
    array = array.reshape(int(dataset.get("NumberOfFrames", 1) or 1), dataset.Rows, dataset.Columns, samples)
    array = array.astype(np.float64)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        array = (-1 if dataset.PixelRepresentation else 2**dataset.BitsStored - 1) - array
    return array * float(dataset.get("RescaleSlope", 1) or 1) + float(dataset.get("RescaleIntercept", 0) or 0)


def dicom(program, folder, tally):
    root = pathlib.Path(pydicom.__file__).parent / "data"
    for path in sorted(p for p in root.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")):
        name = f"pydicom/{path.relative_to(root)}"
        source = folder / "file.dcm"
        source.write_bytes(path.read_bytes())
        ours, facts = read(program, source, folder)
        if facts is None:
            tally.refused.append(f"{name}: {ours}")
            continue
        try:
            raw = path.read_bytes()
            raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
            expected = values(pydicom.dcmread(io.BytesIO(raw), force=True))
        except Exception as error:
            tally.wrong.append(f"{name}: read, while pydicom says: {error}")
            continue
        compare(tally, name, ours, expected)


def series(program, folder, tally):
    """Every folder of slices."""
    root = pathlib.Path(pydicom.__file__).parent / "data/test_files/dicomdirtests"
    for path in sorted({p.parent for p in root.rglob("*") if p.is_file() and not p.name.startswith("DICOMDIR")}):
        slices = [p for p in sorted(path.iterdir()) if p.is_file() and p.name != "DICOMDIR"]
        if path == root or not any(p.read_bytes()[128:132] == b"DICM" for p in slices):
            continue
        name = f"pydicom/{path.relative_to(root)}/"
        ours, facts = read(program, path, folder)
        if facts is None:
            tally.refused.append(f"{name}: {ours}")
            continue
        slices = [pydicom.dcmread(p) for p in slices]
        if len(slices) > 1:
            row, column = np.array(slices[0].ImageOrientationPatient, float).reshape(2, 3)
            slices.sort(key=lambda s: np.dot(np.cross(row, column), s.ImagePositionPatient))
        compare(tally, name, ours, np.concatenate([values(s) for s in slices]))


def reason(line):
    """The refusal without what differs from file to file."""
    text = line.split(": ", 1)[1].split(" — ")[0]
    for mark in ("(", "`"):
        text = text.split(mark)[0] if not text.startswith(mark) else "slices that do not belong together"
    return text.strip(" :;,0123456789.")


def main():
    program, tally = sys.argv[1], Tally()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        nifti(program, folder, tally)
        dicom(program, folder, tally)
        series(program, folder, tally)
    print(f"{len(tally.equal)} equal")
    for name in tally.equal:
        print(f"  {name}")
    print(f"{len(tally.refused)} refused")
    for line in tally.refused:
        print(f"  {line}")
    reasons = collections.Counter(reason(line) for line in tally.refused)
    print("in short:")
    for why, count in reasons.most_common():
        print(f"  {count:4} {why}")
    print(f"{len(tally.wrong)} wrong")
    for line in tally.wrong:
        print(f"  {line}")
    sys.exit(bool(tally.wrong))


if __name__ == "__main__":
    main()
