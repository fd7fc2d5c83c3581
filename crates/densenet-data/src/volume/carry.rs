//! From one grid to another: what was found in a prepared volume, shown in the scan it came from.

use super::Space;

/// A grid of voxels, `[depth, height, width]`, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Voxels along each axis.
    pub spatial: [usize; 3],
    /// Their place.
    pub space: Space,
}

/// Values on `from`, read at the centres of the voxels of `to`: linear between the centres, the border's value in the
/// outer half of the border voxels, and `outside` beyond them. Nothing where `from` is flat or the number of values is
/// not that of its voxels.
///
/// No averaging: `to` should not be much coarser than `from`.
pub fn carry(values: &[f32], from: &Grid, to: &Grid, outside: f32) -> Option<Vec<f32>> {
    let [depth, height, width] = from.spatial;
    if values.len() != depth * height * width || values.is_empty() {
        return None;
    }
    let way = inverse(&from.space)?;
    // Voxel positions of `from`, `[width, height, depth]`, as an affine map of those of `to`.
    let map: [[f64; 4]; 3] = std::array::from_fn(|row| {
        std::array::from_fn(|column| {
            let own = if column == 3 { way[row][3] } else { 0.0 };
            (0..3).fold(own, |sum, i| sum + way[row][i] * to.space.affine[i][column])
        })
    });
    let size = [width, height, depth];
    let strides = [1, width, width * height];
    let mut out = Vec::with_capacity(to.spatial.iter().product());
    for d in 0..to.spatial[0] {
        for h in 0..to.spatial[1] {
            for w in 0..to.spatial[2] {
                let place =
                    map.map(|[x, y, z, first]| x * w as f64 + y * h as f64 + z * d as f64 + first);
                out.push(read(values, place, size, strides).unwrap_or(outside));
            }
        }
    }
    Some(out)
}

/// A rounding error's worth beyond the border is still inside.
const SLACK: f64 = 1e-6;

/// The value at `place`, if that lies in a voxel.
fn read(values: &[f32], place: [f64; 3], size: [usize; 3], strides: [usize; 3]) -> Option<f32> {
    let mut corners = [(0usize, 0usize, 0.0f64); 3];
    for axis in 0..3 {
        let last = size[axis] - 1;
        let x = place[axis];
        if !(x >= -0.5 - SLACK && x <= last as f64 + 0.5 + SLACK) {
            return None;
        }
        let x = x.clamp(0.0, last as f64);
        let first = x as usize;
        corners[axis] = (
            first * strides[axis],
            (first + 1).min(last) * strides[axis],
            x - first as f64,
        );
    }
    let [(x0, x1, x), (y0, y1, y), (z0, z1, z)] = corners;
    let line = |at: usize| {
        let (a, b) = (f64::from(values[at + x0]), f64::from(values[at + x1]));
        // Not a sum of two products: an infinite value beside a finite one would make NaN of a share of 0.
        if x == 0.0 { a } else { a + x * (b - a) }
    };
    let mix = |a: f64, b: f64, share: f64| if share == 0.0 { a } else { a + share * (b - a) };
    let plane = |at: usize| mix(line(at + y0), line(at + y1), y);
    Some(mix(plane(z0), plane(z1), z) as f32)
}

/// From millimetres back to voxel positions `[width, height, depth]`; nothing for a space without extent.
fn inverse(space: &Space) -> Option<[[f64; 4]; 3]> {
    if !space.is_sound() {
        return None;
    }
    let a = &space.affine;
    let minor = |r: usize, c: usize| {
        let (r1, r2) = ((r + 1) % 3, (r + 2) % 3);
        let (c1, c2) = ((c + 1) % 3, (c + 2) % 3);
        a[r1][c1] * a[r2][c2] - a[r1][c2] * a[r2][c1]
    };
    let determinant: f64 = (0..3).map(|c| a[0][c] * minor(0, c)).sum();
    Some(std::array::from_fn(|row| {
        let linear: [f64; 3] = std::array::from_fn(|column| minor(column, row) / determinant);
        let first = (0..3).fold(0.0, |sum, i| sum - linear[i] * a[i][3]);
        [linear[0], linear[1], linear[2], first]
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecodedImage, Preprocessing, Samples, VolumeSize};

    /// A tilted grid of 2 × 3 × 4 mm voxels.
    fn scan() -> Grid {
        Grid {
            spatial: [7, 6, 5],
            space: Space {
                affine: [
                    [-2.0, 0.1, 0.2, 10.0],
                    [0.1, 0.2, 4.0, 20.0],
                    [0.0, 3.0, -0.1, 30.0],
                ],
            },
        }
    }

    fn linear(grid: &Grid) -> Vec<f32> {
        let [depth, height, width] = grid.spatial;
        let mut values = Vec::new();
        for d in 0..depth {
            for h in 0..height {
                for w in 0..width {
                    let at = grid.space.place([d, h, w].map(|v| v as f64));
                    values.push((at[0] + 2.0 * at[1] - 3.0 * at[2]) as f32);
                }
            }
        }
        values
    }

    #[test]
    fn the_same_grid_gives_the_same_values() {
        let grid = scan();
        let values = linear(&grid);
        let same = carry(&values, &grid, &grid, f32::NAN).unwrap();
        assert!(values.iter().zip(&same).all(|(a, b)| (a - b).abs() < 1e-4));
        assert!(carry(&values[1..], &grid, &grid, 0.0).is_none());
        let flat = Grid {
            space: Space {
                affine: [[0.0; 4]; 3],
            },
            ..grid
        };
        assert!(carry(&values, &flat, &grid, 0.0).is_none());
    }

    /// Through every step of the preprocessing and back: a function of the place alone keeps its value at every voxel of
    /// the scan that the network sees.
    #[test]
    fn what_preprocessing_does_is_undone() {
        let grid = scan();
        let values = linear(&grid);
        let image =
            DecodedImage::of_volume(grid.spatial, 1, Samples::F32(values.clone()), grid.space);
        let mut steps = Preprocessing::of_volumes(1);
        for size in [
            None,
            Some(VolumeSize::Crop([4, 9, 3])),
            Some(VolumeSize::Resize([9, 11, 13])),
        ] {
            let volume = steps.volume.as_mut().unwrap();
            volume.size = size;
            volume.spacing = size.map(|_| [1.5, 2.0, 1.0]);
            let prepared = steps.apply(&image).unwrap();
            let seen = Grid {
                spatial: prepared.spatial,
                space: prepared.space.unwrap(),
            };
            let found = carry(&linear(&seen), &seen, &grid, f32::NAN).unwrap();
            let pairs = found.iter().zip(&values).filter(|(f, _)| f.is_finite());
            // The outer half voxel takes the border's value, which is up to half a voxel's step away.
            let near = pairs
                .clone()
                .filter(|(f, v)| (*f - *v).abs() < 1e-3)
                .count();
            assert!(
                near > 5 && 2 * near > pairs.clone().count(),
                "{size:?}: {near}"
            );
            let worst = pairs.fold(0.0f32, |m, (f, v)| m.max((f - v).abs()));
            assert!(worst < 20.0, "{size:?}: {worst}");
        }
    }
}
