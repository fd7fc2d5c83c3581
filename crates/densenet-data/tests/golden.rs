//! Against PIL and torchvision: decoding, orientation, resizing, the whole evaluation transform.
//!
//! The files are made by `tools/data/golden.py`.

use std::path::{Path, PathBuf};

use densenet_data::{
    DecodedImage, Filter, Preprocessing, Resize, Samples, Scale, decode_file, npy,
};

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(path)
}

fn values(samples: &Samples) -> Vec<f32> {
    match samples {
        Samples::U8(v) => v.iter().map(|&s| s.into()).collect(),
        Samples::U16(v) => v.iter().map(|&s| s.into()).collect(),
        Samples::F32(v) => v.clone(),
    }
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// The golden array as an 8-bit picture.
fn picture(path: &str) -> DecodedImage {
    let array = npy::read(&golden(path)).unwrap();
    let (spatial, channels) = match *array.shape.as_slice() {
        [h, w] => ([1, h, w], 1),
        [h, w, c] => ([1, h, w], c),
        _ => panic!("{:?}", array.shape),
    };
    let samples = Samples::U8(array.data.iter().map(|&v| v as u8).collect());
    DecodedImage::new(path, spatial, channels, samples).unwrap()
}

#[test]
fn every_kind_of_file_decodes_as_in_pil() {
    let mut seen = 0;
    for entry in std::fs::read_dir(golden("files")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "npy") {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let expected = npy::read(&golden(&format!("files/{name}.npy"))).unwrap();
        let image = decode_file(&path).unwrap();
        let [_, height, width] = image.spatial();
        let mut found = values(image.samples());
        let mut channels = image.channels();
        if channels == 3 && expected.shape[2] == 1 {
            // A palette of greys may be expanded to RGB by one and to grey by the other.
            assert!(
                found.chunks(3).all(|p| p[0] == p[1] && p[1] == p[2]),
                "{name}"
            );
            found = found.chunks(3).map(|p| p[0]).collect();
            channels = 1;
        }
        if channels == 1 && expected.shape[2] == 3 {
            found = found.iter().flat_map(|&v| [v; 3]).collect();
            channels = 3;
        }
        assert_eq!([height, width, channels], expected.shape[..], "{name}");
        // Lossless files exactly. JPEG decoders differ by a rounding in the inverse transform and one in the colour
        // conversion; where colour is subsampled, also in how it is spread; CMYK multiplies two rounded samples.
        let tolerance = match name.as_str() {
            "lossy.webp" | "subsampled.jpg" => 8.0,
            "cmyk.jpg" => 4.0,
            _ if name.ends_with(".jpg") => 3.0,
            _ => 0.0,
        };
        let worst = worst(&found, &expected.data);
        assert!(worst <= tolerance, "{name}: off by {worst}");
        assert_eq!(
            matches!(image.samples(), Samples::U16(_)),
            name.contains("16"),
            "{name}"
        );
        seen += 1;
    }
    assert_eq!(seen, 35);
}

#[test]
fn resizing_equals_pil() {
    let input = picture("resize/input.npy");
    for filter in [Filter::Bilinear, Filter::Bicubic] {
        let name = format!("{filter:?}").to_lowercase();
        for [height, width] in [
            [16, 16],
            [5, 80],
            [60, 7],
            [37, 20],
            [50, 53],
            [1, 1],
            [74, 106],
        ] {
            let preprocessing = Preprocessing {
                filter,
                scale: Scale::None,
                ..Preprocessing::exact(3, [height, width])
            };
            let found = preprocessing.apply(&input).unwrap();
            let expected = npy::read(&golden(&format!(
                "resize/input_{height}x{width}_{name}.npy"
            )))
            .unwrap();
            assert_eq!(
                worst(&found.data, &expected.data),
                0.0,
                "{name} {height}x{width}"
            );
        }
        let wide = npy::read(&golden("resize/input_wide.npy")).unwrap();
        let wide = DecodedImage::new("wide", [1, 19, 23], 1, Samples::F32(wide.data)).unwrap();
        for [height, width] in [[8, 8], [40, 11]] {
            let preprocessing = Preprocessing {
                filter,
                ..Preprocessing::exact(1, [height, width])
            };
            let found = preprocessing.apply(&wide).unwrap();
            let expected = npy::read(&golden(&format!(
                "resize/float_{height}x{width}_{name}.npy"
            )))
            .unwrap();
            // Both round to f32 after each pass; sums in f64 may be taken in another order.
            assert!(
                worst(&found.data, &expected.data) <= 65536.0 * f32::EPSILON,
                "{name} {height}x{width}"
            );
        }
    }
}

#[test]
fn the_evaluation_transform_equals_torchvisions() {
    let input = picture("resize/input.npy");
    let base = Preprocessing {
        mean: Preprocessing::IMAGENET_MEAN.to_vec(),
        std: Preprocessing::IMAGENET_STD.to_vec(),
        ..Preprocessing::plain(3)
    };
    let shorter = |side, crop| Preprocessing {
        resize: Some(Resize::ShorterSide(side)),
        crop: Some(crop),
        ..base.clone()
    };
    for (name, preprocessing) in [
        ("shorter_20_crop_16x16", shorter(20, [16, 16])),
        ("shorter_21_crop_18x13", shorter(21, [18, 13])),
        ("shorter_12_crop_15x14", shorter(12, [15, 14])),
        (
            "exact_10x30",
            Preprocessing {
                resize: Some(Resize::Exact([10, 30])),
                ..base.clone()
            },
        ),
    ] {
        let found = preprocessing.apply(&input).unwrap();
        let expected = npy::read(&golden(&format!("transform/{name}.npy"))).unwrap();
        assert_eq!(found.spatial[1..], expected.shape[..2], "{name}");
        // The same 8-bit numbers; then three roundings on values below 3.
        let worst = worst(&found.data, &expected.data);
        assert!(worst <= 3.0 * 3.0 * f32::EPSILON, "{name}: {worst}");
    }
}

#[test]
fn grey_out_of_colour_equals_pil() {
    let grey = Preprocessing {
        scale: Scale::None,
        ..Preprocessing::plain(1)
    };
    let found = grey.apply(&picture("resize/input.npy")).unwrap();
    assert_eq!(
        found.data,
        npy::read(&golden("transform/luma.npy")).unwrap().data
    );
}
