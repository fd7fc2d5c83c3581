//! Norms, poolings and input gradients, for every instruction set of this machine, against the reference.

use densenet_kernels::{
    Isa, KernelError, Operand, Panels, Raster,
    conv::{Conv, Source, Store},
    norm::{self, Affine, Combination, Statistics},
    pool::{self, MaxPoolBackward, PooledNorm},
    weight_gradient::WeightGradient,
};
use densenet_reference::{Tensor, op};
use densenet_spec::Window;
use densenet_testkit::{Distribution, Tolerance, assert_close, channels_last, fill};

const EPS: f64 = 1e-5;

/// Signed values of order 1, `[batch][channel][pixel]`.
fn tensor(name: &str, batch: usize, channels: usize, spatial: [usize; 3]) -> Tensor {
    let len = batch * channels * spatial.iter().product::<usize>();
    let data = fill(name, len, 1, Distribution::standard());
    Tensor::new(
        batch,
        channels,
        spatial,
        data.into_iter().map(f64::from).collect(),
    )
}

fn vector(name: &str, len: usize) -> Vec<f32> {
    fill(name, len, 2, Distribution::standard())
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// The tensor's values in a raster, NaN everywhere else.
fn place(tensor: &Tensor, raster: &Raster) -> Vec<f32> {
    let [d, h, w] = tensor.spatial;
    let values = channels_last(&tensor.data, &[tensor.batch, tensor.channels, d, h, w]);
    let mut data = vec![f32::NAN; raster.len()];
    for (pixel, source) in values.chunks(tensor.channels).enumerate() {
        for (target, value) in data[raster.pixel(pixel)..].iter_mut().zip(source) {
            *target = *value as f32;
        }
    }
    data
}

/// Asserts that a raster holds the tensor's values and that what lies between the pixels' channels is as it was.
fn assert_holds(data: &[f32], raster: &Raster, expected: &Tensor, what: &str) {
    let [d, h, w] = expected.spatial;
    let channels = expected.channels;
    let values = channels_last(&expected.data, &[expected.batch, channels, d, h, w]);
    let mut found: Vec<f32> = Vec::new();
    for pixel in 0..raster.pixels() {
        let start = raster.pixel(pixel);
        found.extend(&data[start..start + channels]);
        let rest = &data[start + channels..start - raster.offset + raster.stride];
        assert!(
            rest.iter().all(|v| v.is_nan()),
            "{what}: wrote beside pixel {pixel}"
        );
    }
    let peak = values.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    assert_close(&found, &values, Tolerance::absolute(2e-5 * peak), what);
}

/// Batch, size and channels around register and tile sizes.
const MAPS: [(usize, [usize; 3], usize); 6] = [
    (2, [1, 1, 1], 1),
    (1, [1, 7, 9], 16),
    (3, [1, 4, 5], 33),
    (2, [3, 5, 4], 12),
    (1, [2, 2, 31], 47),
    (1, [1, 16, 2], 128),
];

/// Statistics of a map as the kernels take them: mean, inverse deviation, and a norm folded with γ and β.
struct Folded {
    mean: Vec<f32>,
    inv_std: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl Folded {
    fn new(
        isa: Isa,
        data: &[f32],
        raster: &Raster,
        channels: usize,
        expected: &op::batch_norm::Statistics,
    ) -> Self {
        let (mut mean, mut variance) = (vec![f64::NAN; channels], vec![f64::NAN; channels]);
        let mut partials = vec![f64::NAN; norm::partial_sums(raster, channels)];
        norm::moments(
            isa,
            (data, raster),
            [&mut mean, &mut variance],
            &mut partials,
        )
        .unwrap();
        assert_close(&mean, &expected.mean, Tolerance::absolute(1e-7), "mean");
        assert_close(
            &variance,
            &expected.var,
            Tolerance::absolute(1e-6),
            "variance",
        );
        let (gamma, beta) = (vector("gamma", channels), vector("beta", channels));
        let inv_std: Vec<f64> = variance.iter().map(|v| 1.0 / (v + EPS).sqrt()).collect();
        let scale: Vec<f64> = (0..channels)
            .map(|c| f64::from(gamma[c]) * inv_std[c])
            .collect();
        let shift = (0..channels).map(|c| (f64::from(beta[c]) - scale[c] * mean[c]) as f32);
        Folded {
            shift: shift.collect(),
            mean: mean.iter().map(|v| *v as f32).collect(),
            inv_std: inv_std.iter().map(|v| *v as f32).collect(),
            scale: scale.iter().map(|v| *v as f32).collect(),
            gamma,
            beta,
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
}

#[test]
fn norm_forward_and_backward() {
    let mut compared = 0;
    for (batch, spatial, channels) in MAPS {
        let x = tensor("x", batch, channels, spatial);
        let grad = tensor("grad", batch, channels, spatial);
        let statistics = op::batch_norm::statistics(&x);
        let block = Raster::dense(batch, spatial, channels + 3).at(2);
        let padded = Raster::dense(batch, spatial, channels).with_halo([1, 2, 1]);
        let data = place(&x, &block);
        for &isa in Isa::available() {
            let what = format!("{} {batch}×{spatial:?}×{channels}", isa.name());
            let f = Folded::new(isa, &data, &block, channels, &statistics);
            let (gamma, beta) = (wide(&f.gamma), wide(&f.beta));
            let affine = op::batch_norm::Affine {
                weight: &gamma,
                bias: &beta,
                eps: EPS,
            };
            let normed = op::batch_norm::forward(&x, &statistics, affine);
            let active = op::relu::forward(&normed);

            let mut output = vec![f32::NAN; padded.len()];
            norm::clear_halo(&mut output, &padded).unwrap();
            norm::normalise_relu(isa, (&data, &block), f.affine(), (&mut output, &padded)).unwrap();
            let zeros = output.iter().filter(|v| **v == 0.0).count();
            assert!(
                zeros >= padded.len() - x.data.len(),
                "{what}: the halo is zero"
            );
            assert_holds(&output, &padded, &active, &what);

            // Pixels so near the kink that f32 may see them on its other side are not compared.
            let expected = op::batch_norm::backward(
                &x,
                &statistics,
                affine,
                &op::relu::backward(&normed, &grad),
            );
            if normed.data.iter().any(|v| v.abs() < 1e-5) {
                continue;
            }
            compared += 1;
            let dense = Raster::dense(batch, spatial, channels);
            let mut g = place(&grad, &dense);
            let (mut sum_g, mut sum_gx) = (vec![0.0; channels], vec![0.0; channels]);
            let mut partials = vec![f64::NAN; norm::partial_sums(&block, channels)];
            norm::mask_and_sum(
                isa,
                (&data, &block),
                (f.affine(), f.statistics()),
                (&mut g, &dense),
                ([&mut sum_g, &mut sum_gx], &mut partials),
            )
            .unwrap();
            assert_close(&sum_g, &expected.bias, Tolerance::absolute(1e-4), &what);
            assert_close(&sum_gx, &expected.weight, Tolerance::absolute(1e-3), &what);
            let count = dense.pixels() as f64;
            let of_input: Vec<f32> = (0..channels)
                .map(|c| (-f64::from(f.scale[c] * f.inv_std[c]) * sum_gx[c] / count) as f32)
                .collect();
            let constant: Vec<f32> = (0..channels)
                .map(|c| (-f64::from(f.scale[c]) * sum_g[c] / count) as f32)
                .collect();
            let combination = Combination {
                of_grad: &f.scale,
                of_input: &of_input,
                constant: &constant,
                mean: &f.mean,
            };
            let mut elsewhere = vec![f32::NAN; block.len()];
            norm::combine(
                isa,
                combination,
                (&g, &dense),
                (&data, &block),
                (&mut elsewhere, &block),
            )
            .unwrap();
            norm::combine_in_place(isa, combination, (&data, &block), (&mut g, &dense)).unwrap();
            if batch * spatial.iter().product::<usize>() > 2 {
                assert_holds(&g, &dense, &expected.input, &what);
                let mut copied = vec![f32::NAN; dense.len()];
                norm::copy(channels, (&elsewhere, &block), (&mut copied, &dense)).unwrap();
                assert_eq!(copied, g, "{what}: in place and elsewhere");
            }
        }
    }
    assert!(
        compared >= 5 * Isa::available().len(),
        "{compared} maps are away from the kink"
    );
}

#[test]
fn max_pool_forward_and_backward() {
    for (batch, spatial, channels) in MAPS {
        let dims = if spatial[0] == 1 { 2 } else { 3 };
        for window in [Window::cube(dims, 3, 2, 1), Window::cube(dims, 2, 1, 0)] {
            let Ok(size) = window.output(spatial) else {
                continue;
            };
            let x = tensor("x", batch, channels, spatial);
            let from = Raster::dense(batch, spatial, channels);
            let to = Raster::dense(batch, size, channels + 4).at(1);
            let (scale, shift) = (vector("scale", channels), vector("shift", channels));
            let ones = vec![1.0; channels];
            let data = place(&x, &from);
            for normed in [false, true] {
                let (weight, bias) = match normed {
                    true => (wide(&scale), wide(&shift)),
                    false => (wide(&ones), vec![0.0; channels]),
                };
                let unit = op::batch_norm::Statistics {
                    mean: vec![0.0; channels],
                    var: vec![1.0; channels],
                };
                let affine = op::batch_norm::Affine {
                    weight: &weight,
                    bias: &bias,
                    eps: 0.0,
                };
                let mut input = op::batch_norm::forward(&x, &unit, affine);
                if normed {
                    input = op::relu::forward(&input);
                }
                let expected = op::max_pool::forward(&input, window);
                let grad = tensor("grad", batch, channels, size);
                let expected_grad = op::max_pool::backward(&input, &grad, window);
                for &isa in Isa::available() {
                    let what = format!(
                        "{} {batch}×{spatial:?}×{channels}, norm {normed}",
                        isa.name()
                    );
                    let affine = normed.then_some(Affine {
                        scale: &scale,
                        shift: &shift,
                    });
                    let mut output = vec![f32::NAN; to.len()];
                    let mut winners = vec![0xFF; to.pixels() * channels];
                    let source = (&data[..], &from, affine);
                    pool::max_pool(
                        isa,
                        &window,
                        source,
                        (&mut output, &to),
                        channels,
                        &mut winners,
                    )
                    .unwrap();
                    assert_holds(&output, &to, &expected, &what);
                    let mut again = vec![f32::NAN; to.len()];
                    pool::max_pool(isa, &window, source, (&mut again, &to), channels, &mut [])
                        .unwrap();
                    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&again), bits(&output));
                    let mut g = vec![f32::NAN; from.len()];
                    let grad = place(&grad, &to);
                    let back = MaxPoolBackward {
                        window,
                        winners: &winners,
                        grad_output: (&grad, to),
                        channels,
                    };
                    back.run(isa, (&mut g, &from)).unwrap();
                    assert_holds(&g, &from, &expected_grad, &what);
                    if let Some(affine) = affine {
                        through_a_pooled_norm(isa, &back, affine, (&data, &from), &g);
                    }
                }
            }
        }
    }
}

/// The way back through norm, ReLU and max-pool in one is that of its parts, to the last bit.
fn through_a_pooled_norm(
    isa: Isa,
    back: &MaxPoolBackward<'_>,
    affine: Affine<'_>,
    (data, from): (&[f32], &Raster),
    grad: &[f32],
) {
    let n = back.channels;
    let [mean, inv_std, of_input, constant] = [3, 4, 5, 6].map(|seed| -> Vec<f32> {
        (0..n)
            .map(|c| ((seed * 7 + c) % 5) as f32 * 0.3 - 0.4)
            .collect()
    });
    let statistics = Statistics {
        mean: &mean,
        inv_std: &inv_std,
    };
    let combination = Combination {
        of_grad: affine.scale,
        of_input: &of_input,
        constant: &constant,
        mean: &mean,
    };
    let mut partials = vec![f64::NAN; norm::partial_sums(from, n)];
    let mut expected = grad.to_vec();
    let mut sums = [vec![f64::NAN; n], vec![f64::NAN; n]];
    let [g, gx] = &mut sums;
    let masked = (&mut expected[..], from);
    let way = (affine, statistics);
    norm::mask_and_sum(isa, (data, from), way, masked, ([g, gx], &mut partials)).unwrap();
    let target = (&mut expected[..], from);
    norm::combine_in_place(isa, combination, (data, from), target).unwrap();

    let pooled = PooledNorm {
        input: data,
        affine,
        statistics,
    };
    let mut found = [vec![f64::NAN; n], vec![f64::NAN; n]];
    let [g, gx] = &mut found;
    back.norm_sums(isa, (pooled, from), ([g, gx], &mut partials))
        .unwrap();
    assert_eq!(found, sums);
    let mut map = data.to_vec();
    back.through_norm(isa, (affine, combination), (&mut map, from))
        .unwrap();
    for p in 0..from.pixels() {
        let pixel = from.pixel(p)..from.pixel(p) + n;
        assert_eq!(map[pixel.clone()], expected[pixel]);
    }
}

#[test]
fn average_pool_forward_and_backward() {
    let mut compared = 0;
    for (batch, spatial, channels) in MAPS {
        let dims = if spatial[0] == 1 { 2 } else { 3 };
        let whole = Window {
            kernel: spatial,
            stride: spatial,
            padding: [0; 3],
        };
        for window in [Window::cube(dims, 2, 2, 0), whole] {
            let Ok(size) = window.output(spatial) else {
                continue;
            };
            let x = tensor("x", batch, channels, spatial);
            let grad = tensor("grad", batch, channels, size);
            let statistics = op::batch_norm::statistics(&x);
            let from = Raster::dense(batch, spatial, channels);
            let to = Raster::dense(batch, size, channels);
            let data = place(&x, &from);
            for &isa in Isa::available() {
                let what = format!("{} {batch}×{spatial:?}×{channels}", isa.name());
                let f = Folded::new(isa, &data, &from, channels, &statistics);
                let (gamma, beta) = (wide(&f.gamma), wide(&f.beta));
                let affine = op::batch_norm::Affine {
                    weight: &gamma,
                    bias: &beta,
                    eps: EPS,
                };
                let normed = op::batch_norm::forward(&x, &statistics, affine);
                let (mut sum_g, mut sum_gx) = (vec![0.0; channels], vec![0.0; channels]);
                let mut partials = vec![0.0; norm::partial_sums(&from, channels)];
                let mut g = vec![f32::NAN; from.len()];
                let grad_data = place(&grad, &to);

                // With the norm and ReLU before it.
                let mut output = vec![f32::NAN; to.len()];
                let source = (&data[..], &from, Some(f.affine()));
                pool::average_pool(isa, &window, source, (&mut output, &to), channels).unwrap();
                assert_holds(
                    &output,
                    &to,
                    &op::avg_pool::forward(&op::relu::forward(&normed), window),
                    &what,
                );
                if normed.data.iter().all(|v| v.abs() > 1e-5) {
                    compared += 1;
                    let spread = op::avg_pool::backward(&grad, window, spatial);
                    let masked = op::relu::backward(&normed, &spread);
                    let expected = op::batch_norm::backward(&x, &statistics, affine, &masked);
                    let pooled = PooledNorm {
                        input: &data,
                        affine: f.affine(),
                        statistics: f.statistics(),
                    };
                    let sums = (
                        [&mut sum_g[..], &mut sum_gx[..]],
                        &mut partials[..],
                        channels,
                    );
                    pool::average_pool_backward(
                        isa,
                        &window,
                        (&grad_data, &to),
                        (&mut g, &from),
                        Some(pooled),
                        sums,
                    )
                    .unwrap();
                    assert_close(&sum_g, &expected.bias, Tolerance::absolute(1e-4), &what);
                    assert_close(&sum_gx, &expected.weight, Tolerance::absolute(1e-4), &what);
                    let mut share = masked.clone();
                    for n in 0..batch {
                        for c in 0..channels {
                            share
                                .map_mut(n, c)
                                .iter_mut()
                                .for_each(|v| *v *= f64::from(f.scale[c]));
                        }
                    }
                    assert_holds(&g, &from, &share, &what);
                }

                // Without.
                pool::average_pool(
                    isa,
                    &window,
                    (&data, &from, None),
                    (&mut output, &to),
                    channels,
                )
                .unwrap();
                assert_holds(&output, &to, &op::avg_pool::forward(&x, window), &what);
                let sums = (
                    [&mut sum_g[..], &mut sum_gx[..]],
                    &mut partials[..],
                    channels,
                );
                pool::average_pool_backward(
                    isa,
                    &window,
                    (&grad_data, &to),
                    (&mut g, &from),
                    None,
                    sums,
                )
                .unwrap();
                assert_holds(
                    &g,
                    &from,
                    &op::avg_pool::backward(&grad, window, spatial),
                    &what,
                );
            }
        }
    }
    assert!(
        compared >= 8 * Isa::available().len(),
        "{compared} maps are away from the kink"
    );
}

#[test]
fn input_gradients() {
    for (batch, spatial, c_in) in MAPS {
        let dims = if spatial[0] == 1 { 2 } else { 3 };
        for (window, c_out) in [
            (Window::POINT, 24),
            (Window::cube(dims, 3, 1, 1), 12),
            (Window::cube(dims, 3, 1, 1), 32),
        ] {
            let taps = window.taps();
            let grad = tensor("grad", batch, c_out, spatial);
            // `[c_out][c_in][tap]` for the reference, `[tap][c_in][c_out]` for the kernels.
            let weight = vector("weight", c_out * c_in * taps);
            let mut ours = vec![0.0; weight.len()];
            for o in 0..c_out {
                for c in 0..c_in {
                    for tap in 0..taps {
                        ours[(tap * c_in + c) * c_out + o] = weight[(o * c_in + c) * taps + tap];
                    }
                }
            }
            let expected = op::conv::backward_input(&grad, &wide(&weight), window, spatial);
            let padded = Raster::dense(batch, spatial, c_out).with_halo(window.padding);
            let mut data = place(&grad, &padded);
            norm::clear_halo(&mut data, &padded).unwrap();
            let to = Raster::dense(batch, spatial, c_in + 2).at(1);
            for &isa in Isa::available() {
                let weights =
                    Panels::packed(isa, &ours, [taps, c_in, c_out], Operand::BackwardInput)
                        .unwrap();
                let conv = Conv {
                    window,
                    c_in: c_out,
                    source: Source::Map(&data, padded),
                    weights: &weights,
                };
                let mut output = vec![f32::NAN; to.len()];
                conv.run(&mut output, &to, Store::Overwrite).unwrap();
                let what = format!(
                    "{} {batch}×{spatial:?} {c_out}→{c_in}, {taps} taps",
                    isa.name()
                );
                assert_holds(&output, &to, &expected, &what);
            }
        }
    }
}

#[test]
fn buffers_that_do_not_fit_are_errors() {
    let isa = Isa::PORTABLE;
    let map = Raster::dense(1, [1, 4, 4], 3);
    let weights = Panels::packed(isa, &[0.0; 6], [1, 3, 2], Operand::Forward).unwrap();
    let out = Raster::dense(1, [1, 4, 4], 2);
    let run = |window: Window, input: &[f32], output: &mut [f32], raster: &Raster| {
        let conv = Conv {
            window,
            c_in: 3,
            source: Source::Map(input, map),
            weights: &weights,
        };
        conv.run(output, raster, Store::Overwrite)
    };
    let (input, mut output) = ([0.0; 48], [0.0; 32]);
    run(Window::POINT, &input, &mut output, &out).unwrap();
    let what = |r: Result<(), KernelError>| r.unwrap_err().what;
    assert_eq!(
        what(run(Window::POINT, &input[..47], &mut output, &out)),
        "input"
    );
    assert_eq!(
        what(run(Window::POINT, &input, &mut output[..31], &out)),
        "output"
    );
    assert_eq!(
        what(run(Window::cube(2, 3, 1, 1), &input, &mut output, &out)),
        "halo of the input"
    );
    let small = Raster::dense(1, [1, 4, 3], 2);
    assert_eq!(
        what(run(Window::POINT, &input, &mut output, &small)),
        "size of the output"
    );
    assert_eq!(
        what(run(Window::POINT, &input, &mut output, &out.at(1))),
        "channels of the output"
    );
    assert!(Panels::packed(isa, &[0.0; 5], [1, 3, 2], Operand::Forward).is_err());
    let gradient = WeightGradient {
        window: Window::POINT,
        c_in: 3,
        source: Source::Map(&input, map),
        c_out: 2,
        grad_output: (&output, out),
    };
    let mut grad_weight = [0.0; 6];
    let mut partials = vec![0.0; WeightGradient::partials(isa, &Window::POINT, [3, 2], &out)];
    assert_eq!(
        what(gradient.run(isa, &mut grad_weight, &mut partials)),
        "gradient and slack"
    );
    let mut sums = [0.0; 3];
    let result = norm::moments(
        isa,
        (&input, &map),
        [&mut sums, &mut [0.0; 3]],
        &mut [0.0; 5],
    );
    assert_eq!(
        result.unwrap_err().to_string(),
        "moments: partial sums needs 24, found 5"
    );
}

/// Maps without pixels are nothing to do.
#[test]
fn empty_maps() {
    let isa = Isa::available()[0];
    let map = Raster::dense(0, [1, 4, 4], 3);
    let weights = Panels::packed(isa, &[0.0; 6], [1, 3, 2], Operand::Forward).unwrap();
    let conv = Conv {
        window: Window::POINT,
        c_in: 3,
        source: Source::Map(&[], map),
        weights: &weights,
    };
    conv.run(&mut [], &Raster::dense(0, [1, 4, 4], 2), Store::Overwrite)
        .unwrap();
}
