//! Numbers behind a header of text: what NRRD and MetaImage have in common.

use super::numbers::Coding;
use super::space::Space;
use super::stored::Stored;
use super::{MAX_CHANNELS, assembled, too_many};
use crate::decoded::DecodedImage;
use crate::error::DataError;
use crate::npy::Kind;

/// The most bytes a header of text may have, and the most dimensions it may announce.
pub(super) const MAX_HEADER_BYTES: u64 = 1 << 20;
pub(super) const MAX_DIMENSIONS: usize = 16;

/// An array as a header of text describes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Raster {
    pub kind: Kind,
    pub big_endian: bool,
    /// The sizes of all axes, the fastest first.
    pub sizes: Vec<usize>,
    /// The axes among them that are width, height and depth, as far as there are; all others are channels.
    pub spatial: Vec<usize>,
    /// Where the array lies; its columns belong to the spatial axes in their order.
    pub space: Space,
}

impl Raster {
    /// `[depth, height, width]`, channels, and the number of values.
    fn extent(&self, place: &str) -> Result<([usize; 3], usize, usize), DataError> {
        let size = |axis: usize| {
            let axis = self.spatial.get(axis);
            axis.and_then(|&a| self.sizes.get(a)).copied().unwrap_or(1)
        };
        let spatial = [size(2), size(1), size(0)];
        let others = self.sizes.iter().enumerate();
        let channels = others
            .filter(|(axis, _)| !self.spatial.contains(axis))
            .try_fold(1usize, |product, (_, &n)| product.checked_mul(n))
            .filter(|&n| n <= MAX_CHANNELS);
        let Some(channels) = channels else {
            return Err(DataError::limit(
                place,
                format!(
                    "sizes {:?}: more than {MAX_CHANNELS} values a voxel",
                    self.sizes
                ),
                "take the volumes that matter out of it, each into a file of its own",
            ));
        };
        let count = too_many(place, spatial, channels)?;
        Ok((spatial, channels, count))
    }

    /// The bytes of all numbers.
    ///
    /// # Errors
    /// More than a volume may have.
    pub(super) fn bytes(&self, place: &str) -> Result<u64, DataError> {
        let (_, _, count) = self.extent(place)?;
        Ok(count as u64 * self.kind.size() as u64)
    }

    /// Reads the numbers, which begin where `stored` stands.
    ///
    /// # Errors
    /// Fewer bytes than announced, too many values, a place that makes no sense.
    pub(super) fn read(&self, mut stored: Stored<'_>) -> Result<DecodedImage, DataError> {
        let place = stored.place();
        let (spatial, channels, count) = self.extent(place)?;
        stored.require(
            stored.position() + self.bytes(place)?,
            &format!("the header announces sizes {:?}", self.sizes),
        )?;
        let coding = Coding {
            kind: self.kind,
            big_endian: self.big_endian,
            scale: None,
        };
        let values = coding.read(&mut stored, count)?;
        stored.finish()?;
        let values = self.channels_last(values, spatial, channels);
        assembled(place, spatial, channels, values, self.space)
    }

    /// `[depth][height][width][channel]` from the axes' own order; of several axes of channels the first is the fastest.
    fn channels_last(
        &self,
        values: Vec<f32>,
        [depth, height, width]: [usize; 3],
        channels: usize,
    ) -> Vec<f32> {
        let mut strides = Vec::with_capacity(self.sizes.len());
        let mut stride = 1;
        for &n in &self.sizes {
            strides.push(stride);
            stride *= n;
        }
        let step = |axis: usize| {
            let axis = self.spatial.get(axis);
            axis.and_then(|&a| strides.get(a)).copied().unwrap_or(0)
        };
        // How far the values of a voxel lie from its first one.
        let mut offsets = vec![0];
        for (axis, (&n, &stride)) in self.sizes.iter().zip(&strides).enumerate() {
            if !self.spatial.contains(&axis) {
                let inner = offsets.clone();
                let turns = (1..n).flat_map(|i| inner.iter().map(move |o| o + i * stride));
                offsets.extend(turns);
            }
        }
        if offsets.iter().copied().eq(0..channels) && step(0) == channels {
            return values;
        }
        let mut out = Vec::with_capacity(values.len());
        for d in 0..depth {
            for h in 0..height {
                let row = d * step(2) + h * step(1);
                for first in (0..width).map(|w| row + w * step(0)) {
                    let voxel = offsets.iter().map(|o| values.get(first + o));
                    out.extend(voxel.map(|v| v.copied().unwrap_or(0.0)));
                }
            }
        }
        out
    }
}

/// The map of an array with these steps along width, height and depth; `signs` turns the file's world to the right, the
/// front and upwards.
pub(super) fn space(steps: [[f64; 3]; 3], origin: [f64; 3], signs: [f64; 3]) -> Space {
    let mut affine = [[0.0; 4]; 3];
    for (world, row) in affine.iter_mut().enumerate() {
        let sign = signs.get(world).copied().unwrap_or(1.0);
        let column = |axis: usize| sign * steps[axis][world];
        *row = [column(0), column(1), column(2), sign * origin[world]];
    }
    Space { affine }
}

/// The sizes that a header announces.
///
/// # Errors
/// Names those that are not whole numbers above zero, or too many of them.
pub(super) fn sizes(place: &str, text: &str) -> Result<Vec<usize>, DataError> {
    let sizes: Option<Vec<usize>> = text
        .split_whitespace()
        .take(MAX_DIMENSIONS + 1)
        .map(|word| word.parse().ok().filter(|&n: &usize| n > 0))
        .collect();
    match sizes {
        Some(sizes) if (1..=MAX_DIMENSIONS).contains(&sizes.len()) => Ok(sizes),
        _ => Err(damaged(
            place,
            format!("the header announces sizes `{text}`"),
        )),
    }
}

/// So many numbers, separated by blanks.
pub(super) fn numbers(text: &str) -> Option<Vec<f64>> {
    text.split_whitespace()
        .map(|word| word.parse().ok())
        .collect()
}

/// A header that no program would write.
pub(super) fn damaged(place: &str, what: String) -> DataError {
    DataError::data(place, what, "write the file anew: its header is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_of_channels_may_stand_anywhere() {
        let raster = |sizes: &[usize], spatial: &[usize]| Raster {
            kind: Kind::F32,
            big_endian: false,
            sizes: sizes.to_vec(),
            spatial: spatial.to_vec(),
            space: Space::UNKNOWN,
        };
        let values: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let turned = |sizes: &[usize], spatial: &[usize]| {
            let raster = raster(sizes, spatial);
            let (extent, channels, count) = raster.extent("x").unwrap();
            assert_eq!(count, 12);
            (
                extent,
                raster.channels_last(values.clone(), extent, channels),
            )
        };
        assert_eq!(
            turned(&[2, 3, 2, 1], &[1, 2, 3]),
            ([1, 2, 3], values.clone())
        );
        let last = turned(&[3, 2, 1, 2], &[0, 1, 2]);
        assert_eq!(last.1[..4], [0.0, 6.0, 1.0, 7.0]);
        let middle = turned(&[3, 2, 2], &[0, 2]);
        assert_eq!(
            (middle.0, &middle.1[..4]),
            ([1, 2, 3], &[0.0, 3.0, 1.0, 4.0][..])
        );
        let flat = turned(&[4, 3], &[0, 1]);
        assert_eq!(flat, ([1, 3, 4], values.clone()));
        assert_eq!(
            raster(&[65, 1], &[1]).extent("x").unwrap_err().exit_code(),
            7
        );
    }
}
