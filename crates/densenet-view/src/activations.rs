//! What the network makes of one picture: the maps of every stage, the classes, and where they come from.

use densenet::{
    Feature, Input, Predictor,
    explain::{ClassActivation, Map},
    weights::StateDict,
};
use densenet_spec::StageKind;
use serde::Serialize;

use crate::{
    ViewError,
    numbers::{base64, byte, range, short},
};

/// One picture or volume for the network.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// What the file is called.
    pub file: &'a str,
    /// What the network reads: one sample, prepared.
    pub input: Input<'a>,
    /// What people see of it.
    pub picture: Picture<'a>,
    /// Names of the classes; numbers stand in for missing ones.
    pub classes: Option<&'a [String]>,
}

/// A picture of the input's size, `[depth][height][width][channels]`.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// Its values; they are shown from the smallest to the largest, or from 0 to 1 if they lie in that range.
    pub data: &'a [f32],
    /// Channels; three are shown as colours, of others the first as grey.
    pub channels: usize,
}

/// The answer, in the form of the page.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Seen {
    file: String,
    input: Shown,
    /// The likeliest classes.
    top: Vec<Candidate>,
    classes: usize,
    /// Class activation maps of the first of `top`.
    cams: Vec<Cam>,
    stages: Vec<StageMaps>,
}

/// The picture as bytes, `[depth][height][width][channels]`.
#[derive(Debug, Clone, Serialize)]
struct Shown {
    shape: [usize; 3],
    channels: usize,
    data: String,
}

#[derive(Debug, Clone, Serialize)]
struct Candidate {
    class: String,
    index: usize,
    probability: f64,
    logit: f64,
}

/// A class activation map, see [`densenet::explain::class_activation_map`].
#[derive(Debug, Clone, Serialize)]
struct Cam {
    index: usize,
    shape: [usize; 3],
    low: f64,
    high: f64,
    data: String,
}

/// The maps that leave one stage.
#[derive(Debug, Clone, Serialize)]
struct StageMaps {
    name: String,
    channels: usize,
    /// `[depth, height, width]` in the network.
    shape: [usize; 3],
    /// As stored: larger maps are averaged over cubes of `factor` pixels.
    stored: [usize; 3],
    factor: usize,
    /// Smallest and largest value of each map.
    low: Vec<f64>,
    high: Vec<f64>,
    /// `[channel][depth][height][width]`, a byte each between the map's own bounds.
    data: String,
}

/// Classes whose probabilities are listed.
const TOP: usize = 10;
/// Classes whose activation map is kept.
const CAMS: usize = 5;
/// Bytes a stage's maps may take in the page.
const MOST_STAGE_BYTES: usize = 4 << 20;
/// Bytes the input may take in the page.
const MOST_INPUT_BYTES: usize = 16 << 20;

impl Seen {
    pub(crate) fn of(
        predictor: &Predictor,
        weights: &StateDict,
        sample: &Sample<'_>,
    ) -> Result<Self, ViewError> {
        let architecture = predictor.architecture();
        let stages = architecture.stages().iter();
        let mut taps: Vec<&str> = stages
            .filter(|stage| stage.kind != StageKind::Classifier)
            .map(|stage| stage.name.as_str())
            .collect();
        let shown = taps.len();
        let head = ClassActivation::new(architecture, weights)?;
        taps.push(head.layer());
        let output = predictor.run_with_taps(sample.input, &taps)?;
        let probabilities = softmax(&output.logits);
        if probabilities.iter().any(|p| !p.is_finite()) {
            return Err(ViewError::NonFinite {
                file: sample.file.to_string(),
            });
        }
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        order.truncate(TOP);
        let name = |index: usize| {
            let given = sample.classes.and_then(|classes| classes.get(index));
            given.cloned().unwrap_or_else(|| index.to_string())
        };
        let last = output.taps.get(shown).into_iter();
        let cams = last.flat_map(|last| {
            let most = order.iter().take(CAMS);
            most.map(|&class| Ok(Cam::of(class, &head.map(last, 0, class)?)))
        });
        Ok(Seen {
            file: sample.file.to_string(),
            input: sample.picture.bytes(sample.input.spatial),
            top: order
                .iter()
                .map(|&index| Candidate {
                    class: name(index),
                    index,
                    probability: short(probabilities[index]),
                    logit: short(f64::from(output.logits[index])),
                })
                .collect(),
            classes: probabilities.len(),
            cams: cams.collect::<Result<_, ViewError>>()?,
            stages: output.taps.iter().take(shown).map(StageMaps::of).collect(),
        })
    }
}

impl Picture<'_> {
    fn bytes(&self, shape: [usize; 3]) -> Shown {
        let keep = if self.channels == 3 { 3 } else { 1 };
        let pixels = self.data.chunks_exact(self.channels.max(1));
        let values: Vec<f32> = pixels.flat_map(|pixel| &pixel[..keep]).copied().collect();
        let [low, high] = range(values.iter().copied());
        let bounds = match low >= 0.0 && high <= 1.0 {
            true => [0.0, 1.0],
            false => [low, high],
        };
        let factor = factor(keep, shape, MOST_INPUT_BYTES);
        let (values, shape) = shrink(&values, shape, keep, factor);
        let bytes: Vec<u8> = values.iter().map(|&v| byte(v, bounds)).collect();
        Shown {
            shape,
            channels: keep,
            data: base64(&bytes),
        }
    }
}

