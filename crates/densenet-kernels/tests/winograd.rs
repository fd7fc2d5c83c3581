//! Winograd convolutions, for every instruction set of this machine, against the reference, with signed and badly scaled
//! inputs.

use densenet_kernels::{
    Isa, Raster,
    winograd::{Factors, Stem, StemWeights, Tiles, Winograd, WinogradWeights},
};
use densenet_reference::{Tensor, op};
use densenet_spec::Window;
use densenet_testkit::{Distribution, channels_last, fill};

/// Batch, size, channels in and out: maps that are and are not multiples of the tiles, narrower than one, and more
/// tiles than a group.
const CASES: [(usize, [usize; 3], usize, usize); 9] = [
    (1, [1, 1, 1], 1, 1),
    (2, [1, 7, 7], 48, 12),
    (1, [1, 14, 14], 128, 32),
    (1, [1, 28, 5], 33, 17),
    (3, [1, 3, 30], 16, 47),
    (1, [3, 5, 4], 24, 12),
    (2, [2, 8, 8], 32, 32),
    (1, [7, 7, 9], 16, 8),
    (1, [1, 4, 64], 8, 100),
];

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

/// What computes a convolution.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// 3×3 and 3×3×3.
    Tiles(Tiles),
    /// The same on a map of bf16; the input is exactly that.
    Pairs(Tiles),
    /// 7×7 and 7×7×7 of stride 2.
    Stem,
}

/// The largest error over the outputs' root mean square, of a convolution of `x` with a seeded kernel.
fn error(x: &Tensor, isa: Isa, c_out: usize, way: Way) -> f64 {
    let (batch, c_in) = (x.batch, x.channels);
    let dims = if x.spatial[0] == 1 { 2 } else { 3 };
    let window = match way {
        Way::Tiles(_) | Way::Pairs(_) => Window::cube(dims, 3, 1, 1),
        Way::Stem => Window::cube(dims, 7, 2, 3),
    };
    let taps = window.taps();
    // `[c_out][c_in][tap]` for the reference, `[tap][c_in][c_out]` for the kernels.
    let weight = fill("weight", c_out * c_in * taps, 2, Distribution::standard());
    let mut ours = vec![0.0; weight.len()];
    for (i, w) in weight.iter().enumerate() {
        let (o, c, tap) = (i / taps / c_in, i / taps % c_in, i % taps);
        ours[(tap * c_in + c) * c_out + o] = *w;
    }
    let wide: Vec<f64> = weight.iter().map(|w| f64::from(*w)).collect();
    let expected = op::conv::forward(x, &wide, window);
    let spatial = expected.spatial;
    let [d, h, w] = spatial;
    let expected = channels_last(&expected.data, &[batch, c_out, d, h, w]);
    let [d, h, w] = x.spatial;
    let padded = Raster::dense(batch, x.spatial, c_in).with_halo(window.padding);
    let mut data = vec![0.0; padded.len()];
    for (pixel, source) in channels_last(&x.data, &[batch, c_in, d, h, w])
        .chunks(c_in)
        .enumerate()
    {
        for (target, value) in data[padded.pixel(pixel)..].iter_mut().zip(source) {
            *target = *value as f32;
        }
    }
    let block = Raster::dense(batch, spatial, c_out + 3).at(2);
    let mut output = vec![f32::NAN; block.len()];
    let sizes = [c_in, c_out];
    match way {
        Way::Tiles(tiles) => {
            let source = (&data[..], padded);
            let packed = WinogradWeights::packed(isa, &ours, (&window, tiles), sizes);
            let weights = &packed.unwrap();
            let convolution = Winograd {
                source,
                bf16: false,
                weights,
            };
            convolution.run(&mut output, &block).unwrap();
        }
        Way::Pairs(tiles) => {
            let halves = data.chunks(2).map(|pair| {
                let [low, high] = [pair[0], pair[1]].map(|x| x.to_bits() >> 16);
                f32::from_bits(high << 16 | low)
            });
            let pairs: Vec<f32> = halves.collect();
            let raster = Raster::dense(batch, x.spatial, c_in / 2).with_halo(window.padding);
            let packed = WinogradWeights::packed(isa, &ours, (&window, tiles), sizes);
            let convolution = Winograd {
                source: (&pairs, raster),
                bf16: true,
                weights: &packed.unwrap(),
            };
            convolution.run(&mut output, &block).unwrap();
        }
        Way::Stem => {
            let convolution = Stem {
                input: Raster::dense(batch, x.spatial, c_in),
                weights: &StemWeights::packed(isa, &ours, &window, sizes).unwrap(),
                norm_relu: None,
            };
            let image: Vec<f32> = channels_last(&x.data, &[batch, c_in, d, h, w])
                .into_iter()
                .map(|v| v as f32)
                .collect();
            let prepared = StemWeights::prepared(&window, &convolution.input);
            let mut squares = vec![f32::NAN; prepared];
            convolution.prepare(&image, &mut squares).unwrap();
            // Three planes at a time; a sample's planes lie together in the whole map only if it is alone.
            let step = if batch == 1 { 3 } else { spatial[0] };
            for first in (0..spatial[0]).step_by(step) {
                let depths = first..(first + step).min(spatial[0]);
                let planes = [depths.len(), spatial[1], spatial[2]];
                let part = Raster::dense(batch, planes, c_out + 3).at(2);
                let target = &mut output[first * block.plane_pitch()..];
                convolution.run(&squares, depths, (target, &part)).unwrap();
            }
        }
    }
    let mut worst = 0.0f64;
    for pixel in 0..block.pixels() {
        let found = &output[block.pixel(pixel) - 2..][..c_out + 3];
        assert!(
            found[..2]
                .iter()
                .chain(&found[2 + c_out..])
                .all(|v| v.is_nan()),
            "wrote beside pixel {pixel}"
        );
        for (f, e) in found[2..2 + c_out].iter().zip(&expected[pixel * c_out..]) {
            let difference = (f64::from(*f) - e).abs();
            assert!(difference.is_finite(), "pixel {pixel} was not written");
            worst = worst.max(difference);
        }
    }
    let square: f64 = expected.iter().map(|v| v * v).sum();
    worst / (square / expected.len() as f64).sqrt().max(1e-30)
}

