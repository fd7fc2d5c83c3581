//! 3×3 and 3×3×3 convolutions by tiles.

use densenet_kernels::{
    Isa, Operand, Raster,
    winograd::{FusedStore, FusedWeights, FusedWinograd, Tiles, WinogradGradient},
};
use densenet_spec::Window;

use crate::{Norm, assert_moments, assert_near, fused, values};

/// A 3×3 or 3×3×3 window and maps whose edges cut tiles, for tiles of both sizes.
fn tiled_cases() -> impl Iterator<Item = (Tiles, Window, usize, [usize; 3], [usize; 2])> {
    let window = |depth: usize| Window {
        kernel: [depth, 3, 3],
        stride: [1; 3],
        padding: [depth / 2, 1, 1],
    };
    let maps = [
        (window(1), 1, [1, 1, 1], [3, 2]),
        (window(1), 2, [1, 7, 7], [20, 12]),
        (window(1), 3, [1, 16, 13], [48, 12]),
        (window(1), 1, [2, 17, 14], [68, 33]),
        (window(3), 1, [2, 3, 2], [5, 4]),
        (window(3), 2, [5, 6, 7], [36, 32]),
        (window(3), 1, [4, 12, 9], [20, 12]),
    ];
    let all = |(w, n, map, channels)| {
        [Tiles::Two, Tiles::TwoFour].map(|tiles| (tiles, w, n, map, channels))
    };
    maps.into_iter().flat_map(all)
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
        for (tiles, window, batch, spatial, [c_in, c_out]) in tiled_cases() {
            let what = format!(
                "{} {tiles:?} {batch}×{spatial:?} {c_in}→{c_out}",
                isa.name()
            );
            let from = Raster::dense(batch, spatial, c_in + 2).at(1);
            let to = Raster::dense(batch, spatial, c_out + 5).at(3);
            let x = values(from.len(), 5);
            let norm = Norm::new(c_in, 6);
            let weight = values(window.taps() * c_in * c_out, 7);
            let mut weights = FusedWeights::new(isa, &window).unwrap();
            weights
                .pack(&weight, [c_in, c_out], Operand::Forward, tiles)
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
        for (tiles, window, batch, spatial, [c_in, c_out]) in tiled_cases() {
            let what = format!(
                "{} {tiles:?} {batch}×{spatial:?} {c_in}→{c_out}",
                isa.name()
            );
            // The gradient of `c_out` channels comes in, that of `c_in` goes out.
            let from = Raster::dense(batch, spatial, c_out).with_halo(window.padding);
            let to = Raster::dense(batch, spatial, c_in);
            let grad = values(from.len(), 8);
            let x = values(to.len(), 9);
            let norm = Norm::new(c_in, 10);
            let weight = values(window.taps() * c_in * c_out, 11);
            let mut weights = FusedWeights::new(isa, &window).unwrap();
            weights
                .pack(&weight, [c_in, c_out], Operand::BackwardInput, tiles)
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
        for (tiles, window, batch, spatial, [c_in, c_out]) in tiled_cases() {
            for normalised in [false, true] {
                let what = format!(
                    "{} {tiles:?} {batch}×{spatial:?} {c_in}→{c_out}",
                    isa.name()
                );
                let from = Raster::dense(batch, spatial, c_in + 4).at(2);
                let to = Raster::dense(batch, spatial, c_out).with_halo(window.padding);
                let x = values(from.len(), 12);
                let norm = Norm::new(c_in, 13);
                let grad = values(to.len(), 14);
                let before = values(window.taps() * c_in * c_out, 15);
                let mut found = before.clone();
                let channels = [c_in, c_out];
                let needed = WinogradGradient::partials(isa, (&window, tiles), channels, &to);
                let gradient = WinogradGradient {
                    window,
                    tiles,
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
