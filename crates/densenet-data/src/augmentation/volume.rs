//! The random changes to volumes, on prepared voxels `[depth][height][width][channel]`.

use super::{Augmentation, SampleKey};
use crate::random::{Purpose, Stream};

/// A volume that is being changed.
struct Voxels<'a> {
    values: &'a mut [f32],
    spatial: [usize; 3],
    channels: usize,
    /// Each channel's smallest value: what moves in from outside.
    least: Vec<f32>,
}

impl Augmentation {
    /// Everything between the change of size and the last normalisation: shift, flips, turns, values.
    pub(crate) fn change_volume(
        &self,
        values: &mut [f32],
        spatial: [usize; 3],
        channels: usize,
        key: SampleKey,
    ) {
        let stream = |purpose| Stream::new(key.seed, key.epoch, key.index, purpose);
        let mut least = vec![f32::INFINITY; channels];
        for voxel in values.chunks_exact(channels) {
            for (least, &v) in least.iter_mut().zip(voxel) {
                *least = least.min(v);
            }
        }
        let mut voxels = Voxels {
            values,
            spatial,
            channels,
            least,
        };
        if self.padded_crop > 0 {
            let mut random = stream(Purpose::PaddedCrop);
            let most = self.padded_crop;
            let shift = [(); 3].map(|()| random.below(2 * most + 1) as isize - most as isize);
            if shift != [0; 3] {
                voxels.gather(|at| std::array::from_fn(|axis| at[axis] as isize + shift[axis]));
            }
        }
        let flips = [
            (Purpose::DepthFlip, self.depth_flip),
            (Purpose::VerticalFlip, self.vertical_flip),
            (Purpose::HorizontalFlip, self.horizontal_flip),
        ]
        .map(|(purpose, probability)| probability > 0.0 && stream(purpose).chance(probability));
        if flips != [false; 3] {
            voxels.gather(|at| {
                std::array::from_fn(|axis| {
                    let i = at[axis];
                    (if flips[axis] {
                        spatial[axis] - 1 - i
                    } else {
                        i
                    }) as isize
                })
            });
        }
        if self.quarter_turns > 0.0 {
            let mut random = stream(Purpose::QuarterTurns);
            for (first, second) in [(1, 2), (0, 2), (0, 1)] {
                // Drawn for every axis, so that a size does not change another axis's number.
                let (chosen, turns) = (random.chance(self.quarter_turns), 1 + random.below(3));
                if chosen && spatial[first] == spatial[second] {
                    voxels.quarter_turns(first, second, turns);
                }
            }
        }
        if self.rotation > 0.0 || self.scaling > 0.0 {
            let mut random = stream(Purpose::Rotation);
            let angles =
                [(); 3].map(|()| random.between(-self.rotation, self.rotation).to_radians());
            let factor = stream(Purpose::Scaling).between(1.0 - self.scaling, 1.0 + self.scaling);
            voxels.turn(angles, factor.max(0.05));
        }
        if self.brightness > 0.0 || self.contrast > 0.0 {
            let mut random = stream(Purpose::Jitter);
            let mut factor = |strength: f32| random.between(1.0 - strength, 1.0 + strength);
            let (brightness, contrast) = (factor(self.brightness), factor(self.contrast));
            voxels.each_channel(|values| {
                let mean = mean(values.iter().map(|v| **v)) * brightness;
                for v in values {
                    *v = (*v * brightness - mean) * contrast + mean;
                }
            });
        }
        if self.gamma > 0.0 {
            let gamma = stream(Purpose::Gamma)
                .between(-self.gamma, self.gamma)
                .exp();
            voxels.each_channel(|values| {
                let (low, high) = values
                    .iter()
                    .fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| {
                        (l.min(**v), h.max(**v))
                    });
                let range = high - low;
                if range > 0.0 {
                    for v in values {
                        *v = ((*v - low) / range).max(0.0).powf(gamma) * range + low;
                    }
                }
            });
        }
        if self.noise > 0.0 {
            let mut random = stream(Purpose::Noise);
            let share = random.between(0.0, self.noise);
            voxels.each_channel(|values| {
                let mean = mean(values.iter().map(|v| **v));
                let variance = values.iter().map(|v| (**v - mean).powi(2)).sum::<f32>()
                    / values.len().max(1) as f32;
                let strength = share * variance.sqrt();
                for v in values {
                    *v += strength * normal(&mut random);
                }
            });
        }
    }
}

