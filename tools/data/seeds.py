#!/usr/bin/env python3
"""Writes fuzz/seeds: small files of every kind that the fuzz targets of the data room begin with.

    seeds.py [fuzz/seeds]

    cargo +nightly fuzz run data_volume fuzz/corpus/data_volume fuzz/seeds/data_volume
"""

import gzip
import pathlib
import shutil
import sys

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "fuzz/seeds")
GOLDEN = pathlib.Path("tests/golden")
FILES = pathlib.Path("crates/densenet-data/tests/golden/files")
MOST_BYTES = 4096


def volumes(folder):
    """NIfTI of both versions, NRRD and MetaImage as the tests have them, one of each packed, and DICOM."""
    wanted = ["volumes/kind_*.nii", "formats/nifti1_*.nii", "formats/nifti2_both.nii", "formats/*.nrrd", "formats/*.mha"]
    for path in sorted(p for pattern in wanted for p in GOLDEN.glob(pattern)):
        if path.stat().st_size <= MOST_BYTES:
            shutil.copyfile(path, folder / path.name)
    packed = gzip.compress((GOLDEN / "volumes/kind_i2.nii").read_bytes(), mtime=0)
    (folder / "kind_i2.nii.gz").write_bytes(packed)
    for name, syntax in [
        ("implicit", ImplicitVRLittleEndian),
        ("explicit", ExplicitVRLittleEndian),
        ("big", ExplicitVRBigEndian),
        ("deflated", DeflatedExplicitVRLittleEndian),
        ("rle", RLELossless),
    ]:
        for frames in (1, 3):
            write(folder / f"{name}_{frames}.dcm", syntax, frames)


def write(path, syntax, frames):
    """Frames of 3 × 4 pixels with 12 of 16 bits."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2", "1.2.3"
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2", "1.2.3"
    dataset.PatientID, dataset.SeriesInstanceUID = "p", "1.2.3"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 3, 4, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PhotometricInterpretation = "MONOCHROME1" if frames == 3 else "MONOCHROME2"
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [1, 2, 3], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.75], 2
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1000
    if frames > 1:
        dataset.NumberOfFrames = frames
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    dataset.PixelData = (np.arange(12 * frames) * 50).astype(order).tobytes()
    dataset["PixelData"].VR = "OW"
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def arrays(folder):
    for kind in ["b1", "i1", "u1", "<i2", ">u2", "<i4", ">u4", "<i8", ">u8", "<f2", "<f4", ">f8"]:
        name = kind.replace("<", "l").replace(">", "b")
        np.save(folder / f"{name}.npy", np.arange(12).reshape(2, 3, 2).astype(kind))
    np.save(folder / "fortran.npy", np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    np.save(folder / "single.npy", np.float32(3))
    np.save(folder / "empty.npy", np.zeros((0, 3), dtype="u1"))


def images(folder):
    for path in sorted(FILES.iterdir()):
        if path.suffix != ".npy" and path.stat().st_size <= MOST_BYTES:
            shutil.copyfile(path, folder / path.name)


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    for name, make in [("data_volume", volumes), ("data_npy", arrays), ("data_image", images)]:
        folder = OUT / name
        folder.mkdir(parents=True)
        make(folder)
        sizes = [p.stat().st_size for p in folder.iterdir()]
        print(f"{name}: {len(sizes)} files, {sum(sizes)} bytes")


if __name__ == "__main__":
    main()
