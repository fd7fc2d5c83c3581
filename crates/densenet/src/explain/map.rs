//! One number for each pixel.

use super::ExplainError;

/// A map over an input or over the features that were made of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// `[depth, height, width]`; depth is 1 in 2-D.
    pub shape: [usize; 3],
    /// The values in that order.
    pub data: Vec<f32>,
}

impl Map {
    /// The mean of all values.
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.data.iter().map(|&v| f64::from(v)).sum();
        sum / self.data.len().max(1) as f64
    }

    /// The smallest and the largest finite value; zeros where there is none.
    pub fn range(&self) -> [f32; 2] {
        let finite = self.data.iter().copied().filter(|v| v.is_finite());
        let range = finite.fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], v| {
            [low.min(v), high.max(v)]
        });
        match range[0] <= range[1] {
            true => range,
            false => [0.0; 2],
        }
    }

    /// The map itself, if all of it is finite.
    pub(super) fn finite(self, what: &str) -> Result<Map, ExplainError> {
        match self.data.iter().all(|v| v.is_finite()) {
            true => Ok(self),
            false => Err(ExplainError::NonFinite {
                what: what.to_string(),
            }),
        }
    }

    /// The map stretched to `spatial` by linear interpolation between the centres of its pixels, as PyTorch's
    /// `interpolate(mode="bilinear" or "trilinear", align_corners=False)` does it: every map pixel stands for an equal part
    /// of the target, and beyond the outer centres the border's value continues.
    pub fn resized(&self, spatial: [usize; 3]) -> Map {
        let (mut data, mut shape) = (self.data.clone(), self.shape);
        for axis in 0..3 {
            if shape[axis] == spatial[axis] {
                continue;
            }
            let before: usize = shape[..axis].iter().product();
            let after: usize = shape[axis + 1..].iter().product();
            data = along(&data, [before, shape[axis], after], spatial[axis]);
            shape[axis] = spatial[axis];
        }
        Map { shape, data }
    }
}

/// Resamples the middle axis of `[before][n][after]` to `to` positions.
fn along(data: &[f32], [before, n, after]: [usize; 3], to: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(before * to * after);
    let step = n as f64 / to.max(1) as f64;
    for part in data.chunks_exact((n * after).max(1)) {
        for o in 0..to {
            let place = ((o as f64 + 0.5) * step - 0.5).max(0.0);
            let first = (place as usize).min(n - 1);
            let second = (first + 1).min(n - 1);
            let share = (place - first as f64) as f32;
            let row = |i: usize| &part[i * after..(i + 1) * after];
            let pairs = row(first).iter().zip(row(second));
            out.extend(pairs.map(|(a, b)| (1.0 - share) * a + share * b));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretching_interpolates_between_centres() {
        let map = Map {
            shape: [1, 1, 2],
            data: vec![0.0, 8.0],
        };
        // torch.nn.functional.interpolate([[0, 8]], size=4, mode="linear"): 0, 2, 6, 8.
        let wide = map.resized([1, 1, 4]);
        assert_eq!(wide.data, [0.0, 2.0, 6.0, 8.0]);
        assert_eq!(map.resized([1, 3, 2]).data, [0.0, 8.0].repeat(3));
        assert_eq!(map.resized([2, 1, 1]).data, [4.0, 4.0]);
        assert_eq!(map.resized([1, 1, 2]), map);
        assert_eq!((map.mean(), map.range()), (4.0, [0.0, 8.0]));
    }
}
