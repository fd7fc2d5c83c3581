//! The random changes themselves, on prepared pixels `[depth][height][width][channel]`.

use super::{Augmentation, SampleKey};
use crate::random::{Purpose, Stream};
use crate::resample::PixelBox;

/// Weights of red, green and blue in grey (ITU-R 601).
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];
/// torchvision's ranges: shape of a resized crop, area and shape of an erased box, and how often to try.
const CROP_RATIO: [f32; 2] = [3.0 / 4.0, 4.0 / 3.0];
const ERASE_AREA: [f32; 2] = [0.02, 0.33];
const ERASE_RATIO: [f32; 2] = [0.3, 3.3];
const ATTEMPTS: usize = 10;

fn stream(key: SampleKey, purpose: Purpose) -> Stream {
    Stream::new(key.seed, key.epoch, key.index, purpose)
}

/// A box of random area share and shape, uniform in area and in the logarithm of the shape, if one fits.
fn random_box(
    random: &mut Stream,
    size: [usize; 2],
    area: [f32; 2],
    ratio: [f32; 2],
) -> Option<PixelBox> {
    let [height, width] = size;
    let whole = (height * width) as f32;
    for _ in 0..ATTEMPTS {
        let target = whole * random.between(area[0], area[1]);
        let shape = random.between(ratio[0].ln(), ratio[1].ln()).exp();
        let (w, h) = (
            (target * shape).sqrt().round() as usize,
            (target / shape).sqrt().round() as usize,
        );
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let (top, left) = (random.below(height - h + 1), random.below(width - w + 1));
            return Some(PixelBox {
                top,
                left,
                height: h,
                width: w,
            });
        }
    }
    None
}

impl Augmentation {
    /// The box of the source image, `size` = `[height, width]`, that becomes the output.
    ///
    /// Where ten tries fit no box (very long images), the largest central box of an allowed shape.
    pub(crate) fn crop_box(&self, size: [usize; 2], key: SampleKey) -> PixelBox {
        let [height, width] = size;
        let least = self.resized_crop.unwrap_or(1.0);
        let mut random = stream(key, Purpose::ResizedCrop);
        random_box(&mut random, size, [least, 1.0], CROP_RATIO).unwrap_or_else(|| {
            let shape = width as f32 / height as f32;
            let (h, w) = if shape < CROP_RATIO[0] {
                (
                    ((width as f32 / CROP_RATIO[0]).round() as usize).clamp(1, height),
                    width,
                )
            } else if shape > CROP_RATIO[1] {
                (
                    height,
                    ((height as f32 * CROP_RATIO[1]).round() as usize).clamp(1, width),
                )
            } else {
                (height, width)
            };
            PixelBox {
                top: (height - h) / 2,
                left: (width - w) / 2,
                height: h,
                width: w,
            }
        })
    }

    /// The middle and the extent of the part of a volume, `[depth, height, width]`, that becomes the output.
    ///
    /// Each side is drawn from the cube root of the smallest share to 1, and the part lies anywhere within the volume.
    pub(crate) fn crop_cuboid(&self, spatial: [usize; 3], key: SampleKey) -> ([f64; 3], [f64; 3]) {
        let least = self.resized_crop.unwrap_or(1.0).cbrt();
        let mut random = stream(key, Purpose::ResizedCrop);
        let extent = spatial.map(|n| f64::from(random.between(least, 1.0)) * n as f64);
        let middle = std::array::from_fn(|axis| {
            let (n, e) = (spatial[axis] as f64, extent[axis]);
            e / 2.0 + f64::from(random.uniform()) * (n - e)
        });
        (middle, extent)
    }

