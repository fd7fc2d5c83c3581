//! An exponential moving average of the weights.

use rayon::prelude::*;

/// The average of parameters and running statistics over the steps of a run.
///
/// ```text
/// d_t = min(decay, (1 + t) / (10 + t))
/// avg = avg + (1 − d_t)·(value − avg)
/// ```
/// The smaller decay of the first steps keeps a short run's average from being its initialisation.
///
/// # Source
/// Polyak & Juditsky 1992; the ramp is TensorFlow's `ExponentialMovingAverage(num_updates)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ema {
    decay: f64,
    parameters: Vec<f32>,
    buffers: Vec<f32>,
}

const CHUNK: usize = 1 << 14;

impl Ema {
    /// An average that starts at these values.
    pub fn new(decay: f64, parameters: &[f32], buffers: &[f32]) -> Self {
        Ema {
            decay,
            parameters: parameters.to_vec(),
            buffers: buffers.to_vec(),
        }
    }

    /// Takes in the values after optimiser step `step`, counted from 0.
    pub fn update(&mut self, parameters: &[f32], buffers: &[f32], step: u64) {
        let decay = self.decay.min((1.0 + step as f64) / (10.0 + step as f64));
        let share = (1.0 - decay) as f32;
        for (average, values) in [
            (&mut self.parameters, parameters),
            (&mut self.buffers, buffers),
        ] {
            average
                .par_chunks_mut(CHUNK)
                .zip(values.par_chunks(CHUNK))
                .for_each(|(average, values)| {
                    for (a, v) in average.iter_mut().zip(values) {
                        *a += share * (v - *a);
                    }
                });
        }
    }

    /// Takes the averages back from a checkpoint.
    pub(crate) fn restore(&mut self, parameters: Vec<f32>, buffers: Vec<f32>) {
        self.parameters = parameters;
        self.buffers = buffers;
    }

    /// The averaged parameters.
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The averaged running statistics.
    pub fn buffers(&self) -> &[f32] {
        &self.buffers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_with_a_ramp() {
        let mut ema = Ema::new(0.5, &[0.0, 8.0], &[1.0]);
        ema.update(&[10.0, 8.0], &[2.0], 0); // d = min(0.5, 1/10): nine tenths of the new value
        assert_eq!(ema.parameters(), [9.0, 8.0]);
        assert_eq!(ema.buffers(), [1.9]);
        ema.update(&[1.0, 0.0], &[1.9], 1_000_000); // d = 0.5
        assert_eq!(ema.parameters(), [5.0, 4.0]);
        assert_eq!(ema.buffers(), [1.9]);
    }
}
