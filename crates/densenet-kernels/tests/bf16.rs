//! Convolutions in bf16, for every instruction set of this machine, against sums in f64 of the rounded values.

use densenet_kernels::{
    Isa, Panels, Raster,
    conv::{Conv, Paired, Source, Store},
    norm::{Affine, Centred},
};
use densenet_spec::Window;
use densenet_testkit::{Distribution, fill};

/// `x` rounded to the nearest bf16, ties to even.
fn rounded(x: f32) -> f64 {
    let bits = x.to_bits();
    let below = f32::from_bits(bits & 0xffff_0000);
    let above = f32::from_bits((bits & 0xffff_0000) + 0x1_0000);
    let (down, up) = (x - below, above - x);
    let even = bits >> 16 & 1 == 0;
    let below_wins = down.abs() < up.abs() || (down.abs() == up.abs() && even);
    f64::from(if below_wins { below } else { above })
}

fn normal(name: &str, len: usize) -> Vec<f32> {
    fill(name, len, 3, Distribution::standard())
}

/// Sums of `k` products in f32, with operands of order 1: a few ulp per addition, in the root mean square.
fn close(found: f32, expected: f64, magnitude: f64, what: &str) {
    let error = (f64::from(found) - expected).abs();
    assert!(
        error <= magnitude * 4e-6,
        "{what}: {found} instead of {expected}"
    );
}

#[test]
fn pointwise_normalised_sources() {
    // Odd channels, tails of every width, more pixels than a chunk.
    for (pixels, c_in, c_out) in [(1, 1, 1), (5, 3, 17), (90, 64, 128), (200, 97, 40)] {
        let x = normal("x", pixels * c_in);
        let weight = normal("w", c_in * c_out);
        let (scale, shift) = (normal("scale", c_in), normal("shift", c_in));
        let floor = normal("floor", c_in);
        let raster = Raster::dense(1, [1, 1, pixels], c_in);
        let to = Raster::dense(1, [1, 1, pixels], c_out + 2).at(1);
        for &isa in Isa::available() {
            let affine = Affine {
                scale: &scale,
                shift: &shift,
            };
            let centred = Centred {
                affine,
                floor: &floor,
            };
            for source in [
                Source::NormRelu(&x, raster, affine),
                Source::Centred(&x, raster, centred),
                Source::Map(&x, raster),
            ] {
                let normed = !matches!(source, Source::Map(..));
                let least = |c: usize| match source {
                    Source::Centred(..) => floor[c],
                    _ => 0.0,
                };
                let conv = Conv {
                    window: Window::POINT,
                    c_in,
                    source,
                    weights: &Panels::packed_bf16(isa, &weight, [1, c_in, c_out]).unwrap(),
                };
                let mut output = vec![f32::NAN; to.len()];
                conv.run(&mut output, &to, Store::Overwrite).unwrap();
                for p in 0..pixels {
                    let place = to.pixel(p);
                    assert!(output[place - 1].is_nan() && output[place + c_out].is_nan());
                    for o in 0..c_out {
                        let (mut sum, mut magnitude) = (0.0, 1e-30);
                        for c in 0..c_in {
                            let x = x[p * c_in + c];
                            let fused = scale[c].mul_add(x, shift[c]).max(least(c));
                            // Where an instruction set does not fuse, the last bit may round the other way.
                            let plain = (scale[c] * x + shift[c]).max(least(c));
                            let x = if !normed {
                                x
                            } else if isa == Isa::PORTABLE {
                                plain
                            } else {
                                fused
                            };
                            let product = rounded(x) * rounded(weight[c * c_out + o]);
                            sum += product;
                            magnitude += product.abs();
                        }
                        let what = format!("{} {c_in}→{c_out} pixel {p}, {o}", isa.name());
                        close(output[place + o], sum, magnitude, &what);
                    }
                }
            }
        }
    }
}

