//! The stem by tiles: moments on store, and its weight gradient.

use densenet_kernels::{
    Isa, Raster,
    winograd::{Stem, StemGradient, StemWeights},
};
use densenet_reference::{Tensor, op};
use densenet_spec::Window;

use crate::{assert_moments, values};

/// Dimensions, batch, size, channels in and out: maps that cut tiles, deeper than a group's rows, and a single slice.
const CASES: [(usize, usize, [usize; 3], [usize; 2]); 6] = [
    (2, 1, [1, 16, 17], [3, 5]),
    (2, 3, [1, 40, 31], [3, 64]),
    (2, 1, [1, 75, 90], [1, 33]),
    (3, 2, [9, 11, 14], [1, 64]),
    (3, 1, [75, 7, 8], [2, 12]),
    (3, 1, [1, 18, 16], [1, 7]),
];

/// Channels-last values as the reference has them.
fn tensor(batch: usize, spatial: [usize; 3], channels: usize, at: impl Fn(usize) -> f32) -> Tensor {
    let pixels: usize = spatial.iter().product();
    let value = |i: usize| {
        let (pixel, c, n) = (i % pixels, i / pixels % channels, i / pixels / channels);
        f64::from(at((n * pixels + pixel) * channels + c))
    };
    let data = (0..batch * channels * pixels).map(value).collect();
    Tensor::new(batch, channels, spatial, data)
}

#[test]
fn moments_are_those_of_what_was_stored_and_the_gradient_that_of_the_reference() {
    for &isa in Isa::available() {
        for (dims, batch, spatial, [c_in, c_out]) in CASES {
            let what = format!("{} {batch}×{spatial:?} {c_in}→{c_out}", isa.name());
            let window = Window::cube(dims, 7, 2, 3);
            let size = window.output(spatial).unwrap();
            let input = Raster::dense(batch, spatial, c_in);
            let image = values(input.len(), 1);
            let weight = values(window.taps() * c_in * c_out, 2);
            let mut weights = StemWeights::new(isa, &window, [c_in, c_out]).unwrap();
            weights.pack(&values(weight.len(), 3)).unwrap();
            weights.pack(&weight).unwrap();
            let stem = Stem {
                input,
                weights: &weights,
                norm_relu: None,
            };
            let mut squares = vec![f32::NAN; StemWeights::prepared(&window, &input)];
            stem.prepare(&image, &mut squares).unwrap();
            let to = Raster::dense(batch, size, c_out + 3).at(2);
            let (mut plain, mut output) = (vec![f32::NAN; to.len()], vec![f32::NAN; to.len()]);
            stem.run(&squares, 0..size[0], (&mut plain, &to)).unwrap();
            let (mut mean, mut variance) = (vec![f64::NAN; c_out], vec![f64::NAN; c_out]);
            let mut sums = vec![f64::NAN; Stem::partial_sums(c_out, &to)];
            let moments = [&mut mean[..], &mut variance[..]];
            stem.run_with_moments(&squares, (&mut output, &to), moments, &mut sums)
                .unwrap();
            let bits =
                |values: &[f32]| -> Vec<u32> { values.iter().map(|v| v.to_bits()).collect() };
            assert_eq!(bits(&plain), bits(&output), "{what}");
            for o in 0..c_out {
                let stored = (0..to.pixels()).map(|p| f64::from(output[to.pixel(p) + o]));
                let stored: Vec<f64> = stored.collect();
                assert_moments(&stored, mean[o], variance[o], &what);
            }

            let grad = values(to.len(), 4);
            let before = values(weight.len(), 5);
            let mut found = before.clone();
            let needed = StemGradient::partials(isa, &window, &input, c_out);
            let gradient = StemGradient {
                window,
                input,
                squares: &squares,
                c_out,
                grad_output: (&grad, to),
            };
            gradient
                .run(isa, &mut found, &mut vec![f32::NAN; needed])
                .unwrap();
            let x = tensor(batch, spatial, c_in, |i| image[i]);
            let g = tensor(batch, size, c_out, |i| {
                grad[to.pixel(i / c_out) + i % c_out]
            });
            // `[c_out][c_in][tap]`
            let exact = op::conv::backward_weight(&x, &g, window);
            let taps = window.taps();
            let (mut worst, mut square) = (0.0f64, 0.0);
            for (i, exact) in exact.iter().enumerate() {
                let (o, c, tap) = (i / taps / c_in, i / taps % c_in, i % taps);
                let place = (tap * c_in + c) * c_out + o;
                let added = f64::from(found[place]) - f64::from(before[place]);
                worst = worst.max((added - exact).abs());
                square += exact * exact;
            }
            // Taps that see few pixels are as far off as those that see many.
            let scale = (square / exact.len() as f64).sqrt().max(1.0);
            println!("{what}: {:e}", worst / scale);
            assert!(worst < 2e-5 * scale, "{what}: {worst:e} of {scale}");
        }
    }
}

#[test]
fn buffers_that_do_not_fit_are_named() {
    let isa = Isa::PORTABLE;
    let window = Window::cube(2, 7, 2, 3);
    assert!(StemWeights::new(isa, &Window::cube(2, 3, 1, 1), [1, 1]).is_err());
    let mut weights = StemWeights::new(isa, &window, [1, 1]).unwrap();
    assert_eq!(weights.pack(&[0.0; 48]).unwrap_err().expected, 49);
    let input = Raster::dense(1, [1, 16, 16], 1);
    let squares = vec![0.0; StemWeights::prepared(&window, &input)];
    let to = Raster::dense(1, [1, 8, 8], 1);
    let stem = Stem {
        input,
        weights: &weights,
        norm_relu: None,
    };
    let moments = [&mut [0.0; 1][..], &mut [0.0; 1][..]];
    let error = stem
        .run_with_moments(&squares, (&mut [0.0; 64], &to), moments, &mut [])
        .unwrap_err();
    assert_eq!(error.what, "partial sums");
    let gradient = StemGradient {
        window,
        input,
        squares: &squares,
        c_out: 1,
        grad_output: (&[0.0; 63], to),
    };
    let error = gradient.run(isa, &mut [0.0; 49], &mut []).unwrap_err();
    assert_eq!((error.what, error.expected), ("gradient", 64));
}
