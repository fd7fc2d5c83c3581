//! Occlusion: how much an answer suffers when a part of the input is covered.

use super::{ExplainError, Map, check_class, single};
use crate::{Input, Predictor};

/// What is covered, and with what.
#[derive(Debug, Clone, PartialEq)]
pub struct Occlusion {
    /// The covered box, `[depth, height, width]`.
    pub window: [usize; 3],
    /// From one place of the box to the next. The last place of an axis ends at the border, wherever the steps lead.
    pub stride: [usize; 3],
    /// One value per channel, in the unit of the input.
    pub baseline: Vec<f32>,
    /// Inputs that the network sees at a time.
    pub batch: usize,
    /// What falls.
    pub score: Score,
}

/// The number whose fall is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Score {
    /// The softmax probability of the class.
    #[default]
    Probability,
    /// Its logit.
    Logit,
}

impl Occlusion {
    /// A box of about a seventh of each side, moved by half its size over an image and by its size over a volume, filled with
    /// `baseline`, a value for each channel.
    ///
    /// A seventh of 224 pixels is the step of a DenseNet's last map: nothing finer is seen there.
    pub fn for_size(spatial: [usize; 3], baseline: Vec<f32>) -> Self {
        let window = spatial.map(|s| s.div_ceil(7).max(1));
        Occlusion {
            window,
            stride: match spatial[0] {
                1 => window.map(|w| w.div_ceil(2)),
                _ => window,
            },
            baseline,
            batch: 8,
            score: Score::Probability,
        }
    }

    /// The first pixels of the boxes along an axis of `size` pixels.
    fn places(&self, axis: usize, size: usize) -> Vec<usize> {
        let last = size - self.window[axis];
        let mut places: Vec<usize> = (0..last).step_by(self.stride[axis]).collect();
        places.push(last);
        places
    }

    /// How many boxes cover an input of this size; nothing where a box does not fit.
    pub fn boxes(&self, spatial: [usize; 3]) -> Option<usize> {
        let fits = (0..3).all(|axis| self.fits(axis, spatial[axis]));
        fits.then(|| (0..3).map(|a| self.places(a, spatial[a]).len()).product())
    }

    fn fits(&self, axis: usize, size: usize) -> bool {
        (1..=size).contains(&self.window[axis]) && self.stride[axis] > 0
    }

    fn check(&self, spatial: [usize; 3], channels: usize) -> Result<(), ExplainError> {
        for axis in 0..3 {
            if !self.fits(axis, spatial[axis]) {
                return Err(ExplainError::Window {
                    window: self.window,
                    stride: self.stride,
                    spatial,
                });
            }
        }
        super::check_baseline(&self.baseline, channels)
    }
}

/// How much the score of a class falls when a box is covered: for every pixel the mean over the boxes that cover it.
///
/// ```text
/// map[p] = mean over the boxes B that hold p of  score(input) − score(input with B filled with the baseline)
/// ```
///
/// Large values are where the answer depends on what is seen; below zero, covering helps the class. Pixels between boxes
/// (where the stride exceeds the window) are 0.
///
/// # Errors
/// The input does not fit the network or holds several samples, there is no such class, a box does not fit the input, or
/// the answer is not finite.
///
/// # Numerics
/// Probabilities and means in f64. A sample's logits do not depend on its batch, so neither does the map.
///
/// # Source
/// Zeiler, Fergus: *Visualizing and Understanding Convolutional Networks*, ECCV 2014, section 4.2.
pub fn occlusion(
    predictor: &Predictor,
    input: Input<'_>,
    class: usize,
    options: &Occlusion,
) -> Result<Map, ExplainError> {
    single(&input)?;
    let config = predictor.architecture().config();
    check_class(predictor, class)?;
    options.check(input.spatial, config.in_channels)?;
    let score = |logits: &[f32]| score(logits, class, options.score);
    let whole = score(&predictor.run(input)?)?;
    let boxes = Boxes::new(options, input.spatial);
    let pixels = input.spatial.iter().product();
    let (mut sums, mut counts) = (vec![0.0f64; pixels], vec![0u32; pixels]);
    let mut batch: Vec<f32> = Vec::new();
    for some in boxes.0.chunks(options.batch.max(1)) {
        batch.clear();
        for place in some {
            let start = batch.len();
            batch.extend_from_slice(input.data);
            cover(&mut batch[start..], input.spatial, *place, options);
        }
        let covered = Input {
            data: &batch,
            batch: some.len(),
            ..input
        };
        let logits = predictor.run(covered)?;
        for (place, logits) in some.iter().zip(logits.chunks_exact(config.num_classes)) {
            let fall = whole - score(logits)?;
            for_rows(input.spatial, *place, options.window, |row| {
                sums[row.clone()].iter_mut().for_each(|sum| *sum += fall);
                counts[row].iter_mut().for_each(|count| *count += 1);
            });
        }
    }
    let mean = |(sum, count): (&f64, &u32)| (sum / f64::from((*count).max(1))) as f32;
    Ok(Map {
        shape: input.spatial,
        data: sums.iter().zip(&counts).map(mean).collect(),
    })
}