    /// Everything between resizing and normalisation: shift, flips, rotation, colour.
    ///
    /// `top` is the largest sample value where there is one; colours are clipped to 0..top.
    pub(crate) fn change(
        &self,
        pixels: &mut [f32],
        spatial: [usize; 3],
        channels: usize,
        top: Option<f32>,
        key: SampleKey,
    ) {
        let [_, height, width] = spatial;
        let slice = height * width * channels;
        if self.padded_crop > 0 {
            let mut random = stream(key, Purpose::PaddedCrop);
            let mut offset =
                || random.below(2 * self.padded_crop + 1) as isize - self.padded_crop as isize;
            let (dy, dx) = (offset(), offset());
            if (dy, dx) != (0, 0) {
                gather(
                    pixels,
                    slice,
                    |from, y, x, to| {
                        let (sy, sx) = (y as isize + dy, x as isize + dx);
                        to.fill(0.0);
                        if (0..height as isize).contains(&sy) && (0..width as isize).contains(&sx) {
                            let at = (sy as usize * width + sx as usize) * channels;
                            to.copy_from_slice(&from[at..at + channels]);
                        }
                    },
                    width,
                    channels,
                );
            }
        }
        if self.horizontal_flip > 0.0
            && stream(key, Purpose::HorizontalFlip).chance(self.horizontal_flip)
        {
            for row in pixels.chunks_exact_mut(width * channels) {
                for x in 0..width / 2 {
                    let (left, right) = row.split_at_mut((width - 1 - x) * channels);
                    left[x * channels..(x + 1) * channels].swap_with_slice(&mut right[..channels]);
                }
            }
        }
        if self.vertical_flip > 0.0 && stream(key, Purpose::VerticalFlip).chance(self.vertical_flip)
        {
            let row = width * channels;
            for picture in pixels.chunks_exact_mut(slice) {
                for y in 0..height / 2 {
                    let (upper, lower) = picture.split_at_mut((height - 1 - y) * row);
                    upper[y * row..(y + 1) * row].swap_with_slice(&mut lower[..row]);
                }
            }
        }
        if self.rotation > 0.0 {
            let degrees = stream(key, Purpose::Rotation).between(-self.rotation, self.rotation);
            rotate(pixels, [height, width], channels, degrees);
        }
        if self.brightness > 0.0 || self.contrast > 0.0 || self.saturation > 0.0 {
            self.jitter(pixels, channels, top, key);
        }
    }

    /// Brightness, then contrast, then saturation, each clipped: torchvision's formulas in a fixed order.
    fn jitter(&self, pixels: &mut [f32], channels: usize, top: Option<f32>, key: SampleKey) {
        let mut random = stream(key, Purpose::Jitter);
        let mut factor = |strength: f32| random.between(1.0 - strength, 1.0 + strength);
        // All three are drawn whatever their strengths, so that one's strength does not change another's number.
        let (brightness, contrast, saturation) = (
            factor(self.brightness),
            factor(self.contrast),
            factor(self.saturation),
        );
        let clip = |v: f32| top.map_or(v, |top| v.clamp(0.0, top));
        if self.brightness > 0.0 {
            pixels.iter_mut().for_each(|v| *v = clip(*v * brightness));
        }
        if self.contrast > 0.0 {
            let count = (pixels.len() / channels.max(1)).max(1) as f64;
            let mean = (pixels
                .chunks_exact(channels)
                .map(|p| f64::from(grey(p)))
                .sum::<f64>()
                / count) as f32;
            pixels
                .iter_mut()
                .for_each(|v| *v = clip(*v * contrast + mean * (1.0 - contrast)));
        }
        if self.saturation > 0.0 && channels == 3 {
            for pixel in pixels.chunks_exact_mut(channels) {
                let grey = grey(pixel);
                pixel
                    .iter_mut()
                    .for_each(|v| *v = clip(*v * saturation + grey * (1.0 - saturation)));
            }
        }
    }

