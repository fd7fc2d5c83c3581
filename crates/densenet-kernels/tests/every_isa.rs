//! Every kernel, for every instruction set of this machine, against plain loops in f64.

use densenet_kernels::{
    Isa, Operand, Panels, Raster,
    conv::{Conv, Source, Store, tasks},
    norm::{Affine, NormBackward, Statistics, reduce},
    weight_gradient::WeightGradient,
};
use densenet_spec::Window;

/// Signed values of order 1 from a fixed sequence.
fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            ((state >> 40) as f32 / (1 << 23) as f32) - 1.0
        })
        .collect()
}

/// A convolution to try.
#[derive(Debug, Clone, Copy)]
struct Case {
    batch: usize,
    spatial: [usize; 3],
    window: Window,
    c_in: usize,
    c_out: usize,
}

impl Case {
    fn output(&self) -> [usize; 3] {
        self.window.output(self.spatial).unwrap()
    }

    /// The input in a raster with a halo of zeros as wide as the padding.
    fn input(&self, seed: u64) -> (Vec<f32>, Raster) {
        let dense = Raster::dense(self.batch, self.spatial, self.c_in);
        let padded = dense.with_halo(self.window.padding);
        let mut data = vec![0.0; padded.len()];
        for (pixel, source) in values(dense.len(), seed).chunks(self.c_in).enumerate() {
            data[padded.pixel(pixel)..][..self.c_in].copy_from_slice(source);
        }
        (data, padded)
    }