/// Rectified values less their mean leave less to round, of themselves and of the weights.
#[test]
fn a_centre_halves_the_squares_of_the_error() {
    let (pixels, c_in, c_out) = (200, 256, 64);
    let x = normal("x", pixels * c_in);
    let weight = normal("w", c_in * c_out);
    let (ones, shift) = (vec![1.0; c_in], normal("shift", c_in));
    let raster = Raster::dense(1, [1, 1, pixels], c_in);
    let to = Raster::dense(1, [1, 1, pixels], c_out);
    // Of relu(N(shift, 1)), in bf16.
    let centre = shift.iter().map(|b| {
        let mean = (b + (b * b + std::f32::consts::FRAC_2_PI).sqrt()) / 2.0;
        f32::from_bits(mean.to_bits() & 0xffff_0000)
    });
    let centre: Vec<f32> = centre.collect();
    let floor: Vec<f32> = centre.iter().map(|m| -m).collect();
    let less: Vec<f32> = shift.iter().zip(&centre).map(|(b, m)| b - m).collect();
    let affine = |shift| Affine {
        scale: &ones,
        shift,
    };
    let exact = |p: usize, o: usize| -> f64 {
        let at = |c: usize| f64::from((x[p * c_in + c] + shift[c]).max(0.0));
        (0..c_in)
            .map(|c| at(c) * f64::from(weight[c * c_out + o]))
            .sum()
    };
    let lost: Vec<f64> = (0..c_out)
        .map(|o| {
            let product = |c: usize| f64::from(centre[c]) * f64::from(weight[c * c_out + o]);
            (0..c_in).map(product).sum()
        })
        .collect();
    for &isa in Isa::available() {
        let squares = |source, lost: &dyn Fn(usize) -> f64| -> f64 {
            let conv = Conv {
                window: Window::POINT,
                c_in,
                source,
                weights: &Panels::packed_bf16(isa, &weight, [1, c_in, c_out]).unwrap(),
            };
            let mut output = vec![0.0; to.len()];
            conv.run(&mut output, &to, Store::Overwrite).unwrap();
            let places = (0..pixels).flat_map(|p| (0..c_out).map(move |o| (p, o)));
            let errors = places.zip(&output);
            let errors = errors.map(|((p, o), y)| f64::from(*y) + lost(o) - exact(p, o));
            errors.map(|e| e * e).sum()
        };
        let plain = squares(Source::NormRelu(&x, raster, affine(&shift)), &|_| 0.0);
        let centred = Centred {
            affine: affine(&less),
            floor: &floor,
        };
        let centred = squares(Source::Centred(&x, raster, centred), &|o| lost[o]);
        let ratio = centred / plain;
        assert!(ratio < 0.55, "{}: {ratio}", isa.name());
    }
}

/// A bottleneck left as pairs by one convolution and read by the next, border included.
#[test]
fn maps_of_pairs() {
    let (spatial, c_in, c_mid, c_out) = ([1, 9, 7], 20, 34, 12);
    let window = Window::cube(2, 3, 1, 1);
    let x = normal("x", 63 * c_in);
    let first = normal("first", c_in * c_mid);
    let second = normal("second", 9 * c_mid * c_out);
    let (scale, shift) = (normal("scale", c_mid), normal("shift", c_mid));
    let affine = Affine {
        scale: &scale,
        shift: &shift,
    };
    for &isa in Isa::available() {
        let conv1 = Conv {
            window: Window::POINT,
            c_in,
            source: Source::Map(&x, Raster::dense(1, spatial, c_in)),
            weights: &Panels::packed_bf16(isa, &first, [1, c_in, c_mid]).unwrap(),
        };
        // The same map in f32 says what the pairs must hold.
        let plain = Raster::dense(1, spatial, c_mid);
        let mut wide = vec![0.0; plain.len()];
        let store = Store::Affine { affine, relu: true };
        conv1.run(&mut wide, &plain, store).unwrap();
        let inner = Raster::dense(1, spatial, c_mid / 2).with_halo([0, 1, 1]);
        let mut pairs = vec![0.0; inner.len()];
        conv1
            .run(&mut pairs, &inner, Store::AffineBf16(affine))
            .unwrap();
        let conv2 = Conv {
            window,
            c_in: c_mid / 2,
            source: Source::Bf16(&pairs, inner),
            weights: &Panels::packed_bf16(isa, &second, [9, c_mid, c_out]).unwrap(),
        };
        let to = Raster::dense(1, spatial, c_out);
        let mut output = vec![f32::NAN; to.len()];
        conv2.run(&mut output, &to, Store::Overwrite).unwrap();
        let [_, height, width] = spatial;
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            for o in 0..c_out {
                let (mut sum, mut magnitude) = (0.0, 1e-30);
                for (tap, c) in (0..9).flat_map(|t| (0..c_mid).map(move |c| (t, c))) {
                    let (iy, ix) = (y + tap / 3, x + tap % 3);
                    if iy == 0 || ix == 0 || iy > height || ix > width {
                        continue;
                    }
                    let value = wide[((iy - 1) * width + ix - 1) * c_mid + c];
                    let product = rounded(value) * rounded(second[(tap * c_mid + c) * c_out + o]);
                    sum += product;
                    magnitude += product.abs();
                }
                let what = format!("{} pixel {y}, {x}, {o}", isa.name());
                close(output[(y * width + x) * c_out + o], sum, magnitude, &what);
            }
        }
    }
}

