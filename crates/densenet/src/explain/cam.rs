//! Class activation maps.

use densenet_spec::{Architecture, Op};
use densenet_weights::StateDict;

use super::{ExplainError, Map, single};
use crate::{Feature, Input, NetworkError, Predictor};

/// Where the evidence for class `k` lies in a single input.
///
/// ```text
/// map[p] = Σ_c weight[k, c] · feature[p, c],   logit[k] = mean_p map[p] + bias[k]
/// ```
///
/// `feature` is what the global pooling reads: the output of the last ReLU, or of the last block where the network has no
/// final norm. The map has that layer's size; [`Map::resized`] stretches it over the input.
///
/// # Errors
/// The input does not fit the network, holds several samples, or there is no such class.
///
/// # Numerics
/// Sums in f64, rounded once.
///
/// # Source
/// Zhou, Khosla, Lapedriza, Oliva, Torralba: *Learning Deep Features for Discriminative Localization*, CVPR 2016, eq. 2.
pub fn class_activation_map(
    predictor: &Predictor,
    state: &StateDict,
    input: Input<'_>,
    class: usize,
) -> Result<Map, ExplainError> {
    single(&input)?;
    let head = ClassActivation::new(predictor.architecture(), state)?;
    let output = predictor.run_with_taps(input, &[head.layer()])?;
    match output.taps.first() {
        Some(features) => head.map(features, 0, class),
        None => Err(ExplainError::Features {
            layer: head.layer.to_string(),
            expected: head.channels,
            found: 0,
        }),
    }
}

/// The classifier, ready to weigh features that somebody has already: several classes, or a batch, for one prediction.
#[derive(Debug, Clone)]
pub struct ClassActivation<'a> {
    layer: &'a str,
    /// `[classes][channels]`
    weight: &'a [f32],
    bias: &'a [f32],
    channels: usize,
}

impl<'a> ClassActivation<'a> {
    /// Takes the classifier from a network's weights.
    ///
    /// # Errors
    /// The weights are another network's.
    pub fn new(architecture: &'a Architecture, state: &'a StateDict) -> Result<Self, ExplainError> {
        let classes = architecture.config().num_classes;
        let channels = architecture.num_features();
        let tensor = |name: &str, shape: Vec<usize>| {
            let found = state.get(name);
            let fits =
                found.filter(|t| t.shape == shape && t.len() == shape.iter().product::<usize>());
            fits.map(|t| &t.data[..])
                .ok_or_else(|| NetworkError::Tensor {
                    name: name.to_string(),
                    expected: shape,
                    found: found.map_or("none".into(), |t| format!("{:?}", t.shape)),
                })
        };
        let layers = architecture.layers();
        let pooling = layers.iter().position(|l| l.op == Op::GlobalAvgPool);
        let read = pooling.and_then(|i| layers.get(i.checked_sub(1)?));
        Ok(ClassActivation {
            layer: read.map_or("norm5", |layer| &layer.name),
            weight: tensor("classifier.weight", vec![classes, channels])?,
            bias: tensor("classifier.bias", vec![classes])?,
            channels,
        })
    }

    /// The layer whose output the classifier pools: to be asked for with [`Predictor::run_with_taps`].
    pub fn layer(&self) -> &'a str {
        self.layer
    }

    /// What the class has before anything is seen: `logit = map.mean() + bias`.
    ///
    /// # Errors
    /// There is no such class.
    pub fn bias(&self, class: usize) -> Result<f32, ExplainError> {
        let classes = self.bias.len();
        let bias = self.bias.get(class).copied();
        bias.ok_or(ExplainError::Class { class, classes })
    }

    /// The map of `class` over the output of [`ClassActivation::layer`], for one `sample` of its batch.
    ///
    /// # Errors
    /// There is no such class or sample, the features are another layer's, or the map is not finite.
    pub fn map(
        &self,
        features: &Feature,
        sample: usize,
        class: usize,
    ) -> Result<Map, ExplainError> {
        self.bias(class)?;
        let [_, depth, height, width, channels] = features.shape;
        let each = depth * height * width * channels;
        let pixels = features.data.get(sample * each..(sample + 1) * each);
        let row = self.weight.get(class * channels..(class + 1) * channels);
        let (Some(pixels), Some(row)) = (pixels, row.filter(|_| channels == self.channels)) else {
            return Err(ExplainError::Features {
                layer: self.layer.to_string(),
                expected: self.channels,
                found: channels,
            });
        };
        let dot = |pixel: &[f32]| {
            let products = pixel.iter().zip(row);
            let sum: f64 = products.map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
            sum as f32
        };
        let map = Map {
            shape: [depth, height, width],
            data: pixels.chunks_exact(channels.max(1)).map(dot).collect(),
        };
        map.finite("the class activation map")
    }
}

#[cfg(test)]
mod tests {
    use densenet_spec::preset;
    use densenet_weights::{InitMode, initialize};

    use super::*;

    #[test]
    fn a_map_and_the_bias_make_the_logit() {
        for (dims, final_norm) in [(2, true), (2, false), (3, true)] {
            let mut config = preset("densenet-bc-100-12").unwrap().config(dims).unwrap();
            config.block_config = vec![2, 2];
            config.final_norm = final_norm;
            let architecture = Architecture::new(&config).unwrap();
            let mut state = initialize(&architecture, 3, InitMode::FanIn);
            let bias = &mut state.get_mut("classifier.bias").unwrap().data;
            bias.iter_mut().enumerate().for_each(|(i, b)| *b = i as f32);
            let predictor = Predictor::new(&config, &state).unwrap();
            let spatial = [[1, 16, 20], [12, 16, 10]][dims - 2];
            let len = config.in_channels * spatial.iter().product::<usize>();
            let data: Vec<f32> = (0..len).map(|i| (i % 37) as f32 / 37.0).collect();
            let input = Input {
                data: &data,
                batch: 1,
                spatial,
            };
            let logits = predictor.run(input).unwrap();
            for (class, &logit) in logits.iter().enumerate() {
                let map = class_activation_map(&predictor, &state, input, class).unwrap();
                assert_eq!(map.shape, spatial.map(|s| s.div_ceil(2).max(1)));
                let found = map.mean() + class as f64;
                assert!((found - f64::from(logit)).abs() < 2e-5, "{found} {logit}");
            }
            let error = class_activation_map(&predictor, &state, input, 10).unwrap_err();
            let wanted = "class 10: the network has 10 classes, counted from 0";
            assert_eq!((error.to_string().as_str(), error.exit_code()), (wanted, 2));
        }
    }

    #[test]
    fn features_of_another_layer_are_refused() {
        let config = preset("densenet-bc-100-12").unwrap().config(2).unwrap();
        let architecture = Architecture::new(&config).unwrap();
        let state = initialize(&architecture, 3, InitMode::FanIn);
        let head = ClassActivation::new(&architecture, &state).unwrap();
        assert_eq!(head.layer(), "features.relu5");
        let features = |channels: usize| Feature {
            name: String::new(),
            shape: [2, 1, 1, 1, channels],
            data: vec![0.0; 2 * channels],
        };
        let own = features(architecture.num_features());
        assert!(head.map(&own, 1, 0).is_ok());
        assert!(head.map(&own, 2, 0).is_err());
        let error = head.map(&features(5), 0, 0).unwrap_err();
        assert!(error.to_string().starts_with("features of 5 channels"));
    }
}