    /// Calls `visit(output pixel, tap, place of the input pixel)` for every multiply-add's pixel pair.
    fn pairs(&self, input: &Raster, mut visit: impl FnMut(usize, usize, usize)) {
        let out = self.output();
        let Window {
            kernel,
            stride,
            padding,
        } = self.window;
        for n in 0..self.batch {
            for o in 0..out.iter().product() {
                let at = [o / (out[1] * out[2]), o / out[2] % out[1], o % out[2]];
                for tap in 0..self.window.taps() {
                    let t = [
                        tap / (kernel[1] * kernel[2]),
                        tap / kernel[2] % kernel[1],
                        tap % kernel[2],
                    ];
                    let i: [isize; 3] = std::array::from_fn(|a| {
                        (at[a] * stride[a] + t[a]) as isize - padding[a] as isize
                    });
                    if (0..3).all(|a| i[a] >= 0 && (i[a] as usize) < self.spatial[a]) {
                        let [d, h, w] = self.spatial;
                        let pixel =
                            ((n * d + i[0] as usize) * h + i[1] as usize) * w + i[2] as usize;
                        visit(
                            n * out.iter().product::<usize>() + o,
                            tap,
                            input.pixel(pixel),
                        );
                    }
                }
            }
        }
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // 1×1 and 3×3 around the tiles' sizes: one pixel, rows shorter and longer than a tile, channels below, at and above
    // a register.
    for (spatial, c_in, c_out) in [
        ([1, 1, 1], 1, 1),
        ([1, 7, 7], 33, 32),
        ([1, 5, 14], 16, 12),
        ([1, 3, 29], 7, 47),
        ([3, 4, 5], 9, 24),
        ([2, 13, 2], 64, 128),
        ([1, 2, 200], 5, 17),
    ] {
        let dims = if spatial[0] == 1 { 2 } else { 3 };
        for window in [Window::POINT, Window::cube(dims, 3, 1, 1)] {
            cases.push(Case {
                batch: 2,
                spatial,
                window,
                c_in,
                c_out,
            });
        }
    }
    // Stems.
    for (spatial, window, c_in, c_out) in [
        ([1, 17, 30], Window::cube(2, 7, 2, 3), 3, 64),
        ([9, 8, 11], Window::cube(3, 7, 2, 3), 1, 20),
        (
            [5, 8, 8],
            Window {
                kernel: [3, 7, 7],
                stride: [1, 2, 2],
                padding: [1, 3, 3],
            },
            2,
            16,
        ),
    ] {
        cases.push(Case {
            batch: 1,
            spatial,
            window,
            c_in,
            c_out,
        });
    }
    cases
}

/// 2 · n · eps · Σ|a||b|: the bound for a chain of n fused or unfused multiply-adds.
fn assert_near(found: f32, exact: f64, magnitude: f64, terms: usize, what: impl Fn() -> String) {
    let bound = 2.0 * (terms + 2) as f64 * f64::from(f32::EPSILON) * magnitude + 1e-30;
    assert!(
        (f64::from(found) - exact).abs() <= bound,
        "{}: {found} for {exact} ± {bound}",
        what()
    );
}

#[test]
fn convolution_and_its_gradients() {
    println!(
        "instruction sets: {:?}",
        Isa::available()
            .iter()
            .map(|i| i.name())
            .collect::<Vec<_>>()
    );
    for case in cases() {
        let Case {
            batch,
            window,
            c_in,
            c_out,
            ..
        } = case;
        let taps = window.taps();
        let (input, raster) = case.input(1);
        let weight = values(taps * c_in * c_out, 2);
        // The output lies in a wider buffer, as in a dense block.
        let out = Raster::dense(batch, case.output(), c_out + 5).at(3);
        let pixels = out.pixels();
        let grad = values(out.len(), 3);
        let (mut exact, mut size) = (vec![0.0f64; pixels * c_out], vec![0.0f64; pixels * c_out]);
        let (mut exact_w, mut size_w) = (vec![0.0f64; weight.len()], vec![0.0f64; weight.len()]);
        case.pairs(&raster, |p, tap, place| {
            for c in 0..c_in {
                let x = f64::from(input[place + c]);
                for o in 0..c_out {
                    let w = (tap * c_in + c) * c_out + o;
                    let product = x * f64::from(weight[w]);
                    exact[p * c_out + o] += product;
                    size[p * c_out + o] += product.abs();
                    let product = x * f64::from(grad[out.pixel(p) + o]);
                    exact_w[w] += product;
                    size_w[w] += product.abs();
                }
            }
        });
        for &isa in Isa::available() {
            let what = || format!("{} {case:?}", isa.name());
            let panels =
                Panels::packed(isa, &weight, [taps, c_in, c_out], Operand::Forward).unwrap();
            let conv = Conv {
                window,
                c_in,
                source: Source::Map(&input, raster),
                weights: &panels,
            };
            let mut output = vec![f32::NAN; out.len()];
            conv.run(&mut output, &out, Store::Overwrite).unwrap();
            for p in 0..pixels {
                for o in 0..c_out {
                    let found = output[out.pixel(p) + o];
                    assert_near(
                        found,
                        exact[p * c_out + o],
                        size[p * c_out + o],
                        taps * c_in,
                        what,
                    );
                }
                // Nothing beside the layer's own channels is touched.
                let pixel = &output[out.pixel(p) - 3..][..c_out + 5];
                assert!(
                    pixel[..3]
                        .iter()
                        .chain(&pixel[3 + c_out..])
                        .all(|v| v.is_nan()),
                    "{}",
                    what()
                );
            }
            let gradient = WeightGradient {
                window,
                c_in,
                source: Source::Map(&input, raster),
                c_out,
                grad_output: (&grad, out),
            };
            let mut padded = grad.clone();
            padded.resize(grad.len() + WeightGradient::slack(isa, c_out), f32::NAN);
            let gradient = WeightGradient {
                grad_output: (&padded, out),
                ..gradient
            };
            let mut partials =
                vec![f32::NAN; WeightGradient::partials(isa, &window, [c_in, c_out], &out)];
            let mut found = vec![1.0; weight.len()];
            gradient.run(isa, &mut found, &mut partials).unwrap();
            for (i, f) in found.iter().enumerate() {
                assert_near(*f, exact_w[i] + 1.0, size_w[i] + 1.0, pixels, || {
                    format!("weight {i}: {}", what())
                });
            }
        }
    }
}

#[test]
fn normalised_source_and_norm_backward() {
    let (batch, spatial, c_in, c_out) = (2, [1, 9, 13], 37, 21);
    let block = Raster::dense(batch, spatial, c_in + 6);
    let dense = Raster::dense(batch, spatial, c_out);
    let x = values(block.len(), 1);
    let (scale, shift) = (values(c_in, 2), values(c_in, 3));
    let (mean, inv_std) = (values(c_in, 4), values(c_in, 5));
    let weight = values(c_in * c_out, 6);
    let affine = Affine {
        scale: &scale,
        shift: &shift,
    };
    let activation =
        |p: usize, c: usize| (scale[c].mul_add(x[block.pixel(p) + c], shift[c])).max(0.0);
    for &isa in Isa::available() {
        // Forward: relu(scale·x + shift) · weight + bias.
        let panels = Panels::packed(isa, &weight, [1, c_in, c_out], Operand::Forward).unwrap();
        let source = Source::NormRelu(&x, block, affine);
        let conv = Conv {
            window: Window::POINT,
            c_in,
            source,
            weights: &panels,
        };
        let (gain, bias) = (values(c_out, 9), values(c_out, 7));
        let halo = dense.with_halo([0, 1, 1]);
        let mut output = vec![0.0; halo.len()];
        conv.run(
            &mut output,
            &halo,
            Store::Affine {
                affine: Affine {
                    scale: &gain,
                    shift: &bias,
                },
                relu: true,
            },
        )
        .unwrap();
        for p in 0..dense.pixels() {
            for o in 0..c_out {
                let exact: f64 = (0..c_in)
                    .map(|c| f64::from(activation(p, c)) * f64::from(weight[c * c_out + o]))
                    .sum();
                let found = output[halo.pixel(p) + o];
                let exact = (exact * f64::from(gain[o]) + f64::from(bias[o])).max(0.0);
                assert!(
                    (f64::from(found) - exact).abs() < 1e-4,
                    "{} {p} {o}: {found} {exact}",
                    isa.name()
                );
            }
        }
        // Backward: the product with the transposed weight is masked, scaled, added and summed.
        let g = values(dense.len(), 8);
        let panels =
            Panels::packed(isa, &weight, [1, c_in, c_out], Operand::BackwardInput).unwrap();
        let conv = Conv {
            window: Window::POINT,
            c_in: c_out,
            source: Source::Map(&g, dense),
            weights: &panels,
        };
        let mut grad = vec![2.0; block.len()];
        let mut sums = vec![0.0; tasks(&block) * 2 * c_in];
        let statistics = Statistics {
            mean: &mean,
            inv_std: &inv_std,
        };
        let store = NormBackward {
            input: &x,
            affine,
            statistics,
            sums: &mut sums,
        };
        conv.run(&mut grad, &block, Store::NormBackward(store))
            .unwrap();
        let (mut sum_g, mut sum_gx) = (vec![0.0; c_in], vec![0.0; c_in]);
        reduce(&sums, tasks(&block), c_in, [&mut sum_g, &mut sum_gx]);
        for c in 0..c_in {
            let (mut exact_g, mut exact_gx) = (0.0f64, 0.0f64);
            for p in 0..dense.pixels() {
                let product: f64 = (0..c_out)
                    .map(|o| f64::from(g[p * c_out + o]) * f64::from(weight[c * c_out + o]))
                    .sum();
                let masked = if activation(p, c) > 0.0 { product } else { 0.0 };
                let value = x[block.pixel(p) + c];
                exact_g += masked;
                exact_gx += masked * f64::from((value - mean[c]) * inv_std[c]);
                let found = f64::from(grad[block.pixel(p) + c]);
                let exact = 2.0 + masked * f64::from(scale[c]);
                assert!(
                    (found - exact).abs() < 1e-4,
                    "{} {p} {c}: {found} {exact}",
                    isa.name()
                );
            }
            assert!((sum_g[c] - exact_g).abs() < 1e-3, "{} {c}", isa.name());
            assert!((sum_gx[c] - exact_gx).abs() < 1e-3, "{} {c}", isa.name());
        }
        // Weight gradient of the normalised source, accumulated.
        let mut padded = g.clone();
        padded.resize(g.len() + WeightGradient::slack(isa, c_out), f32::NAN);
        let gradient = WeightGradient {
            window: Window::POINT,
            c_in,
            source,
            c_out,
            grad_output: (&padded, dense),
        };
        let mut partials =
            vec![0.0; WeightGradient::partials(isa, &Window::POINT, [c_in, c_out], &dense)];
        let mut found = vec![0.0; weight.len()];
        gradient.run(isa, &mut found, &mut partials).unwrap();
        for (i, f) in found.iter().enumerate() {
            let (c, o) = (i / c_out, i % c_out);
            let exact: f64 = (0..dense.pixels())
                .map(|p| f64::from(activation(p, c)) * f64::from(g[p * c_out + o]))
                .sum();
            assert!(
                (f64::from(*f) - exact).abs() < 1e-3,
                "{} {i}: {f} {exact}",
                isa.name()
            );
        }
    }
}