#[test]
fn every_size_on_every_instruction_set() {
    for (batch, spatial, c_in, c_out) in CASES {
        let x = tensor("x", batch, c_in, spatial);
        for &isa in Isa::available() {
            for (tiles, most) in [
                (Tiles::Two, 2e-5),
                (Tiles::TwoFour, 5e-5),
                (Tiles::Four, 5e-5),
            ] {
                let error = error(&x, isa, c_out, Way::Tiles(tiles));
                let case = format!("{} {tiles:?} {spatial:?} {c_in}→{c_out}", isa.name());
                println!("{case}: {error:.1e}");
                assert!(error < most, "{case}: {error:.1e}");
            }
        }
    }
}

/// Products in f32 are as exact on a map of bf16 as on any other; rounded to bf16 they keep eight bits.
#[test]
fn maps_of_bf16_on_every_instruction_set() {
    for (batch, spatial, c_in, c_out) in CASES {
        if c_in % 2 == 1 {
            continue;
        }
        let mut x = tensor("x", batch, c_in, spatial);
        for v in &mut x.data {
            *v = f64::from(f32::from_bits((*v as f32).to_bits() & 0xffff_0000));
        }
        for &isa in Isa::available() {
            for (tiles, most) in [
                (Tiles::Two, 2e-5),
                (Tiles::TwoFour, 5e-5),
                (Tiles::Four, 5e-5),
                (Tiles::TwoBf16, 0.05),
                (Tiles::WideBf16, 0.08),
            ] {
                let error = error(&x, isa, c_out, Way::Pairs(tiles));
                let case = format!("{} {tiles:?} {spatial:?} {c_in}→{c_out}", isa.name());
                println!("{case}: {error:.1e}");
                assert!(error < most, "{case}: {error:.1e}");
                let rounded = most > 0.01;
                assert_eq!(error > 1e-4, rounded, "{case}: {error:.1e}");
            }
        }
    }
}

#[test]
fn stems_on_every_instruction_set() {
    let cases = [
        (2, [1, 1, 1], 1, 1),
        (1, [1, 16, 16], 3, 64),
        (2, [1, 61, 34], 3, 24),
        (1, [1, 20, 131], 13, 47),
        (1, [9, 16, 16], 1, 64),
        (2, [20, 7, 31], 2, 12),
        (1, [80, 6, 6], 1, 16),
    ];
    for (batch, spatial, c_in, c_out) in cases {
        let x = tensor("x", batch, c_in, spatial);
        for &isa in Isa::available() {
            let error = error(&x, isa, c_out, Way::Stem);
            let case = format!("{} stem {spatial:?} {c_in}→{c_out}", isa.name());
            println!("{case}: {error:.1e}");
            assert!(error < 1e-4, "{case}: {error:.1e}");
        }
    }
}