impl Cam {
    fn of(class: usize, map: &Map) -> Self {
        let bounds = range(map.data.iter().copied());
        let bytes: Vec<u8> = map.data.iter().map(|&v| byte(v, bounds)).collect();
        Cam {
            index: class,
            shape: map.shape,
            low: short(f64::from(bounds[0])),
            high: short(f64::from(bounds[1])),
            data: base64(&bytes),
        }
    }
}

impl StageMaps {
    fn of(feature: &Feature) -> Self {
        let [_, depth, height, width, channels] = feature.shape;
        let shape = [depth, height, width];
        let factor = factor(channels, shape, MOST_STAGE_BYTES);
        let (values, stored) = shrink(&feature.data, shape, channels, factor);
        let (mut low, mut high) = (Vec::with_capacity(channels), Vec::with_capacity(channels));
        let mut bytes = Vec::with_capacity(values.len());
        for channel in 0..channels {
            let map = || values.iter().skip(channel).step_by(channels).copied();
            let bounds = range(map());
            low.push(short(f64::from(bounds[0])));
            high.push(short(f64::from(bounds[1])));
            bytes.extend(map().map(|v| byte(v, bounds)));
        }
        StageMaps {
            name: feature.name.clone(),
            channels,
            shape,
            stored,
            factor,
            low,
            high,
            data: base64(&bytes),
        }
    }
}

/// The smallest whole factor by which maps must shrink to fit into `most` bytes.
fn factor(channels: usize, shape: [usize; 3], most: usize) -> usize {
    let fits = |factor: usize| {
        let stored = shape.map(|s| s.div_ceil(factor));
        stored.iter().product::<usize>().saturating_mul(channels) <= most
    };
    let longest = shape.iter().copied().max().unwrap_or(1).max(1);
    (1..=longest).find(|&f| fits(f)).unwrap_or(longest)
}

/// Averages `[depth][height][width][channels]` over cubes of `factor` pixels; the last ones may be smaller.
fn shrink(
    data: &[f32],
    shape: [usize; 3],
    channels: usize,
    factor: usize,
) -> (Vec<f32>, [usize; 3]) {
    if factor <= 1 {
        return (data.to_vec(), shape);
    }
    let stored = shape.map(|s| s.div_ceil(factor));
    let mut sums = vec![0.0f32; stored.iter().product::<usize>() * channels];
    let mut counts = vec![0.0f32; stored.iter().product()];
    let [_, height, width] = shape;
    for (index, pixel) in data.chunks_exact(channels.max(1)).enumerate() {
        let (d, h, w) = (
            index / (height * width),
            index / width % height,
            index % width,
        );
        let place = (d / factor * stored[1] + h / factor) * stored[2] + w / factor;
        counts[place] += 1.0;
        for (sum, value) in sums[place * channels..].iter_mut().zip(pixel) {
            *sum += value;
        }
    }
    for (sum, count) in sums.chunks_exact_mut(channels.max(1)).zip(&counts) {
        sum.iter_mut().for_each(|s| *s /= count);
    }
    (sums, stored)
}

/// exp(z) / Σ exp(z), taken at the maximum so that nothing overflows.
fn softmax(logits: &[f32]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps = logits
        .iter()
        .map(|&z| (f64::from(z) - f64::from(top)).exp());
    let exps: Vec<f64> = exps.collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use densenet::weights::{InitMode, initialize};
    use densenet_spec::{Architecture, preset};

    #[test]
    fn the_likeliest_classes_have_their_maps() {
        for final_norm in [true, false] {
            let mut config = preset("densenet-bc-100-12").unwrap().config(2).unwrap();
            config.block_config = vec![2, 2];
            config.final_norm = final_norm;
            let architecture = Architecture::new(&config).unwrap();
            let state = initialize(&architecture, 3, InitMode::FanIn);
            let predictor = Predictor::new(&config, &state).unwrap();
            let data: Vec<f32> = (0..3 * 16 * 16).map(|i| (i % 37) as f32 / 37.0).collect();
            let input = Input {
                data: &data,
                batch: 1,
                spatial: [1, 16, 16],
            };
            let picture = Picture {
                data: &data,
                channels: 3,
            };
            let seen = Seen::of(
                &predictor,
                &state,
                &Sample {
                    file: "a.png",
                    input,
                    picture,
                    classes: None,
                },
            )
            .unwrap();
            assert_eq!(seen.top.len(), 10);
            assert_eq!(
                (seen.cams.len(), seen.cams[0].index),
                (5, seen.top[0].index)
            );
            let names: Vec<_> = seen.stages.iter().map(|s| s.name.as_str()).collect();
            assert_eq!(names[..3], ["stem", "denseblock1", "transition1"]);
            assert_eq!(seen.stages[1].low.len(), seen.stages[1].channels);
        }
    }

    #[test]
    fn large_maps_shrink_to_the_mean_of_their_parts() {
        let data: Vec<f32> = (0..2 * 3 * 5).map(|i| i as f32).collect();
        // Two channels, 3 × 5 pixels, squares of two.
        let (values, stored) = shrink(&data, [1, 3, 5], 2, 2);
        assert_eq!(stored, [1, 2, 3]);
        // Pixels 0, 1, 5, 6 of channel 0 hold 0, 2, 10, 12.
        assert_eq!(values[0], 6.0);
        // The last one is pixel 14 alone.
        assert_eq!(values[2 * 5], 28.0);
        assert_eq!(factor(64, [1, 56, 56], 4 << 20), 1);
        assert_eq!(factor(1, [1, 100, 100], 2500), 2);
    }
}
