//! Volumes: readers against nibabel, steps against MONAI and torch, damaged files, data sets of volumes.
//!
//! The golden files are made by `tools/volumes/golden.py`.

mod damage;
mod dicom;
mod formats;
mod sets;
mod steps;

use std::path::{Path, PathBuf};

use densenet_data::{DecodedImage, Samples, npy};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/volumes")
        .join(name)
}

fn values(image: &DecodedImage) -> &[f32] {
    match image.samples() {
        Samples::F32(values) => values,
        other => panic!("volumes are f32: {other:?}"),
    }
}

/// Whether a volume is the golden array, up to `tolerance`.
fn assert_golden(name: &str, spatial: [usize; 3], found: &[f32], tolerance: f32) {
    let expected = npy::read(&golden(&format!("{name}.npy"))).unwrap();
    assert_eq!(expected.shape, spatial, "{name}");
    let worst = found
        .iter()
        .zip(&expected.data)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst <= tolerance, "{name}: {worst} > {tolerance}");
}