/// The first pixel of every box, in order.
struct Boxes(Vec<[usize; 3]>);

impl Boxes {
    fn new(options: &Occlusion, spatial: [usize; 3]) -> Self {
        let [along_z, along_y, along_x] = [0, 1, 2].map(|a| options.places(a, spatial[a]));
        let mut places = Vec::with_capacity(along_z.len() * along_y.len() * along_x.len());
        for &z in &along_z {
            for &y in &along_y {
                places.extend(along_x.iter().map(|&x| [z, y, x]));
            }
        }
        Boxes(places)
    }
}

/// Calls `row(pixels)` for every row of a box.
fn for_rows(
    [_, height, width]: [usize; 3],
    [z, y, x]: [usize; 3],
    window: [usize; 3],
    mut row: impl FnMut(std::ops::Range<usize>),
) {
    for z in z..z + window[0] {
        for y in y..y + window[1] {
            let start = (z * height + y) * width + x;
            row(start..start + window[2]);
        }
    }
}

/// Fills a box of one sample.
fn cover(sample: &mut [f32], spatial: [usize; 3], place: [usize; 3], options: &Occlusion) {
    let channels = options.baseline.len();
    for_rows(spatial, place, options.window, |row| {
        for pixel in sample[row.start * channels..row.end * channels].chunks_exact_mut(channels) {
            pixel.copy_from_slice(&options.baseline);
        }
    });
}

fn score(logits: &[f32], class: usize, score: Score) -> Result<f64, ExplainError> {
    let own = f64::from(logits.get(class).copied().unwrap_or(f32::NAN));
    let value = match score {
        Score::Logit => own,
        Score::Probability => {
            let others = logits.iter().map(|&z| (f64::from(z) - own).exp());
            1.0 / others.sum::<f64>()
        }
    };
    let finite = own.is_finite() && logits.iter().all(|z| z.is_finite());
    finite.then_some(value).ok_or(ExplainError::NonFinite {
        what: "the network's answer".to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(window: [usize; 3], stride: [usize; 3]) -> Occlusion {
        Occlusion {
            window,
            stride,
            baseline: vec![0.0],
            batch: 3,
            score: Score::Probability,
        }
    }

    #[test]
    fn the_last_box_ends_at_the_border() {
        let o = options([1, 4, 5], [1, 3, 5]);
        assert_eq!(o.places(1, 12), [0, 3, 6, 8]);
        assert_eq!(o.places(1, 10), [0, 3, 6]);
        assert_eq!(o.places(2, 5), [0]);
        assert_eq!(o.boxes([1, 12, 5]), Some(4));
        assert_eq!(o.boxes([1, 3, 5]), None);
        assert_eq!(options([1; 3], [0; 3]).boxes([4; 3]), None);
    }

    #[test]
    fn probabilities_do_not_overflow() {
        let p = score(&[1000.0, 1000.0, -1000.0], 0, Score::Probability).unwrap();
        assert!((p - 0.5).abs() < 1e-12);
        assert_eq!(
            score(&[-1000.0, 1000.0], 0, Score::Probability).unwrap(),
            0.0
        );
        assert!(score(&[f32::NAN, 0.0], 1, Score::Probability).is_err());
        assert!(score(&[0.0, f32::INFINITY], 0, Score::Logit).is_err());
    }
}