fn mean(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let n = values.len().max(1) as f64;
    (values.map(f64::from).sum::<f64>() / n) as f32
}

/// Twelve uniform numbers less six: variance 1, and the same bits on every machine.
fn normal(random: &mut Stream) -> f32 {
    // Six 16-bit halves of three draws, centred; their variance is 6/12 of the square of their range.
    let mut sum = 0.0;
    for _ in 0..3 {
        let bits = random.next_u32();
        sum += (bits >> 16) as f32 + (bits & 0xFFFF) as f32;
    }
    (sum / 65536.0 - 3.0) * std::f32::consts::SQRT_2
}

impl Voxels<'_> {
    /// Rebuild every voxel from the one that `from` names; outside lies the smallest value.
    fn gather(&mut self, from: impl Fn([usize; 3]) -> [isize; 3]) {
        let source = self.values.to_vec();
        let [depth, height, width] = self.spatial;
        let mut out = self.values.chunks_exact_mut(self.channels);
        for d in 0..depth {
            for h in 0..height {
                for w in 0..width {
                    let Some(voxel) = out.next() else { return };
                    let at = from([d, h, w]);
                    let inside =
                        (0..3).all(|axis| (0..self.spatial[axis] as isize).contains(&at[axis]));
                    if inside {
                        let [d, h, w] = at.map(|v| v as usize);
                        let first = ((d * height + h) * width + w) * self.channels;
                        voxel.copy_from_slice(&source[first..first + self.channels]);
                    } else {
                        voxel.copy_from_slice(&self.least);
                    }
                }
            }
        }
    }

    /// Turned by `turns` right angles in the plane of two axes of equal length.
    fn quarter_turns(&mut self, first: usize, second: usize, turns: usize) {
        let last = self.spatial[first] - 1;
        self.gather(|at| {
            let mut from = at;
            for _ in 0..turns {
                (from[first], from[second]) = (from[second], last - from[first]);
            }
            from.map(|v| v as isize)
        });
    }

    /// Turned about each axis and scaled around the middle, trilinear.
    fn turn(&mut self, [ad, ah, aw]: [f32; 3], factor: f32) {
        let source = self.values.to_vec();
        let (spatial, channels) = (self.spatial, self.channels);
        let [_, height, width] = spatial;
        let middle = spatial.map(|n| (n as f32 - 1.0) / 2.0);
        let (turns, shrink) = ([ad, ah, aw].map(f32::sin_cos), 1.0 / factor);
        let planes = [(1, 2), (0, 2), (0, 1)];
        let mut sum = vec![0.0; channels];
        for (i, voxel) in self.values.chunks_exact_mut(channels).enumerate() {
            let at = [i / (height * width), i / width % height, i % width];
            let mut p: [f32; 3] =
                std::array::from_fn(|axis| (at[axis] as f32 - middle[axis]) * shrink);
            for ((sin, cos), (a, b)) in turns.into_iter().zip(planes) {
                (p[a], p[b]) = (cos * p[a] - sin * p[b], sin * p[a] + cos * p[b]);
            }
            let p: [f32; 3] = std::array::from_fn(|axis| p[axis] + middle[axis]);
            let base = p.map(f32::floor);
            sum.fill(0.0);
            for corner in 0..8 {
                let bits = [corner >> 2 & 1, corner >> 1 & 1, corner & 1];
                let mut weight = 1.0;
                let mut index = 0;
                let mut inside = true;
                for axis in 0..3 {
                    let fraction = p[axis] - base[axis];
                    weight *= if bits[axis] == 1 {
                        fraction
                    } else {
                        1.0 - fraction
                    };
                    let position = base[axis] + bits[axis] as f32;
                    inside &= (0.0..spatial[axis] as f32).contains(&position);
                    index = index * spatial[axis] + position.max(0.0) as usize;
                }
                if weight == 0.0 {
                    continue;
                }
                let from = if inside {
                    &source[index * channels..(index + 1) * channels]
                } else {
                    self.least.as_slice()
                };
                for (sum, v) in sum.iter_mut().zip(from) {
                    *sum += weight * v;
                }
            }
            voxel.copy_from_slice(&sum);
        }
    }

    /// Hand over the values of one channel after the other.
    fn each_channel(&mut self, mut change: impl FnMut(Vec<&mut f32>)) {
        for channel in 0..self.channels {
            change(
                self.values
                    .iter_mut()
                    .skip(channel)
                    .step_by(self.channels)
                    .collect(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SampleKey = SampleKey {
        seed: 1,
        epoch: 2,
        index: 3,
    };

    fn ramp(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i + 1) as f32).collect()
    }

    fn changed(text: &str, spatial: [usize; 3], channels: usize, key: SampleKey) -> Vec<f32> {
        let mut values = ramp(spatial.iter().product::<usize>() * channels);
        let augmentation: Augmentation = text.parse().unwrap();
        augmentation.change_volume(&mut values, spatial, channels, key);
        values
    }

    #[test]
    fn flips_mirror_voxels_not_channels() {
        assert_eq!(
            changed("dflip:1", [3, 1, 1], 2, KEY),
            [5.0, 6.0, 3.0, 4.0, 1.0, 2.0]
        );
        let mut all = ramp(24);
        all.reverse();
        assert_eq!(changed("dflip:1,hflip:1,vflip:1", [2, 3, 4], 1, KEY), all);
    }

    #[test]
    fn quarter_turns_move_every_voxel_and_lose_none() {
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..200 {
            let mut out = changed("rot90:1", [3, 3, 3], 1, SampleKey { index, ..KEY });
            seen.insert(out.iter().map(|v| *v as u32).collect::<Vec<_>>());
            out.sort_by(f32::total_cmp);
            assert_eq!(out, ramp(27));
        }
        // Never the plain volume's 24 turns all, but many of them.
        assert!((12..=24).contains(&seen.len()), "{}", seen.len());
        assert_eq!(changed("rot90:1", [2, 3, 4], 1, KEY), ramp(24));
    }

    #[test]
    fn turning_by_nothing_changes_nothing_and_small_turns_little() {
        let mut values = ramp(4 * 5 * 6);
        let least = vec![1.0];
        let mut voxels = Voxels {
            values: &mut values,
            spatial: [4, 5, 6],
            channels: 1,
            least,
        };
        voxels.turn([0.0; 3], 1.0);
        assert_eq!(values, ramp(4 * 5 * 6));
        let turned = changed("rotate:5,scale:0.05", [9, 9, 9], 1, KEY);
        let middle = 9 * 9 * 4 + 9 * 4 + 4;
        assert!((turned[middle] - (middle + 1) as f32).abs() < 1e-3);
    }

    #[test]
    fn values_change_as_said() {
        let plain = ramp(1000);
        let gamma = changed("gamma:0.5", [10, 10, 10], 1, KEY);
        assert!((gamma[0], gamma[999]) == (1.0, 1000.0) && gamma != plain);
        assert!(gamma.windows(2).all(|w| w[0] <= w[1]));
        let noisy = changed("noise:0.1", [10, 10, 10], 1, KEY);
        let difference: f32 = noisy
            .iter()
            .zip(&plain)
            .map(|(a, b)| (a - b).abs())
            .sum::<f32>()
            / 1000.0;
        assert!(
            (0.0..40.0).contains(&difference) && difference > 0.0,
            "{difference}"
        );
        let mut random = Stream::new(7, 0, 0, Purpose::Noise);
        let draws: Vec<f32> = (0..20_000).map(|_| normal(&mut random)).collect();
        let variance = draws.iter().map(|v| v * v).sum::<f32>() / 20_000.0;
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    fn what_moves_in_is_the_smallest_value() {
        for index in 0..50 {
            let out = changed("crop:2", [4, 4, 4], 1, SampleKey { index, ..KEY });
            assert!(out.iter().all(|v| *v >= 1.0));
        }
    }
}
