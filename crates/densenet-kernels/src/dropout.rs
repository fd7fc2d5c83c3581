//! Elementwise dropout with a counter-based generator.
//!
//! Which elements are dropped is a function of the seed, the step, the layer and the element alone, so that neither
//! threads nor an interruption change it, and the backward pass draws the same mask again instead of storing it.

use densenet_spec::philox4x32;

use crate::{
    KernelError, Raster,
    error::at_least,
    parallel::{Shared, for_each},
};

/// Which mask is meant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The run's seed.
    pub seed: u64,
    /// The optimiser step.
    pub step: u64,
    /// The layer's index in the network.
    pub layer: u32,
    /// Probability that an element is dropped, in [0, 1).
    pub rate: f64,
}

impl Dropout {
    /// Zeroes each element of the first `channels` channels with probability `rate` and scales the rest by
    /// `1 / (1 − rate)`. Forward and backward are the same operation.
    ///
    /// # Errors
    /// The buffer is too small.
    pub fn apply(
        &self,
        channels: usize,
        data: &mut [f32],
        raster: &Raster,
    ) -> Result<(), KernelError> {
        at_least("dropout", "map", raster.len(), data.len())?;
        at_least(
            "dropout",
            "channels",
            raster.offset + channels,
            raster.stride,
        )?;
        let keep = (1.0 / (1.0 - self.rate)) as f32;
        // An element is dropped where its 32 random bits lie below rate · 2³².
        let threshold = (self.rate * 4_294_967_296.0) as u32;
        let width = raster.spatial[2];
        let shared = Shared::new(data);
        for_each(raster.rows(), |row| {
            for x in 0..width {
                // SAFETY: every row belongs to one task; the buffer was checked to hold the raster.
                let pixel = unsafe { shared.slice(raster.row(row) + x * raster.stride, channels) };
                let first = ((row * width + x) * channels) as u64;
                let mut bits = [0; 4];
                for (i, value) in pixel.iter_mut().enumerate() {
                    let element = first + i as u64;
                    if i == 0 || element.is_multiple_of(4) {
                        bits = self.bits(element / 4);
                    }
                    let dropped = bits[(element % 4) as usize] < threshold;
                    *value = if dropped { 0.0 } else { *value * keep };
                }
            }
        });
        Ok(())
    }

    /// Four random words for elements `4·block …  4·block + 3`.
    fn bits(&self, block: u64) -> [u32; 4] {
        philox4x32(
            [
                self.seed as u32,
                (self.seed >> 32) as u32 ^ (self.step >> 32) as u32,
            ],
            [
                block as u32,
                (block >> 32) as u32,
                self.layer,
                self.step as u32,
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_the_asked_share_and_keeps_the_mean() {
        let raster = Raster::dense(2, [1, 50, 50], 7).at(2);
        let dropout = Dropout {
            seed: 1,
            step: 2,
            layer: 3,
            rate: 0.25,
        };
        let mut data = vec![1.0; raster.len()];
        dropout.apply(5, &mut data, &raster).unwrap();
        let touched: Vec<f32> = data.chunks(7).flat_map(|p| p[2..].to_vec()).collect();
        let dropped = touched.iter().filter(|v| **v == 0.0).count() as f64 / touched.len() as f64;
        assert!((dropped - 0.25).abs() < 0.01, "{dropped}");
        assert!(touched.iter().all(|v| *v == 0.0 || *v == 4.0 / 3.0));
        assert!(data.chunks(7).all(|p| p[..2] == [1.0, 1.0]));
        let mut other = vec![1.0; raster.len()];
        Dropout {
            layer: 4,
            ..dropout
        }
        .apply(5, &mut other, &raster)
        .unwrap();
        assert_ne!(data, other);
    }
}
