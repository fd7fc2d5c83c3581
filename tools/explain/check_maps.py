#!/usr/bin/env python3
"""Checks with nibabel that maps lie on their scans.

    python check_maps.py SCAN MAP [SCAN MAP …]

Shape and affine must be the scan's, values finite, and where the map is strongest must be inside the scan. Prints the place
of the strongest value in millimetres.
"""

import sys

import nibabel
import numpy as np

for scan_path, map_path in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    scan, found = nibabel.load(scan_path), nibabel.load(map_path)
    values = found.get_fdata()
    assert values.shape == scan.shape[:3], (values.shape, scan.shape)
    error = np.abs(found.affine - scan.affine).max()
    assert error <= 1e-5 * np.abs(scan.affine).max(), error
    assert np.isfinite(values).all()
    place = np.unravel_index(values.argmax(), values.shape)
    print(
        f"{map_path}: shape {values.shape}, affine off by {error:.1e}, "
        f"strongest {values.max():.4g} at {np.round(found.affine @ [*place, 1], 1)[:3]} mm, "
        f"{nibabel.aff2axcodes(found.affine)}"
    )
