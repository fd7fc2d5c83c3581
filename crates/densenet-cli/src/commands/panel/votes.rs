//! Several answers for one sample: changed copies, several models, and how far the answers lie apart.

use std::str::FromStr;

use densenet_data::{Augmentation, DataError, DecodedImage, Prepared, Preprocessing, SampleKey};

/// Which copies of a sample are shown to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Views {
    /// The sample and its mirror image, left and right exchanged.
    HorizontalFlip,
    /// The sample mirrored along every set of axes: 4 images or 8 volumes.
    Flips,
    /// The sample, and random changes of it: so many in all.
    Random(usize),
}

/// More copies than anybody waits for.
const MOST: usize = 1000;

impl FromStr for Views {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse::<usize>()) {
            ("hflip", _) => Ok(Views::HorizontalFlip),
            ("flips", _) => Ok(Views::Flips),
            (_, Ok(number)) if (2..=MOST).contains(&number) => Ok(Views::Random(number)),
            (_, Ok(_)) => Err(format!("give 2 to {MOST} copies — or hflip, or flips")),
            _ => Err(format!(
                "no such copies — give hflip, flips, or a number from 2 to {MOST}"
            )),
        }
    }
}

/// The changes of the random copies, unless said otherwise: small ones that leave left and right alone.
pub const USUAL_CHANGES: &str = "rotate:5,brightness:0.1,contrast:0.1";

impl Views {
    /// How many copies there are.
    pub fn count(self, volumes: bool) -> usize {
        match self {
            Views::HorizontalFlip => 2,
            Views::Flips if volumes => 8,
            Views::Flips => 4,
            Views::Random(number) => number,
        }
    }

    /// The axes `[depth, height, width]` that a copy is mirrored along; `None` for random copies.
    pub fn axes(self, view: usize) -> Option<[bool; 3]> {
        match self {
            Views::HorizontalFlip | Views::Flips => {
                Some([view & 4 != 0, view & 2 != 0, view & 1 != 0])
            }
            Views::Random(_) => None,
        }
    }

    /// The copies of a sample, the unchanged one first.
    ///
    /// # Errors
    /// The sample cannot be prepared.
    pub fn of(
        self,
        image: &DecodedImage,
        preprocessing: &Preprocessing,
        changes: &Augmentation,
    ) -> Result<Vec<Prepared>, DataError> {
        let plain = preprocessing.apply(image)?;
        let count = self.count(preprocessing.volume.is_some());
        let mut views = Vec::with_capacity(count);
        for view in 1..count {
            views.push(match self.axes(view) {
                Some(axes) => Prepared {
                    data: mirror(&plain.data, plain.spatial, plain.channels, axes),
                    ..plain.clone()
                },
                None => {
                    let key = SampleKey {
                        seed: 0,
                        epoch: u32::try_from(view).unwrap_or(u32::MAX),
                        index: 0,
                    };
                    preprocessing.apply_with(image, Some((changes, key)))?
                }
            });
        }
        views.insert(0, plain);
        Ok(views)
    }
}

/// Samples of one size mirrored along some axes `[depth, height, width]`.
///
/// # Shapes
/// `data` `[samples, depth, height, width, channels]`.
pub fn mirror(data: &[f32], spatial: [usize; 3], channels: usize, axes: [bool; 3]) -> Vec<f32> {
    let [depth, height, width] = spatial;
    let at = |axis: usize, i: usize, n: usize| if axes[axis] { n - 1 - i } else { i };
    let mut out = Vec::with_capacity(data.len());
    for sample in data.chunks_exact((depth * height * width * channels).max(1)) {
        for z in 0..depth {
            for y in 0..height {
                let row = at(0, z, depth) * height + at(1, y, height);
                for x in 0..width {
                    let pixel = (row * width + at(2, x, width)) * channels;
                    out.extend_from_slice(&sample[pixel..pixel + channels]);
                }
            }
        }
    }
    out
}

/// How far the answers lie apart for one class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Standard deviation over the answers.
    pub std: f64,
    pub min: f64,
    pub max: f64,
}

/// The mean of several answers.
pub struct Mean {
    pub probabilities: Vec<f64>,
    pub spread: Vec<Spread>,
    /// The share of the answers whose likeliest class is another than the mean's.
    pub disagreement: f64,
}

impl Mean {
    /// Of answers for the same classes in the same order.
    pub fn of(answers: &[Vec<f64>]) -> Self {
        let classes = answers.first().map_or(0, Vec::len);
        let count = answers.len().max(1) as f64;
        let (mut probabilities, mut spread) = (Vec::new(), Vec::new());
        for class in 0..classes {
            let values = || answers.iter().map(|answer| answer[class]);
            let mean = values().sum::<f64>() / count;
            let variance = values().map(|p| (p - mean).powi(2)).sum::<f64>() / count;
            probabilities.push(mean);
            spread.push(Spread {
                std: variance.sqrt(),
                min: values().fold(f64::INFINITY, f64::min),
                max: values().fold(f64::NEG_INFINITY, f64::max),
            });
        }
        let likeliest = first_of_the_largest(&probabilities);
        let others = answers
            .iter()
            .filter(|a| first_of_the_largest(a) != likeliest);
        Mean {
            disagreement: others.count() as f64 / count,
            probabilities,
            spread,
        }
    }
}

/// The first index of the largest value.
pub fn first_of_the_largest(values: &[f64]) -> Option<usize> {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter().position(|v| *v == largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_read_or_refused() {
        assert_eq!("hflip".parse(), Ok(Views::HorizontalFlip));
        assert_eq!("flips".parse(), Ok(Views::Flips));
        assert_eq!("8".parse(), Ok(Views::Random(8)));
        for wrong in ["0", "1", "1001", "flip", "-2", ""] {
            assert!(
                wrong.parse::<Views>().unwrap_err().contains(" — "),
                "{wrong}"
            );
        }
        assert_eq!(
            (Views::Flips.count(false), Views::Flips.count(true)),
            (4, 8)
        );
    }

    #[test]
    fn flips_are_all_the_mirror_images() {
        let samples = densenet_data::Samples::F32((0..6).map(|i| i as f32).collect());
        let image = DecodedImage::new("x", [1, 2, 3], 1, samples).unwrap();
        let plain = Preprocessing::plain(1);
        let views = Views::Flips
            .of(&image, &plain, &Augmentation::default())
            .unwrap();
        let data: Vec<_> = views.iter().map(|v| v.data.clone()).collect();
        assert_eq!(data[0], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(data[1], [2.0, 1.0, 0.0, 5.0, 4.0, 3.0]);
        assert_eq!(data[2], [3.0, 4.0, 5.0, 0.0, 1.0, 2.0]);
        assert_eq!(data[3], [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]);
    }

    #[test]
    fn the_mean_and_its_spread() {
        let mean = Mean::of(&[vec![0.9, 0.1], vec![0.7, 0.3], vec![0.2, 0.8]]);
        let [first, ..] = mean.spread[..] else {
            panic!()
        };
        assert!((mean.probabilities[0] - 0.6).abs() < 1e-12);
        assert!((first.std - (0.26f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!((first.min, first.max), (0.2, 0.9));
        assert!((mean.disagreement - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(Mean::of(&[vec![0.5, 0.5]]).disagreement, 0.0);
    }
}
