//! Maps over images: the image, and beside it the same with the map laid over.

use densenet_data::{
    DecodedImage, Samples, Space,
    volume::{Grid, carry},
};
use image::{RgbImage, imageops};

use super::{
    Sheet,
    canvas::{Canvas, GAP, HEAD, Panel},
    colours::Rgb,
};

/// Longer sides are shrunk to this, much shorter ones enlarged in whole steps to about half of it.
const LONGEST: usize = 720;

/// The image with the map that lies on `grid` in it; nothing where the map has no place.
pub fn draw(image: &DecodedImage, (map, grid): (&[f32], &Grid), sheet: &Sheet) -> Option<Canvas> {
    let [_, height, width] = image.spatial();
    let (rows, columns) = shown([height, width]);
    let pixels = resized(image, [rows, columns])?;
    let steps = [height as f64 / rows as f64, width as f64 / columns as f64];
    let mut space = Space::UNKNOWN;
    // [right, anterior, superior] of an image are its columns, rows and nothing.
    space.affine[0] = [steps[1], 0.0, 0.0, 0.5 * steps[1] - 0.5];
    space.affine[1] = [0.0, steps[0], 0.0, 0.5 * steps[0] - 0.5];
    let own = Grid {
        spatial: [1, rows, columns],
        space,
    };
    let values = carry(map, grid, &own, f32::NAN)?;
    let over = |(&value, &pixel): (&f32, &Rgb)| match value.is_nan() {
        // What the network does not see.
        true => pixel.map(|v| v / 3),
        false => sheet.scale.over(value, pixel),
    };
    let overlay = Panel {
        width: columns,
        height: rows,
        pixels: values.iter().zip(&pixels).map(over).collect(),
    };
    let plain = Panel {
        width: columns,
        height: rows,
        pixels,
    };
    let mut canvas = Canvas::sheet([2 * columns + GAP, rows], sheet);
    canvas.put([GAP, HEAD + GAP], &plain);
    canvas.put([columns + 2 * GAP, HEAD + GAP], &overlay);
    Some(canvas)
}

/// Rows and columns on the sheet.
fn shown([height, width]: [usize; 2]) -> (usize, usize) {
    let longest = height.max(width).max(1);
    if longest > LONGEST {
        let side = |n: usize| (n * LONGEST / longest).max(1);
        return (side(height), side(width));
    }
    let factor = (LONGEST / 2).div_ceil(longest).max(1);
    (height * factor, width * factor)
}

/// The image in eight-bit colours at a size: averaged when it shrinks, whole squares when it grows.
fn resized(image: &DecodedImage, [rows, columns]: [usize; 2]) -> Option<Vec<Rgb>> {
    let [_, height, width] = image.spatial();
    let bytes = colours(image);
    let flat: Vec<u8> = bytes.into_iter().flatten().collect();
    let picture = RgbImage::from_raw(width as u32, height as u32, flat)?;
    let filter = match rows < height || columns < width {
        true => imageops::FilterType::Triangle,
        false => imageops::FilterType::Nearest,
    };
    let picture = match [rows, columns] == [height, width] {
        true => picture,
        false => imageops::resize(&picture, columns as u32, rows as u32, filter),
    };
    Some(picture.pixels().map(|p| p.0).collect())
}

/// Red, green and blue of every pixel, transparency laid over white.
fn colours(image: &DecodedImage) -> Vec<Rgb> {
    let unit: Vec<f32> = match image.samples() {
        Samples::U8(v) => v.iter().map(|&s| f32::from(s) / 255.0).collect(),
        Samples::U16(v) => v.iter().map(|&s| f32::from(s) / 65535.0).collect(),
        Samples::F32(v) => {
            let finite = || v.iter().copied().filter(|s| s.is_finite());
            let low = finite().fold(0.0f32, f32::min);
            let high = finite().fold(1.0f32, f32::max);
            v.iter().map(|s| (s - low) / (high - low)).collect()
        }
    };
    let byte = |v: f32| (255.0 * v).round().clamp(0.0, 255.0) as u8;
    let pixels = unit.chunks_exact(image.channels().max(1));
    let colour = |pixel: &[f32]| {
        let (rgb, alpha) = match *pixel {
            [grey] => ([grey; 3], 1.0),
            [grey, alpha] => ([grey; 3], alpha),
            [r, g, b] => ([r, g, b], 1.0),
            [r, g, b, alpha, ..] => ([r, g, b], alpha),
            [] => ([0.0; 3], 1.0),
        };
        rgb.map(|v| byte(v * alpha + 1.0 - alpha))
    };
    pixels.map(colour).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_on_the_sheet_are_readable() {
        assert_eq!(shown([8, 8]), (360, 360));
        assert_eq!(shown([500, 300]), (500, 300));
        assert_eq!(shown([1440, 720]), (720, 360));
        assert_eq!(shown([1, 100_000]), (1, 720));
    }

    #[test]
    fn every_kind_of_pixel_has_a_colour() {
        let colours_of = |channels, samples| {
            colours(&DecodedImage::new("x", [1, 1, 1], channels, samples).unwrap())[0]
        };
        assert_eq!(colours_of(1, Samples::U8(vec![7])), [7; 3]);
        assert_eq!(colours_of(2, Samples::U8(vec![7, 0])), [255; 3]);
        assert_eq!(
            colours_of(3, Samples::U16(vec![0, 65535, 257])),
            [0, 255, 1]
        );
        assert_eq!(colours_of(4, Samples::U8(vec![1, 2, 3, 255])), [1, 2, 3]);
        assert_eq!(colours_of(1, Samples::F32(vec![0.5])), [128; 3]);
    }
}