/// Channels whose scales lie a million apart, with a mean far from zero: the error stays relative to the outputs.
#[test]
fn badly_scaled_inputs() {
    for spatial in [[1, 14, 14], [4, 8, 8]] {
        let mut x = tensor("x", 1, 32, spatial);
        for c in 0..32 {
            let scale = 10f64.powi(c as i32 % 7 - 3);
            x.map_mut(0, c)
                .iter_mut()
                .for_each(|v| *v = f64::from(((*v + 3.0) * scale) as f32));
        }
        for &isa in Isa::available() {
            for way in [
                Way::Tiles(Tiles::Two),
                Way::Tiles(Tiles::TwoFour),
                Way::Tiles(Tiles::Four),
                Way::Stem,
            ] {
                let error = error(&x, isa, 16, way);
                println!("{} {way:?} {spatial:?}: {error:.1e}", isa.name());
                assert!(
                    error < 2e-4,
                    "{} {way:?} {spatial:?}: {error:.1e}",
                    isa.name()
                );
            }
        }
    }
}

/// Large maps take tiles of 4, small ones tiles of 2, the smallest none.
#[test]
fn the_size_of_the_map_chooses_the_tiles() {
    let (plane, cube) = (Window::cube(2, 3, 1, 1), Window::cube(3, 3, 1, 1));
    let choose = |window, spatial| WinogradWeights::choose(window, spatial, Factors::F32);
    assert_eq!(choose(&plane, [1, 56, 56]), Some(Tiles::Four));
    assert_eq!(choose(&plane, [1, 14, 14]), Some(Tiles::Two));
    assert_eq!(choose(&plane, [1, 3, 3]), None);
    assert_eq!(choose(&cube, [16, 16, 16]), Some(Tiles::Four));
    assert_eq!(choose(&cube, [8, 8, 8]), Some(Tiles::TwoFour));
    assert_eq!(choose(&cube, [4, 4, 4]), Some(Tiles::Two));
    assert_eq!(choose(&cube, [2, 2, 2]), None);
    assert_eq!(choose(&Window::POINT, [1, 56, 56]), None);
    let choose =
        |window, spatial| WinogradWeights::choose(window, spatial, Factors::Bf16 { wide: true });
    let narrow = Factors::Bf16 { wide: false };
    assert_eq!(choose(&plane, [1, 56, 56]), Some(Tiles::WideBf16));
    assert_eq!(
        WinogradWeights::choose(&plane, [1, 28, 28], narrow),
        Some(Tiles::TwoBf16)
    );
    assert_eq!(choose(&plane, [1, 7, 7]), None);
    assert_eq!(choose(&cube, [24, 24, 24]), Some(Tiles::Four));
    assert_eq!(choose(&cube, [8, 8, 8]), Some(Tiles::WideBf16));
    assert_eq!(choose(&cube, [6, 6, 6]), Some(Tiles::TwoBf16));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (stem, window) = (Window::cube(2, 7, 2, 3), Window::cube(2, 3, 1, 1));
    assert!(!WinogradWeights::fits(&stem) && !WinogradWeights::fits(&Window::POINT));
    assert!(StemWeights::fits(&stem) && !StemWeights::fits(&window));
    let packed = |weight: &[f32], window: &Window| {
        WinogradWeights::packed(Isa::PORTABLE, weight, (window, Tiles::Four), [1, 1])
    };
    assert!(packed(&[0.0; 49], &stem).is_err());
    assert!(packed(&[0.0; 8], &window).is_err());
    assert!(StemWeights::packed(Isa::PORTABLE, &[0.0; 48], &stem, [1, 1]).is_err());
    let weights = packed(&[0.0; 9], &window).unwrap();
    let bare = Raster::dense(1, [1, 4, 4], 1);
    let run = Winograd {
        source: (&[0.0; 16], bare),
        bf16: false,
        weights: &weights,
    };
    let larger = Raster::dense(1, [1, 4, 5], 1);
    assert_eq!(
        run.run(&mut [0.0; 20], &larger).unwrap_err().what,
        "size of the output"
    );
    assert!(run.run(&mut [0.0; 16], &bare).is_ok());
    let tiles = (&window, Tiles::TwoBf16);
    let rounded = WinogradWeights::packed(Isa::PORTABLE, &[0.0; 9], tiles, [1, 1]).unwrap();
    let run = Winograd {
        weights: &rounded,
        ..run
    };
    let error = run.run(&mut [0.0; 16], &bare).unwrap_err();
    assert_eq!(error.what, "map of f32 for bf16");
    let run = Winograd { bf16: true, ..run };
    let error = run.run(&mut [0.0; 16], &bare).unwrap_err();
    assert_eq!(error.what, "odd channels of pairs");
}
