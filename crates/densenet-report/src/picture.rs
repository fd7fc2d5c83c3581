//! Pixels as `data:` addresses of PNG files.

use base64::{Engine, prelude::BASE64_STANDARD};

/// A picture's pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pixels<'a> {
    /// One byte each.
    Grey(&'a [u8]),
    /// Red, green, blue.
    Rgb(&'a [u8]),
    /// Red, green, blue, opacity (not premultiplied).
    Rgba(&'a [u8]),
}

/// The picture as an address for `<img src=…>`; `None` where the number of pixels is not `width · height`, or is 0.
pub fn data_uri(width: usize, height: usize, pixels: Pixels<'_>) -> Option<String> {
    let (bytes, color) = match pixels {
        Pixels::Grey(bytes) => (bytes, png::ColorType::Grayscale),
        Pixels::Rgb(bytes) => (bytes, png::ColorType::Rgb),
        Pixels::Rgba(bytes) => (bytes, png::ColorType::Rgba),
    };
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(
        &mut file,
        u32::try_from(width).ok()?,
        u32::try_from(height).ok()?,
    );
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().ok()?;
    // The encoder compares the number of bytes with what was announced.
    writer.write_image_data(bytes).ok()?;
    writer.finish().ok()?;
    Some(format!(
        "data:image/png;base64,{}",
        BASE64_STANDARD.encode(file)
    ))
}

/// A colour for evidence from 0 (none: clear) to 1 (the strongest: opaque red), to lie over a picture.
///
/// Hue, lightness and opacity all rise with it, so that it reads in grey, too.
pub fn heat(value: f32) -> [u8; 4] {
    let v = if value.is_finite() {
        value.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
    // Amber below, red above.
    let [r, g, b] = if v < 0.5 {
        let t = 2.0 * v;
        [
            mix(255.0, 255.0, t),
            mix(210.0, 140.0, t),
            mix(60.0, 20.0, t),
        ]
    } else {
        let t = 2.0 * v - 1.0;
        [
            mix(255.0, 215.0, t),
            mix(140.0, 20.0, t),
            mix(20.0, 30.0, t),
        ]
    };
    [r as u8, g as u8, b as u8, (165.0 * v.powf(1.5)) as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_comes_back() {
        let uri = data_uri(2, 1, Pixels::Rgb(&[1, 2, 3, 4, 5, 6])).unwrap();
        let base64 = uri.strip_prefix("data:image/png;base64,").unwrap();
        let bytes = BASE64_STANDARD.decode(base64).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        let mut out = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut out).unwrap();
        assert_eq!(out, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn pixels_that_do_not_fit_are_no_picture() {
        assert_eq!(data_uri(2, 2, Pixels::Grey(&[1, 2, 3])), None);
        assert_eq!(data_uri(0, 2, Pixels::Grey(&[])), None);
    }

    #[test]
    fn heat_rises() {
        assert_eq!(heat(0.0)[3], 0);
        assert_eq!(heat(f32::NAN)[3], 0);
        assert!(heat(0.4)[3] < heat(0.9)[3] && heat(2.0) == heat(1.0));
    }
}
