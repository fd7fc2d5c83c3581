//! Moving voxels: turning, resampling, cutting.

use crate::resample;
use crate::volume::space::Turn;

/// The strides of an array `[depth][height][width]` of voxels.
fn strides([_, height, width]: [usize; 3]) -> [usize; 3] {
    [height * width, width, 1]
}

/// Turned and mirrored: no value changes.
pub(super) fn turned(
    values: &[f32],
    spatial: [usize; 3],
    channels: usize,
    turn: &Turn,
) -> Vec<f32> {
    let strides = strides(spatial);
    let size = turn.axes.map(|(axis, _)| spatial[axis]);
    let at = |axis: usize, i: usize| {
        let (from, flipped) = turn.axes[axis];
        strides[from] * if flipped { spatial[from] - 1 - i } else { i }
    };
    let mut out = Vec::with_capacity(values.len());
    for d in 0..size[0] {
        for h in 0..size[1] {
            let row = at(0, d) + at(1, h);
            for w in 0..size[2] {
                let voxel = (row + at(2, w)) * channels;
                out.extend_from_slice(&values[voxel..voxel + channels]);
            }
        }
    }
    out
}

/// Resampling to `size` voxels, `steps` source voxels apart, around the same middle.
pub(super) struct Resampling {
    pub size: [usize; 3],
    pub steps: [f64; 3],
}

impl Resampling {
    /// The place of the first voxel's centre in the source.
    pub(super) fn first(&self, spatial: [usize; 3]) -> [f64; 3] {
        std::array::from_fn(|axis| {
            let (n, m) = (spatial[axis] as f64, self.size[axis] as f64);
            (n - m * self.steps[axis]) / 2.0 + 0.5 * self.steps[axis] - 0.5
        })
    }

    /// Linear along each axis; where voxels become larger, the average of all that they cover (a triangle as wide as two of
    /// them).
    ///
    /// # Numerics
    /// Sums in f64, rounded to f32 after each axis.
    pub(super) fn apply(&self, values: Vec<f32>, spatial: [usize; 3], channels: usize) -> Vec<f32> {
        let mut values = values;
        let mut current = spatial;
        // The axis that shrinks most comes first: the least work.
        let mut order = [0, 1, 2];
        order.sort_by(|&a, &b| self.steps[b].total_cmp(&self.steps[a]));
        let first = self.first(spatial);
        for axis in order {
            if current[axis] == self.size[axis] && self.steps[axis] == 1.0 {
                continue;
            }
            let before: usize = current[..axis].iter().product();
            let after: usize = current[axis + 1..].iter().product::<usize>() * channels;
            let line = resample::Line {
                n_in: current[axis],
                n_out: self.size[axis],
                first: first[axis],
                step: self.steps[axis],
            };
            values = resample::along_axis(&values, before, after, &line);
            current[axis] = self.size[axis];
        }
        values
    }
}

/// The voxels from `first` on; outside, each channel's smallest value.
pub(super) fn window(
    values: &[f32],
    spatial: [usize; 3],
    channels: usize,
    first: [isize; 3],
    size: [usize; 3],
) -> Vec<f32> {
    let inside =
        (0..3).all(|axis| first[axis] >= 0 && first[axis] as usize + size[axis] <= spatial[axis]);
    let mut least = vec![if inside { 0.0 } else { f32::INFINITY }; channels];
    if !inside {
        for voxel in values.chunks_exact(channels) {
            for (least, &v) in least.iter_mut().zip(voxel) {
                *least = least.min(v);
            }
        }
    }
    let strides = strides(spatial);
    let at = |axis: usize, i: usize| {
        let i = first[axis] + i as isize;
        (0..spatial[axis] as isize)
            .contains(&i)
            .then(|| i as usize * strides[axis])
    };
    let mut out = Vec::with_capacity(size.iter().product::<usize>() * channels);
    for d in 0..size[0] {
        for h in 0..size[1] {
            let row = at(0, d).zip(at(1, h)).map(|(a, b)| a + b);
            for w in 0..size[2] {
                match row.zip(at(2, w)) {
                    Some((row, w)) => {
                        let voxel = (row + w) * channels;
                        out.extend_from_slice(&values[voxel..voxel + channels]);
                    }
                    None => out.extend_from_slice(&least),
                }
            }
        }
    }
    out
}
