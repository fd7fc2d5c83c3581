//! Writing NIfTI-1.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::Grid;
use crate::error::DataError;

/// A header without extensions, and the four bytes that say so.
const HEADER: usize = 352;
/// Sides are 16-bit in NIfTI-1.
const MOST: usize = i16::MAX as usize;

/// One value for each voxel as a `.nii.gz` file: NIfTI-1, f32, the place in `sform`, little endian. `about` (at most 79 bytes
/// of ASCII are kept) goes into the description.
///
/// # Errors
/// A side of more than 32,767 voxels (limit); a number of values that is not the grid's (configuration).
pub fn nifti_gz(values: &[f32], grid: &Grid, about: &str) -> Result<Vec<u8>, DataError> {
    let [depth, height, width] = grid.spatial;
    if values.len() != depth * height * width {
        let what = format!("{} values for {:?} voxels", values.len(), grid.spatial);
        return Err(DataError::config("NIfTI", what, "give one for each voxel"));
    }
    if let Some(side) = grid.spatial.into_iter().find(|&n| n > MOST) {
        return Err(DataError::limit(
            "NIfTI",
            format!("a side of {side} voxels"),
            "cut the volume into parts of at most 32,767 voxels a side",
        ));
    }
    let mut header = [0u8; HEADER];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = header.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, &348i32.to_le_bytes());
    for (i, side) in [3, width, height, depth, 1, 1, 1, 1]
        .into_iter()
        .enumerate()
    {
        put(40 + 2 * i, &(side as u16).to_le_bytes());
    }
    // 32-bit floats, their bits.
    put(70, &16i16.to_le_bytes());
    put(72, &32i16.to_le_bytes());
    let [deep, high, wide] = grid.space.spacing();
    for (i, step) in [1.0, wide, high, deep].into_iter().enumerate() {
        put(76 + 4 * i, &(step as f32).to_le_bytes());
    }
    put(108, &(HEADER as f32).to_le_bytes());
    put(112, &1f32.to_le_bytes());
    // Millimetres.
    put(123, &[2]);
    let ascii: Vec<u8> = about.bytes().filter(u8::is_ascii).take(79).collect();
    put(148, &ascii);
    // No qform; sform aligned to something else's space, which is the scan's.
    put(254, &2i16.to_le_bytes());
    for (row, values) in grid.space.affine.iter().enumerate() {
        for (column, value) in values.iter().enumerate() {
            put(280 + 16 * row + 4 * column, &(*value as f32).to_le_bytes());
        }
    }
    put(344, b"n+1\0");
    let mut bytes = Vec::with_capacity(4 * values.len());
    values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
    let mut file = GzEncoder::new(Vec::new(), Compression::default());
    let written = file
        .write_all(&header)
        .and_then(|()| file.write_all(&bytes))
        .and_then(|()| file.finish());
    written.map_err(|error| DataError::data("NIfTI", error.to_string(), "try again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{Space, decode_volume_bytes};

    #[test]
    fn what_is_written_is_read() {
        let grid = Grid {
            spatial: [2, 3, 4],
            space: Space {
                affine: [
                    [-2.0, 0.0, 0.5, 10.0],
                    [0.0, 0.25, 4.0, 20.0],
                    [0.0, 3.0, 0.0, -30.0],
                ],
            },
        };
        let values: Vec<f32> = (0..24).map(|i| i as f32 / 7.0 - 1.0).collect();
        let file = nifti_gz(&values, &grid, "class activation map").unwrap();
        let read = decode_volume_bytes("map.nii.gz", &file).unwrap();
        assert_eq!(
            (read.spatial(), read.space()),
            (grid.spatial, Some(grid.space))
        );
        assert_eq!(read.samples(), &crate::Samples::F32(values));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let grid = |spatial| Grid {
            spatial,
            space: Space::UNKNOWN,
        };
        assert_eq!(
            nifti_gz(&[0.0], &grid([1, 1, 2]), "")
                .unwrap_err()
                .exit_code(),
            2
        );
        let long = vec![0.0; 40_000];
        assert_eq!(
            nifti_gz(&long, &grid([1, 1, 40_000]), "")
                .unwrap_err()
                .exit_code(),
            7
        );
    }
}
