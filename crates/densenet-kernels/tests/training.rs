//! The fused passes of a training step against sums in f64, for every instruction set.

use densenet_kernels::{
    Isa, Operand, Panels, Raster,
    norm::{Affine, Combination, Statistics},
    pointwise::{OutputGradient, PointwiseBackward, PointwiseForward, PointwiseTargets},
    winograd::{FusedStore, FusedWeights, FusedWinograd, WinogradGradient},
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

#[test]
fn pointwise_backward() {
    let shapes = [
        (1, [1, 1, 1], 3, 5),
        (2, [1, 9, 7], 40, 48),
        (1, [3, 20, 13], 70, 12),
        (3, [1, 21, 16], 130, 33),
        (2, [1, 40, 17], 24, 128),
    ];
    for &isa in Isa::available() {
        for (i, (batch, spatial, c_in, c_out)) in shapes.into_iter().enumerate() {
            for rest in [false, true] {
                pointwise_backward_case(isa, (batch, spatial), [c_in, c_out], rest, i as u64);
            }
        }
    }
}

fn pointwise_backward_case(
    isa: Isa,
    (batch, spatial): (usize, [usize; 3]),
    [c_in, c_out]: [usize; 2],
    with_rest: bool,
    seed: u64,
) {
    let what = format!(
        "{} {batch}×{spatial:?} {c_in}→{c_out} {with_rest}",
        isa.name()
    );
    let raster = Raster::dense(batch, spatial, c_in + 7).at(2);
    let narrow = Raster::dense(batch, spatial, c_out);
    let x = values(raster.len(), seed);
    let grad = values(narrow.len(), seed + 10);
    let map = values(narrow.len(), seed + 11);
    let weight = values(c_in * c_out, seed + 12);
    let norm = Norm::new(c_in, seed + 20);
    let (a, b) = (values(c_out, seed + 30), values(c_out, seed + 31));
    let (constant, mean) = (values(c_out, seed + 32), values(c_out, seed + 33));
    let combination = Combination {
        of_grad: &a,
        of_input: &b,
        constant: &constant,
        mean: &mean,
    };
    let panels = Panels::packed(isa, &weight, [1, c_in, c_out], Operand::BackwardInput).unwrap();
    let before = values(raster.len(), seed + 40);
    let mut grad_input = before.clone();
    let weight_before = values(c_in * c_out, seed + 41);
    let mut grad_weight = weight_before.clone();
    let pixels = raster.pixels();
    let mut partials = vec![f32::NAN; PointwiseBackward::partials(isa, [c_in, c_out], pixels)];
    let mut partial_sums = vec![f64::NAN; PointwiseBackward::partial_sums(isa, c_in, pixels)];
    let (mut sum, mut sum_x) = (vec![f64::NAN; c_in], vec![f64::NAN; c_in]);
    let backward = PointwiseBackward {
        input: (&x, raster),
        affine: norm.affine(),
        statistics: norm.statistics(),
        grad_output: OutputGradient {
            grad: (&grad, narrow),
            rest: with_rest.then_some((combination, &map[..], narrow)),
        },
        weights: &panels,
    };
    let targets = PointwiseTargets {
        grad_input: &mut grad_input,
        grad_weight: Some((&mut grad_weight, &mut partials)),
        sums: [&mut sum, &mut sum_x],
        partial_sums: &mut partial_sums,
    };
    backward.run(targets).unwrap();

    let g = |p: usize, o: usize| -> f64 {
        let place = narrow.pixel(p) + o;
        if !with_rest {
            return f64::from(grad[place]);
        }
        let rest = f64::from(b[o]) * f64::from(map[place] - mean[o]) + f64::from(constant[o]);
        f64::from(a[o]) * f64::from(grad[place]) + rest
    };
    let mut touched = vec![false; raster.len()];
    let mut exact_weight = vec![0.0f64; c_in * c_out];
    for c in 0..c_in {
        let (mut exact_sum, mut exact_x, mut size) = (0.0, 0.0, 0.0);
        for p in 0..pixels {
            let place = raster.pixel(p) + c;
            touched[place] = true;
            let active = norm.at(c, x[place], fused(isa)).max(0.0);
            let (mut product, mut terms) = (0.0, 0.0);
            for o in 0..c_out {
                let term = g(p, o) * f64::from(weight[c * c_out + o]);
                (product, terms) = (product + term, terms + term.abs());
                exact_weight[c * c_out + o] += f64::from(active) * g(p, o);
            }
            let m = if active > 0.0 { product } else { 0.0 };
            let expected = f64::from(before[place]) + f64::from(norm.scale[c]) * m;
            let found = f64::from(grad_input[place]);
            assert_near(found, expected, 2.0 * c_out as f64, terms + 1.0, &what);
            exact_sum += m;
            exact_x += m * f64::from(x[place] - norm.mean[c]) * f64::from(norm.inv_std[c]);
            size += terms;
        }
        let factor = (c_out + 90) as f64;
        assert_near(sum[c], exact_sum, factor, size, &format!("{what}: Σ m"));
        assert_near(
            sum_x[c],
            exact_x,
            factor,
            6.0 * size,
            &format!("{what}: Σ m·x̂"),
        );
    }
    for (i, (found, exact)) in grad_weight.iter().zip(&exact_weight).enumerate() {
        let exact = exact + f64::from(weight_before[i]);
        assert_near(f64::from(*found), exact, 2.0 * pixels as f64, 12.0, &what);
    }
    // What does not belong to the layer stays as it was.
    for (i, touched) in touched.into_iter().enumerate() {
        assert!(touched || grad_input[i] == before[i], "{what}: {i}");
    }
}

#[test]
fn pointwise_forward() {
    for &isa in Isa::available() {
        for (batch, spatial, c_in, c_out) in [
            (1, [1, 1, 2], 3, 5),
            (2, [1, 9, 7], 40, 48),
            (1, [3, 20, 13], 70, 12),
            (2, [1, 30, 16], 24, 130),
        ] {
            let what = format!("{} {batch}×{spatial:?} {c_in}→{c_out}", isa.name());
            let from = Raster::dense(batch, spatial, c_in + 5).at(1);
            let to = Raster::dense(batch, spatial, c_out + 3).at(2);
            let x = values(from.len(), 1);
            let weight = values(c_in * c_out, 2);
            let norm = Norm::new(c_in, 3);
            let weights = Panels::packed(isa, &weight, [1, c_in, c_out], Operand::Forward).unwrap();
            let mut output = vec![f32::NAN; to.len()];
            let (mut mean, mut variance) = (vec![f64::NAN; c_out], vec![f64::NAN; c_out]);
            let needed = PointwiseForward::partial_sums(c_out, to.pixels());
            let forward = PointwiseForward {
                input: (&x, from),
                affine: norm.affine(),
                weights: &weights,
            };
            let moments = [&mut mean[..], &mut variance[..]];
            forward
                .run((&mut output, &to), moments, &mut vec![f64::NAN; needed])
                .unwrap();
            for o in 0..c_out {
                let column: Vec<f64> = (0..to.pixels())
                    .map(|p| {
                        let found = f64::from(output[to.pixel(p) + o]);
                        let (mut exact, mut size) = (0.0, 0.0);
                        for c in 0..c_in {
                            let n = norm.at(c, x[from.pixel(p) + c], fused(isa)).max(0.0);
                            let term = f64::from(n) * f64::from(weight[c * c_out + o]);
                            (exact, size) = (exact + term, size + term.abs());
                        }
                        assert_near(found, exact, c_in as f64, size, &what);
                        found
                    })
                    .collect();
                assert_moments(&column, mean[o], variance[o], &what);
            }
        }
    }
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

/// A 3×3 or 3×3×3 window and maps whose edges cut tiles.
fn tiled_cases() -> Vec<(Window, usize, [usize; 3], [usize; 2])> {
    let window = |depth: usize| Window {
        kernel: [depth, 3, 3],
        stride: [1; 3],
        padding: [depth / 2, 1, 1],
    };
    vec![
        (window(1), 1, [1, 1, 1], [3, 2]),
        (window(1), 2, [1, 7, 7], [20, 12]),
        (window(1), 3, [1, 16, 13], [48, 12]),
        (window(1), 1, [2, 17, 14], [68, 33]),
        (window(3), 1, [2, 3, 2], [5, 4]),
        (window(3), 2, [5, 6, 7], [36, 32]),
    ]
}

/// The convolution's pairs of an output pixel, an input pixel and a tap.
fn pairs(
    window: &Window,
    batch: usize,
    [depth, height, width]: [usize; 3],
    mut visit: impl FnMut(usize, usize, usize),
) {
    let [kd, kh, kw] = window.kernel;
    for p in 0..batch * depth * height * width {
        let (x, y) = (p % width, p / width % height);
        let (z, n) = (p / (width * height) % depth, p / (width * height * depth));
        for tap in 0..kd * kh * kw {
            let at = |o: usize, k: usize, pad: usize, size: usize| {
                (o + k).checked_sub(pad).filter(|i| *i < size)
            };
            let iz = at(z, tap / (kh * kw), window.padding[0], depth);
            let iy = at(y, tap / kw % kh, window.padding[1], height);
            let ix = at(x, tap % kw, window.padding[2], width);
            if let (Some(iz), Some(iy), Some(ix)) = (iz, iy, ix) {
                visit(p, ((n * depth + iz) * height + iy) * width + ix, tap);
            }
        }
    }
}

/// Tiles of 2 lose a few bits more than a direct sum of so many terms.
const TILES: f64 = 8.0;

#[test]
fn tiles_forward_with_the_norm_before_and_the_moments_behind() {
    for &isa in Isa::available() {
        for (window, batch, spatial, [c_in, c_out]) in tiled_cases() {
            let what = format!("{} {batch}×{spatial:?} {c_in}→{c_out}", isa.name());
            let from = Raster::dense(batch, spatial, c_in + 2).at(1);
            let to = Raster::dense(batch, spatial, c_out + 5).at(3);
            let x = values(from.len(), 5);
            let norm = Norm::new(c_in, 6);
            let weight = values(window.taps() * c_in * c_out, 7);
            let mut weights = FusedWeights::new(isa, &window).unwrap();
            weights
                .pack(&weight, [c_in, c_out], Operand::Forward)
                .unwrap();
            let mut output = vec![f32::NAN; to.len()];
            let (mut mean, mut variance) = (vec![f64::NAN; c_out], vec![f64::NAN; c_out]);
            let needed = FusedWinograd::partial_sums(&window, c_out, &to);
            let forward = FusedWinograd {
                source: (&x, from),
                affine: Some(norm.affine()),
                weights: &weights,
            };
            let store = FusedStore::Moments([&mut mean, &mut variance]);
            forward
                .run((&mut output, &to), store, &mut vec![f64::NAN; needed])
                .unwrap();
            let mut exact = vec![[0.0f64; 2]; to.pixels() * c_out];
            pairs(&window, batch, spatial, |p, q, tap| {
                for c in 0..c_in {
                    let n = norm.at(c, x[from.pixel(q) + c], fused(isa)).max(0.0);
                    for o in 0..c_out {
                        let w = weight[(tap * c_in + c) * c_out + o];
                        let term = f64::from(n) * f64::from(w);
                        exact[p * c_out + o][0] += term;
                        exact[p * c_out + o][1] += term.abs();
                    }
                }
            });
            // A tile's sums reach over all of its patch.
            let size = exact.iter().map(|e| e[1]).fold(0.0, f64::max) + c_in as f64;
            for o in 0..c_out {
                let column: Vec<f64> = (0..to.pixels())
                    .map(|p| {
                        let found = f64::from(output[to.pixel(p) + o]);
                        assert_near(found, exact[p * c_out + o][0], TILES, size, &what);
                        found
                    })
                    .collect();
                assert_moments(&column, mean[o], variance[o], &what);
            }
        }
    }
}

#[test]
fn tiles_backward_with_the_mask_behind() {
    for &isa in Isa::available() {
        for (window, batch, spatial, [c_in, c_out]) in tiled_cases() {
            let what = format!("{} {batch}×{spatial:?} {c_in}→{c_out}", isa.name());
            // The gradient of `c_out` channels comes in, that of `c_in` goes out.
            let from = Raster::dense(batch, spatial, c_out).with_halo(window.padding);
            let to = Raster::dense(batch, spatial, c_in);
            let grad = values(from.len(), 8);
            let x = values(to.len(), 9);
            let norm = Norm::new(c_in, 10);
            let weight = values(window.taps() * c_in * c_out, 11);
            let mut weights = FusedWeights::new(isa, &window).unwrap();
            weights
                .pack(&weight, [c_in, c_out], Operand::BackwardInput)
                .unwrap();
            let mut output = vec![f32::NAN; to.len()];
            let (mut sum, mut sum_x) = (vec![f64::NAN; c_in], vec![f64::NAN; c_in]);
            let needed = FusedWinograd::partial_sums(&window, c_in, &to);
            let backward = FusedWinograd {
                source: (&grad, from),
                affine: None,
                weights: &weights,
            };
            let store = FusedStore::Masked {
                input: (&x, to),
                affine: norm.affine(),
                statistics: norm.statistics(),
                sums: [&mut sum, &mut sum_x],
            };
            backward
                .run((&mut output, &to), store, &mut vec![f64::NAN; needed])
                .unwrap();
            let mut exact = vec![[0.0f64; 2]; to.pixels() * c_in];
            pairs(&window, batch, spatial, |p, q, tap| {
                for c in 0..c_in {
                    for o in 0..c_out {
                        let w = f64::from(weight[(tap * c_in + c) * c_out + o]);
                        let term = w * f64::from(grad[from.pixel(p) + o]);
                        exact[q * c_in + c][0] += term;
                        exact[q * c_in + c][1] += term.abs();
                    }
                }
            });
            let size = exact.iter().map(|e| e[1]).fold(0.0, f64::max) + c_out as f64;
            for c in 0..c_in {
                let (mut exact_sum, mut exact_x) = (0.0, 0.0);
                for p in 0..to.pixels() {
                    let x = x[to.pixel(p) + c];
                    let active = norm.at(c, x, fused(isa)) > 0.0;
                    let m = if active { exact[p * c_in + c][0] } else { 0.0 };
                    assert_near(f64::from(output[to.pixel(p) + c]), m, TILES, size, &what);
                    exact_sum += m;
                    exact_x += m * f64::from(x - norm.mean[c]) * f64::from(norm.inv_std[c]);
                }
                let all = size * to.pixels() as f64;
                assert_near(sum[c], exact_sum, TILES, all, &format!("{what}: Σ m"));
                assert_near(
                    sum_x[c],
                    exact_x,
                    TILES,
                    6.0 * all,
                    &format!("{what}: Σ m·x̂"),
                );
            }
        }
    }
}

#[test]
fn weight_gradient_by_tiles() {
    for &isa in Isa::available() {
        for (window, batch, spatial, [c_in, c_out]) in tiled_cases() {
            for normalised in [false, true] {
                let what = format!("{} {batch}×{spatial:?} {c_in}→{c_out}", isa.name());
                let from = Raster::dense(batch, spatial, c_in + 4).at(2);
                let to = Raster::dense(batch, spatial, c_out).with_halo(window.padding);
                let x = values(from.len(), 12);
                let norm = Norm::new(c_in, 13);
                let grad = values(to.len(), 14);
                let before = values(window.taps() * c_in * c_out, 15);
                let mut found = before.clone();
                let channels = [c_in, c_out];
                let needed = WinogradGradient::partials(isa, &window, channels, &to);
                let gradient = WinogradGradient {
                    window,
                    source: (&x, from),
                    affine: normalised.then(|| norm.affine()),
                    channels,
                    grad_output: (&grad, to),
                };
                gradient
                    .run(isa, &mut found, &mut vec![f32::NAN; needed])
                    .unwrap();
                let mut exact: Vec<f64> = before.iter().map(|v| f64::from(*v)).collect();
                pairs(&window, batch, spatial, |p, q, tap| {
                    for c in 0..c_in {
                        let x = x[from.pixel(q) + c];
                        let n = match normalised {
                            true => norm.at(c, x, fused(isa)).max(0.0),
                            false => x,
                        };
                        for o in 0..c_out {
                            let g = grad[to.pixel(p) + o];
                            exact[(tap * c_in + c) * c_out + o] += f64::from(n) * f64::from(g);
                        }
                    }
                });
                let size = 2.0 * to.pixels() as f64 + 2.0;
                for (found, exact) in found.iter().zip(exact) {
                    assert_near(f64::from(*found), exact, TILES, size, &what);
                }
            }
        }
    }
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
    assert!(!FusedWinograd::pays(&strided, &raster) && !WinogradGradient::pays(&strided, &raster));
}