    /// Set a random box of normalised pixels to zero, which is the mean colour.
    pub(crate) fn erase(
        &self,
        pixels: &mut [f32],
        spatial: [usize; 3],
        channels: usize,
        key: SampleKey,
    ) {
        if self.erasing <= 0.0 {
            return;
        }
        let [_, height, width] = spatial;
        let mut random = stream(key, Purpose::Erasing);
        if !random.chance(self.erasing) {
            return;
        }
        let Some(hole) = random_box(&mut random, [height, width], ERASE_AREA, ERASE_RATIO) else {
            return;
        };
        if [hole.height, hole.width] == [height, width] {
            return; // A picture of a pixel or two: nothing would be left.
        }
        for picture in pixels.chunks_exact_mut(height * width * channels) {
            for row in picture
                .chunks_exact_mut(width * channels)
                .skip(hole.top)
                .take(hole.height)
            {
                row[hole.left * channels..(hole.left + hole.width) * channels].fill(0.0);
            }
        }
    }
}

fn grey(pixel: &[f32]) -> f32 {
    match *pixel {
        [r, g, b] => LUMA[0] * r + LUMA[1] * g + LUMA[2] * b,
        [v, ..] => v,
        [] => 0.0,
    }
}

/// Rebuild every slice pixel by pixel from a copy of itself: `pick(source slice, y, x, pixel to write)`.
fn gather(
    pixels: &mut [f32],
    slice: usize,
    mut pick: impl FnMut(&[f32], usize, usize, &mut [f32]),
    width: usize,
    channels: usize,
) {
    let mut source = Vec::with_capacity(slice);
    for picture in pixels.chunks_exact_mut(slice) {
        source.clear();
        source.extend_from_slice(picture);
        for (y, row) in picture.chunks_exact_mut(width * channels).enumerate() {
            for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                pick(&source, y, x, pixel);
            }
        }
    }
}

