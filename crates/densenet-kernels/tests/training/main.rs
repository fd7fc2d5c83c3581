//! The fused passes of a training step against sums in f64, for every instruction set.

mod pointwise;
mod stem;
mod tiles;

use densenet_kernels::{
    Isa, Operand, Panels, Raster,
    norm::{Affine, Statistics},
    pointwise::PointwiseForward,
    winograd::{FusedWeights, FusedWinograd, WinogradGradient},
};
use densenet_spec::Window;

/// Numbers in −1…1.
fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64 ^ seed.wrapping_mul(0xD134_2543_DE82_EF95);
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

/// Per-channel values of a norm, with their statistics.
struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    mean: Vec<f32>,
    inv_std: Vec<f32>,
}

impl Norm {
    fn new(channels: usize, seed: u64) -> Self {
        let inv_std = values(channels, seed + 3).iter().map(|v| 1.5 + v).collect();
        Norm {
            scale: values(channels, seed),
            shift: values(channels, seed + 1),
            mean: values(channels, seed + 2),
            inv_std,
        }
    }

    fn affine(&self) -> Affine<'_> {
        Affine {
            scale: &self.scale,
            shift: &self.shift,
        }
    }

    fn statistics(&self) -> Statistics<'_> {
        Statistics {
            mean: &self.mean,
            inv_std: &self.inv_std,
        }
    }

    /// The norm's output before the ReLU, rounded as the kernels round it.
    fn at(&self, c: usize, x: f32, fused: bool) -> f32 {
        match fused {
            true => self.scale[c].mul_add(x, self.shift[c]),
            false => self.scale[c] * x + self.shift[c],
        }
    }
}

/// Whether `isa` fuses multiply and add.
fn fused(isa: Isa) -> bool {
    isa != Isa::PORTABLE
}

/// Asserts `|found − exact| ≤ factor · eps · magnitude`, where the magnitude is that of the sum's terms.
#[track_caller]
fn assert_near(found: f64, exact: f64, factor: f64, magnitude: f64, what: &str) {
    let bound = factor * f64::from(f32::EPSILON) * magnitude + 1e-30;
    assert!(
        (found - exact).abs() <= bound,
        "{what}: {found} instead of {exact}, off by {:e} of {bound:e}",
        (found - exact).abs()
    );
}

/// Mean and variance are those of what was stored.
#[track_caller]
fn assert_moments(stored: &[f64], mean: f64, variance: f64, what: &str) {
    let count = stored.len() as f64;
    let exact = stored.iter().sum::<f64>() / count;
    let spread = stored
        .iter()
        .map(|v| (v - exact) * (v - exact))
        .sum::<f64>()
        / count;
    assert!((mean - exact).abs() < 1e-12 * (1.0 + exact.abs()), "{what}");
    assert!(
        (variance - spread).abs() < 1e-11 * (1.0 + spread + exact * exact),
        "{what}"
    );
}

#[test]
fn buffers_that_do_not_fit_are_named() {
    let isa = Isa::PORTABLE;
    let raster = Raster::dense(1, [1, 4, 4], 3);
    let weights = Panels::packed(isa, &[0.0; 6], [1, 3, 2], Operand::Forward).unwrap();
    let norm = Norm::new(3, 1);
    let forward = PointwiseForward {
        input: (&[0.0; 47], raster),
        affine: norm.affine(),
        weights: &weights,
    };
    let to = Raster::dense(1, [1, 4, 4], 2);
    let (mut mean, mut variance) = ([0.0; 2], [0.0; 2]);
    let moments = [&mut mean[..], &mut variance[..]];
    let error = forward
        .run((&mut [0.0; 32], &to), moments, &mut [0.0; 4])
        .unwrap_err();
    assert_eq!((error.what, error.expected, error.found), ("input", 48, 47));
    let strided = Window {
        kernel: [1, 3, 3],
        stride: [1, 2, 2],
        padding: [0, 1, 1],
    };
    assert!(FusedWeights::new(isa, &strided).is_err());
    assert!(FusedWinograd::choose(&strided, &raster).is_none());
    assert!(WinogradGradient::choose(&strided, &raster).is_none());
}