/// Stems of stride 2, of images of odd and even sizes and channels, as wide as the kernel and narrower.
#[test]
fn images_in_pairs_of_pixels() {
    let cases = [
        (Window::cube(2, 7, 2, 3), 2, [1, 12, 33], 3),
        (Window::cube(2, 7, 2, 3), 1, [1, 5, 16], 1),
        (Window::cube(2, 3, 2, 1), 1, [1, 6, 3], 4),
        (Window::cube(2, 4, 2, 0), 1, [1, 4, 9], 3),
        (Window::cube(3, 7, 2, 3), 2, [4, 3, 6], 1),
        (Window::cube(3, 5, 2, 2), 1, [5, 4, 7], 2),
    ];
    for (window, batch, spatial, c_in) in cases {
        let c_out = 20;
        let image = Raster::dense(batch, spatial, c_in);
        let x = normal("x", image.len());
        let weight = normal("weight", window.taps() * c_in * c_out);
        let size = window.output(spatial).unwrap();
        let to = Raster::dense(batch, size, c_out);
        assert!(Paired::fits(&window) && Paired::holds(&window, &image));
        for &isa in Isa::available() {
            let paired = Paired::packed(isa, &weight, &window, [c_in, c_out]).unwrap();
            let mut pairs = vec![f32::NAN; Paired::prepared(&window, &image)];
            paired.prepare((&x, &image), &mut pairs).unwrap();
            let mut output = vec![f32::NAN; to.len()];
            let conv = paired.conv(&pairs, &image);
            conv.run(&mut output, &to, Store::Overwrite).unwrap();
            for (pixel, found) in output.chunks(c_out).enumerate() {
                let at = [
                    pixel / (size[2] * size[1]) % size[0],
                    pixel / size[2] % size[1],
                    pixel % size[2],
                ];
                let sample = pixel / size.iter().product::<usize>();
                for (o, found) in found.iter().enumerate() {
                    let (mut sum, mut magnitude) = (0.0, 1e-30);
                    for tap in 0..window.taps() {
                        let [_, kh, kw] = window.kernel;
                        let tap_at = [tap / (kh * kw), tap / kw % kh, tap % kw];
                        let place: [usize; 3] = std::array::from_fn(|a| {
                            (at[a] * window.stride[a] + tap_at[a]).wrapping_sub(window.padding[a])
                        });
                        if (0..3).any(|a| place[a] >= spatial[a]) {
                            continue;
                        }
                        let row = (sample * spatial[0] + place[0]) * spatial[1] + place[1];
                        for c in 0..c_in {
                            let value = x[(row * spatial[2] + place[2]) * c_in + c];
                            let product =
                                rounded(value) * rounded(weight[(tap * c_in + c) * c_out + o]);
                            sum += product;
                            magnitude += product.abs();
                        }
                    }
                    let what = format!("{} {window:?} pixel {pixel}, {o}", isa.name());
                    close(*found, sum, magnitude, &what);
                }
            }
        }
    }
    let narrow = Raster::dense(1, [1, 8, 2], 3);
    assert!(!Paired::holds(&Window::cube(2, 7, 2, 3), &narrow));
    assert!(!Paired::fits(&Window::cube(2, 3, 1, 1)));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let weights = Panels::packed_bf16(Isa::PORTABLE, &[0.0; 9], [9, 1, 1]).unwrap();
    let raster = Raster::dense(1, [1, 4, 4], 1).with_halo([0, 1, 1]);
    let conv = Conv {
        window: Window::cube(2, 3, 1, 1),
        c_in: 1,
        source: Source::Map(&[0.0; 36], raster),
        weights: &weights,
    };
    let to = Raster::dense(1, [1, 4, 4], 1);
    let error = conv.run(&mut [0.0; 16], &to, Store::Overwrite).unwrap_err();
    assert_eq!(error.what, "kernel over f32 in bf16");
    assert!(Panels::packed_bf16(Isa::PORTABLE, &[0.0; 8], [9, 1, 1]).is_err());
}