/// Rotate counter-clockwise about the centre; bilinear, zeros from outside.
fn rotate(pixels: &mut [f32], [height, width]: [usize; 2], channels: usize, degrees: f32) {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (cy, cx) = ((height as f32 - 1.0) / 2.0, (width as f32 - 1.0) / 2.0);
    gather(
        pixels,
        height * width * channels,
        |from, y, x, to| {
            let (dy, dx) = (y as f32 - cy, x as f32 - cx);
            let (sx, sy) = (cx + cos * dx - sin * dy, cy + sin * dx + cos * dy);
            let (x0, y0) = (sx.floor(), sy.floor());
            let (fx, fy) = (sx - x0, sy - y0);
            to.fill(0.0);
            for (yy, wy) in [(y0, 1.0 - fy), (y0 + 1.0, fy)] {
                for (xx, wx) in [(x0, 1.0 - fx), (x0 + 1.0, fx)] {
                    if (0.0..height as f32).contains(&yy) && (0.0..width as f32).contains(&xx) {
                        let at = (yy as usize * width + xx as usize) * channels;
                        for (o, v) in to.iter_mut().zip(&from[at..at + channels]) {
                            *o += wy * wx * v;
                        }
                    }
                }
            }
        },
        width,
        channels,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SampleKey = SampleKey {
        seed: 1,
        epoch: 2,
        index: 3,
    };

    fn ramp(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i + 1) as f32 / n as f32).collect()
    }

    fn changed(text: &str, spatial: [usize; 3], channels: usize, key: SampleKey) -> Vec<f32> {
        let mut pixels = ramp(spatial.iter().product::<usize>() * channels);
        text.parse::<Augmentation>().unwrap().change(
            &mut pixels,
            spatial,
            channels,
            Some(1.0),
            key,
        );
        pixels
    }

    #[test]
    fn flips_mirror_pixels_not_channels() {
        assert_eq!(
            changed("hflip:1", [1, 1, 3], 2, KEY),
            [5.0, 6.0, 3.0, 4.0, 1.0, 2.0].map(|v| v / 6.0)
        );
        assert_eq!(
            changed("vflip:1", [2, 2, 1], 1, KEY),
            [2.0, 1.0, 4.0, 3.0].map(|v| v / 4.0)
        );
        assert_eq!(changed("hflip:1,vflip:1", [1, 3, 2], 1, KEY), {
            let mut all = ramp(6);
            all.reverse();
            all
        });
    }

    #[test]
    fn every_shift_occurs_and_zeros_move_in() {
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..200 {
            let out = changed("crop:1", [1, 3, 3], 1, SampleKey { index, ..KEY });
            // The middle pixel of the result tells which source pixel it was.
            seen.insert((out[4] * 9.0).round() as usize);
            let zeros = out.iter().filter(|v| **v == 0.0).count();
            assert!([0, 3, 5].contains(&zeros), "{out:?}");
        }
        assert_eq!(seen.len(), 9);
    }

    #[test]
    fn quarter_turns_are_exact() {
        let mut pixels = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        rotate(&mut pixels, [3, 3], 1, 90.0);
        let expected = [3.0, 6.0, 9.0, 2.0, 5.0, 8.0, 1.0, 4.0, 7.0];
        assert!(
            pixels
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-5),
            "{pixels:?}"
        );
        let mut same = ramp(12);
        rotate(&mut same, [3, 4], 1, 0.0);
        assert_eq!(same, ramp(12));
    }

    #[test]
    fn colours_stay_in_range_and_grey_has_no_saturation() {
        for index in 0..50 {
            let key = SampleKey { index, ..KEY };
            assert!(
                changed("jitter:1", [1, 4, 4], 3, key)
                    .iter()
                    .all(|v| (0.0..=1.0).contains(v))
            );
            assert_eq!(changed("saturation:1", [1, 4, 4], 1, key), ramp(16));
        }
        let mut flat = vec![0.5; 12];
        "contrast:1,saturation:1"
            .parse::<Augmentation>()
            .unwrap()
            .change(&mut flat, [1, 2, 2], 3, Some(1.0), KEY);
        assert!(flat.iter().all(|v| (v - 0.5).abs() < 1e-6), "{flat:?}");
    }

    #[test]
    fn boxes_lie_inside() {
        for size in [[1, 1], [1, 100], [100, 1], [32, 32], [7, 300]] {
            for index in 0..100 {
                let key = SampleKey { index, ..KEY };
                let b = Augmentation::imagenet().crop_box(size, key);
                assert!(
                    b.height >= 1
                        && b.width >= 1
                        && b.top + b.height <= size[0]
                        && b.left + b.width <= size[1]
                );
                let mut pixels = vec![1.0; size[0] * size[1] * 3];
                let erase = Augmentation {
                    erasing: 1.0,
                    ..Augmentation::default()
                };
                erase.erase(&mut pixels, [1, size[0], size[1]], 3, key);
                let share =
                    pixels.iter().filter(|v| **v == 0.0).count() as f32 / pixels.len() as f32;
                assert!(share <= 0.45, "{size:?}: {share}");
            }
        }
    }

    #[test]
    fn one_operation_does_not_disturb_another() {
        let alone = changed("hflip", [1, 8, 8], 1, KEY);
        let with_erasing = changed("hflip,erase", [1, 8, 8], 1, KEY);
        assert_eq!(alone, with_erasing);
        assert_eq!(
            changed("crop:2,hflip,rotate:15,jitter:0.3", [1, 8, 8], 3, KEY),
            { changed("jitter:0.3,rotate:15,hflip,crop:2", [1, 8, 8], 3, KEY) }
        );
        assert_ne!(
            changed("rotate:15", [1, 8, 8], 1, KEY),
            changed("rotate:15", [1, 8, 8], 1, SampleKey { epoch: 3, ..KEY })
        );
    }

    #[test]
    fn slices_of_a_volume_change_alike() {
        let mut pixels = [ramp(64), ramp(64)].concat();
        let augmentation: Augmentation = "crop:2,hflip,vflip,rotate:30".parse().unwrap();
        augmentation.change(&mut pixels, [2, 8, 8], 1, Some(1.0), KEY);
        assert_eq!(pixels[..64], pixels[64..]);
    }
}
