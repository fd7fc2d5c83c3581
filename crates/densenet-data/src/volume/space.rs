//! Where voxels lie: from positions in the array to millimetres in the patient.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// The map from voxel positions to millimetres, rightwards, forwards and upwards of the patient (RAS+).
///
/// `affine[r]` is row `r` of `[right, anterior, superior] = A · [w, h, d, 1]`: the steps along width, height and depth,
/// then the centre of the first voxel. NIfTI's convention, and nibabel's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Space {
    /// The rows of the map.
    pub affine: [[f64; 4]; 3],
}

impl Space {
    /// Voxels of a millimetre, width to the right, height forwards, depth upwards: what is said of arrays that say
    /// nothing.
    pub const UNKNOWN: Space = Space {
        affine: [
            [1.0, 0.0, 0.0, 0.0],
            [0.0, 1.0, 0.0, 0.0],
            [0.0, 0.0, 1.0, 0.0],
        ],
    };

    /// Millimetres from voxel to voxel along `[depth, height, width]`.
    pub fn spacing(&self) -> [f64; 3] {
        [2, 1, 0].map(|column| length(self.column(column)))
    }

    /// The place of a voxel, `[depth, height, width]`, fractions allowed.
    pub fn place(&self, [d, h, w]: [f64; 3]) -> [f64; 3] {
        self.affine
            .map(|[x, y, z, origin]| x * w + y * h + z * d + origin)
    }

    /// Whether every number is finite and every axis leads somewhere else.
    pub(crate) fn is_sound(&self) -> bool {
        let [[a, b, c, _], [d, e, f, _], [g, h, i, _]] = self.affine;
        let determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
        let volume: f64 = self.spacing().iter().product();
        self.affine.iter().flatten().all(|v| v.is_finite())
            && volume > 0.0
            && determinant.abs() > 1e-6 * volume
    }

    /// The space of an array whose voxel `v` along each axis `[depth, height, width]` is this one's `first + step · v`.
    pub(crate) fn resampled(&self, first: [f64; 3], step: [f64; 3]) -> Space {
        let origin = self.place(first);
        let mut affine = self.affine;
        for (row, origin) in affine.iter_mut().zip(origin) {
            row[0] *= step[2];
            row[1] *= step[1];
            row[2] *= step[0];
            row[3] = origin;
        }
        Space { affine }
    }

    /// The space after [`Turn`]ing an array of size `spatial`.
    pub(crate) fn turned(&self, turn: &Turn, spatial: [usize; 3]) -> Space {
        let mut affine = [[0.0; 4]; 3];
        let mut first = [0.0; 3];
        for (axis, &(from, flipped)) in turn.axes.iter().enumerate() {
            let sign = if flipped { -1.0 } else { 1.0 };
            if flipped {
                first[from] = spatial[from].saturating_sub(1) as f64;
            }
            for (row, own) in affine.iter_mut().zip(&self.affine) {
                row[2 - axis] = sign * own[2 - from];
            }
        }
        for (row, origin) in affine.iter_mut().zip(self.place(first)) {
            row[3] = origin;
        }
        Space { affine }
    }

    /// The way to turn and mirror the array until its axes point as `wanted`.
    ///
    /// Each axis counts as the direction it mostly points in; of two that mostly point the same way, the one that does
    /// so more. nibabel's `io_orientation` decides alike for axes at right angles.
    pub(crate) fn turn_to(&self, wanted: Orientation) -> Turn {
        let mut cosines = [[0.0; 3]; 3];
        for (column, cosines) in cosines.iter_mut().enumerate() {
            let steps = self.column(column);
            let norm = length(steps).max(f64::MIN_POSITIVE);
            *cosines = steps.map(|s| s / norm);
        }
        let strength = |c: &[f64; 3]| c.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let mut order = [0, 1, 2];
        order.sort_by(|&a, &b| strength(&cosines[b]).total_cmp(&strength(&cosines[a])));
        // For each world direction, the array's column that runs along it, and whether against it.
        let mut along: [Option<(usize, bool)>; 3] = [None; 3];
        for column in order {
            let free = (0..3).filter(|&world| along[world].is_none());
            let best = free.max_by(|&a, &b| {
                let size = |world: usize| cosines[column][world].abs();
                // Of equals the first, as in NumPy's `argmax`.
                size(a).total_cmp(&size(b)).then(b.cmp(&a))
            });
            if let Some(world) = best {
                along[world] = Some((column, cosines[column][world] < 0.0));
            }
        }
        let mut axes = [(0, false), (1, false), (2, false)];
        for (letter, direction) in wanted.0.iter().enumerate() {
            let (column, against) = along[direction.world].unwrap_or((letter, false));
            axes[2 - letter] = (2 - column, against != direction.negative);
        }
        Turn { axes }
    }

