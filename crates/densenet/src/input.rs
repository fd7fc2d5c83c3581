//! What a network reads.

use densenet_spec::Trace;

use crate::{NetworkError, plan::Plan};

/// A batch of images or volumes, channels-last: `[batch][depth][height][width][channel]`.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The values.
    pub data: &'a [f32],
    /// Samples.
    pub batch: usize,
    /// `[depth, height, width]`; depth is 1 in 2-D.
    pub spatial: [usize; 3],
}

impl Input<'_> {
    /// Checks the input against a network and follows it through.
    pub(crate) fn trace(&self, plan: &Plan) -> Result<Trace, NetworkError> {
        let trace = plan.architecture.trace(self.spatial)?;
        self.check_length(plan)?;
        Ok(trace)
    }

    /// Checks that there are as many values as the batch and the size say.
    pub(crate) fn check_length(&self, plan: &Plan) -> Result<(), NetworkError> {
        let channels = plan.architecture.config().in_channels;
        let expected = self
            .spatial
            .iter()
            .try_fold(self.batch * channels, |n, s| n.checked_mul(*s));
        if expected != Some(self.data.len()) {
            return Err(NetworkError::InputLength {
                batch: self.batch,
                spatial: self.spatial,
                channels,
                expected: expected.unwrap_or(usize::MAX),
                found: self.data.len(),
            });
        }
        Ok(())
    }
}

/// PyTorch's order to ours: `[batch][channel][pixel]` to `[batch][pixel][channel]`.
pub fn to_channels_last(data: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    swap(data, channels, pixels)
}

/// Our order to PyTorch's: `[batch][pixel][channel]` to `[batch][channel][pixel]`.
pub fn to_channels_first(data: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    swap(data, pixels, channels)
}

/// Transposes each `rows × columns` matrix of a batch.
fn swap(data: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut swapped = Vec::with_capacity(data.len());
    for sample in data.chunks_exact((rows * columns).max(1)) {
        for column in 0..columns {
            swapped.extend(sample[column..].iter().step_by(columns));
        }
    }
    swapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_each_others_inverse() {
        let nchw: Vec<f32> = (0..2 * 3 * 5).map(|i| i as f32).collect();
        let nhwc = to_channels_last(&nchw, 3, 5);
        assert_eq!(nhwc[..6], [0.0, 5.0, 10.0, 1.0, 6.0, 11.0]);
        assert_eq!(to_channels_first(&nhwc, 3, 5), nchw);
    }
}
