//! Where the prepared pixels lie in the image they were made of.

use super::{Preprocessing, form};
use crate::error::DataError;
use crate::volume::Space;

impl Preprocessing {
    /// The place of the prepared pixels of an image of `spatial` = `[depth, height, width]`, where that image itself lies in
    /// [`Space::UNKNOWN`]: what a map over the network's input needs to be [carried](crate::volume::carry) back.
    ///
    /// Volumes say it themselves, in [`Prepared::space`](super::Prepared::space).
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn image_space(&self, spatial: [usize; 3]) -> Result<Space, DataError> {
        let resized = self.resized(spatial)?;
        let steps: [f64; 3] =
            std::array::from_fn(|axis| spatial[axis] as f64 / resized[axis].max(1) as f64);
        let cut = match self.crop {
            Some([height, width]) => [
                0,
                form::first_kept(resized[1], height),
                form::first_kept(resized[2], width),
            ],
            None => [0; 3],
        };
        let first = std::array::from_fn(|axis| (cut[axis] as f64 + 0.5) * steps[axis] - 0.5);
        Ok(Space::UNKNOWN.resampled(first, steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocessing::Resize;
    use crate::volume::{Grid, carry};
    use crate::{DecodedImage, Samples};

    /// A ramp is prepared and carried back: every pixel that the network sees lands where it was.
    #[test]
    fn prepared_pixels_find_their_way_back() {
        let (height, width) = (60, 90);
        let ramp: Vec<f32> = (0..height)
            .flat_map(|y| (0..width).map(move |x| (3 * y + x) as f32))
            .collect();
        let image = DecodedImage::new("x", [1, height, width], 1, Samples::F32(ramp.clone()));
        let image = image.unwrap();
        let from = |resize, crop| Preprocessing {
            resize,
            crop,
            ..Preprocessing::plain(1)
        };
        for (steps, unseen) in [
            (from(None, None), 0),
            (from(Some(Resize::Exact([30, 60])), None), 0),
            (from(Some(Resize::ShorterSide(40)), Some([32, 33])), 1),
            (from(Some(Resize::ShorterSide(120)), Some([101, 100])), 1),
            (from(None, Some([64, 101])), 0),
        ] {
            let prepared = steps.apply(&image).unwrap();
            let seen = Grid {
                spatial: prepared.spatial,
                space: steps.image_space(image.spatial()).unwrap(),
            };
            let own = Grid {
                spatial: image.spatial(),
                space: Space::UNKNOWN,
            };
            let back = carry(&prepared.data, &seen, &own, f32::NAN).unwrap();
            assert_eq!(back.iter().any(|v| v.is_nan()), unseen == 1, "{steps:?}");
            for (i, (found, expected)) in back.iter().zip(&ramp).enumerate() {
                let (y, x) = (i / width, i % width);
                let inner = (6..height - 6).contains(&y) && (6..width - 6).contains(&x);
                // Beside the edge of a cut, the border's value continues.
                let whole = [(y + 3, x), (y, x + 3), (y.max(3) - 3, x), (y, x.max(3) - 3)]
                    .iter()
                    .all(|(y, x)| *y < height && *x < width && back[y * width + x].is_finite());
                // The filter's sampled weights keep a ramp of 3 a pixel to a twentieth of a pixel.
                if inner && whole && found.is_finite() {
                    assert!(
                        (found - expected).abs() < 0.15,
                        "{steps:?}: {y} {x}: {found} {expected}"
                    );
                }
            }
        }
    }
}