    fn column(&self, column: usize) -> [f64; 3] {
        self.affine.map(|row| row[column])
    }
}

fn length(v: [f64; 3]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// For each axis `[depth, height, width]` of the result, the axis of the source and whether it is mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub axes: [(usize, bool); 3],
}

impl Turn {
    pub(crate) fn is_none(&self) -> bool {
        self.axes == [(0, false), (1, false), (2, false)]
    }
}

/// Where the axes of an array point: three letters for width, height and depth, each the direction it grows in.
///
/// `L` or `R` (left, right), `P` or `A` (back, front), `I` or `S` (down, up). `RAS` is nibabel's canonical orientation;
/// letters are in nibabel's order, first the axis that runs fastest in a NIfTI file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Orientation([Direction; 3]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Direction {
    /// 0 right, 1 anterior, 2 superior.
    world: usize,
    negative: bool,
}

impl Orientation {
    /// Width to the right, height to the front, depth upwards.
    pub const RAS: Orientation = Orientation([
        Direction {
            world: 0,
            negative: false,
        },
        Direction {
            world: 1,
            negative: false,
        },
        Direction {
            world: 2,
            negative: false,
        },
    ]);
}

impl FromStr for Orientation {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Orientation, DataError> {
        let mut directions = Vec::with_capacity(3);
        for letter in text.chars() {
            let (world, negative) = match letter.to_ascii_uppercase() {
                'R' => (0, false),
                'L' => (0, true),
                'A' => (1, false),
                'P' => (1, true),
                'S' => (2, false),
                'I' => (2, true),
                _ => break,
            };
            directions.push(Direction { world, negative });
        }
        let mut seen = [false; 3];
        for direction in &directions {
            seen[direction.world] = true;
        }
        match <[Direction; 3]>::try_from(directions) {
            Ok(three) if seen == [true; 3] && text.chars().count() == 3 => Ok(Orientation(three)),
            _ => Err(DataError::config(
                "orientation",
                format!("`{text}`"),
                "give one of L and R, one of P and A, one of I and S, like RAS",
            )),
        }
    }
}

impl fmt::Display for Orientation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for direction in self.0 {
            let letters = [["R", "L"], ["A", "P"], ["S", "I"]][direction.world];
            f.write_str(letters[usize::from(direction.negative)])?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Orientation {
    type Error = DataError;
    fn try_from(text: String) -> Result<Orientation, DataError> {
        text.parse()
    }
}

impl From<Orientation> for String {
    fn from(orientation: Orientation) -> String {
        orientation.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_parse_and_come_back() {
        for text in ["RAS", "LPS", "SAR", "PIR"] {
            assert_eq!(text.parse::<Orientation>().unwrap().to_string(), text);
        }
        assert_eq!("ras".parse(), Ok(Orientation::RAS));
        for wrong in ["", "RA", "RAR", "RAX", "RASS", "RLS"] {
            let error = wrong.parse::<Orientation>().unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn turning_keeps_every_voxel_where_it_is() {
        // Width runs to the left, height upwards, depth to the front, in steps of 2, 3 and 4 mm.
        let space = Space {
            affine: [
                [-2.0, 0.0, 0.1, 10.0],
                [0.0, 0.2, 4.0, 20.0],
                [0.0, 3.0, 0.0, 30.0],
            ],
        };
        let spatial = [5, 6, 7];
        let turn = space.turn_to(Orientation::RAS);
        assert_eq!(turn.axes, [(1, false), (0, false), (2, true)]);
        let turned = space.turned(&turn, spatial);
        // Voxel [d, h, w] of the result is [h, d, 6 - w] of the source.
        let (found, expected) = (turned.place([1.0, 2.0, 0.0]), space.place([2.0, 1.0, 6.0]));
        assert!(
            found
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-12)
        );
        assert!(turned.turn_to(Orientation::RAS).is_none());
        let back = turned.turn_to("LSA".parse().unwrap());
        let again = turned.turned(&back, [6, 5, 7]).affine;
        let rows = again.iter().flatten().zip(space.affine.iter().flatten());
        assert!(rows.into_iter().all(|(a, b)| (a - b).abs() < 1e-12));
        assert!(
            space.is_sound()
                && !Space {
                    affine: [[0.0; 4]; 3]
                }
                .is_sound()
        );
    }

    #[test]
    fn resampling_moves_the_first_voxel() {
        let finer = Space::UNKNOWN.resampled([-0.25, 1.0, 2.0], [0.5, 1.0, 3.0]);
        assert_eq!(finer.spacing(), [0.5, 1.0, 3.0]);
        assert_eq!(finer.place([1.0, 0.0, 0.0]), [2.0, 1.0, 0.25]);
    }
}
