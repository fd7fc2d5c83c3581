//! Where a pixel lies in a channels-last buffer.

/// The place of every pixel of a map: `[batch][depth][height][width][channel]`, with an optional border.
///
/// ```text
/// place(n, z, y, x) = (((n·D + z + hz)·H + y + hy)·W + x + hx) · stride + offset        D = depth + 2·hz, …
/// ```
///
/// A dense block's buffer is a raster as wide as the block's output; a layer reads a raster of the same stride and
/// writes one whose `offset` is its first new channel. A convolution's input has a halo of zeros as wide as the padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raster {
    /// Samples.
    pub batch: usize,
    /// `[depth, height, width]` without the border.
    pub spatial: [usize; 3],
    /// Border on both sides of each axis, in pixels.
    pub halo: [usize; 3],
    /// Elements from one pixel to the next.
    pub stride: usize,
    /// The first channel's place within a pixel.
    pub offset: usize,
}

impl Raster {
    /// A map without border whose pixels hold `channels` elements.
    pub fn dense(batch: usize, spatial: [usize; 3], channels: usize) -> Self {
        Raster {
            batch,
            spatial,
            halo: [0; 3],
            stride: channels,
            offset: 0,
        }
    }

    /// A map without border whose pixels hold `channels` elements and lie an odd number of cache lines apart, so that the
    /// pixels of a patch fall into different sets of the first-level cache.
    pub fn spread(batch: usize, spatial: [usize; 3], channels: usize) -> Self {
        let lines = channels.div_ceil(16);
        Raster::dense(batch, spatial, (lines | 1) * 16)
    }

    /// The same map with a border.
    pub fn with_halo(self, halo: [usize; 3]) -> Self {
        Raster { halo, ..self }
    }

    /// The same map seen from channel `offset` on.
    pub fn at(self, offset: usize) -> Self {
        Raster { offset, ..self }
    }

    /// Pixels without the border.
    pub fn pixels(&self) -> usize {
        self.batch * self.spatial.iter().product::<usize>()
    }

    /// Pixels of one sample without the border.
    pub fn sample_pixels(&self) -> usize {
        self.spatial.iter().product()
    }

    /// Rows (runs of `width` pixels) without the border.
    pub fn rows(&self) -> usize {
        self.batch * self.spatial[0] * self.spatial[1]
    }

    /// Elements of the whole buffer, border included.
    pub fn len(&self) -> usize {
        let padded = |axis: usize| self.spatial[axis] + 2 * self.halo[axis];
        self.batch * padded(0) * padded(1) * padded(2) * self.stride
    }

    /// Whether the map has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements from one row to the next.
    pub fn row_pitch(&self) -> usize {
        (self.spatial[2] + 2 * self.halo[2]) * self.stride
    }

    /// Elements from one plane of constant depth to the next.
    pub fn plane_pitch(&self) -> usize {
        (self.spatial[1] + 2 * self.halo[1]) * self.row_pitch()
    }

    /// Elements from one sample to the next.
    pub fn sample_pitch(&self) -> usize {
        (self.spatial[0] + 2 * self.halo[0]) * self.plane_pitch()
    }

    /// The place of the first pixel of row `row`, counted over batch, depth and height.
    pub fn row(&self, row: usize) -> usize {
        let [depth, height, _] = self.spatial;
        let (y, z, n) = (row % height, row / height % depth, row / (height * depth));
        n * self.sample_pitch()
            + (z + self.halo[0]) * self.plane_pitch()
            + (y + self.halo[1]) * self.row_pitch()
            + self.halo[2] * self.stride
            + self.offset
    }

    /// The place of pixel `pixel`, counted over batch, depth, height and width.
    pub fn pixel(&self, pixel: usize) -> usize {
        let width = self.spatial[2];
        self.row(pixel / width) + pixel % width * self.stride
    }

    /// The place of the pixel at sample, depth, height and width.
    pub(crate) fn place(&self, [n, z, y, x]: [usize; 4]) -> usize {
        n * self.sample_pitch()
            + (z + self.halo[0]) * self.plane_pitch()
            + (y + self.halo[1]) * self.row_pitch()
            + (x + self.halo[2]) * self.stride
            + self.offset
    }

    /// Writes the places of the pixels from `first` on.
    pub(crate) fn places(&self, first: usize, places: &mut [usize]) {
        let width = self.spatial[2];
        let (mut row, mut x) = (first / width, first % width);
        let mut place = if places.is_empty() {
            0
        } else {
            self.pixel(first)
        };
        for p in places {
            if x == width {
                (row, x) = (row + 1, 0);
                place = self.row(row);
            }
            *p = place;
            place += self.stride;
            x += 1;
        }
    }

    /// Whether consecutive pixels are always `stride` apart, rows or not.
    pub fn is_dense(&self) -> bool {
        self.halo == [0; 3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_lie_inside_the_border() {
        let r = Raster::dense(2, [2, 3, 4], 5).with_halo([1, 2, 3]);
        assert_eq!(r.len(), 2 * 4 * 7 * 10 * 5);
        assert_eq!(r.pixel(0), ((7 + 2) * 10 + 3) * 5);
        let last = r.pixels() - 1;
        assert_eq!(r.pixel(last), ((((4 + 2) * 7 + 4) * 10) + 6) * 5);
        let mut places = [0; 9];
        r.places(2, &mut places);
        assert_eq!(places, std::array::from_fn(|i| r.pixel(2 + i)));
        let d = Raster::dense(2, [1, 3, 4], 8).at(3);
        assert_eq!(d.pixel(13), 13 * 8 + 3);
        assert!(d.is_dense() && !r.is_dense());
    }
}
