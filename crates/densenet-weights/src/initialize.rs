//! Fresh weights, the same bits on every machine.

mod normal;
mod stream;

use densenet_spec::{Architecture, Parameter, ParameterKind};

use crate::{StateDict, Tensor};
use stream::Stream;

/// Which side of a convolution kaiming initialisation keeps the variance of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitMode {
    /// Forward: variance 2 / (c_in · kernel), torchvision's and MONAI's choice.
    FanIn,
    /// Backward: variance 2 / (c_out · kernel), the choice of the 3-D sources and of the paper's own code.
    FanOut,
}

impl InitMode {
    /// Fan-in in 2-D, fan-out in 3-D, as the respective sources do it.
    pub fn default_for(spatial_dims: usize) -> Self {
        if spatial_dims == 3 {
            InitMode::FanOut
        } else {
            InitMode::FanIn
        }
    }

    /// The name on the command line: `fan_in` or `fan_out`.
    pub fn name(self) -> &'static str {
        match self {
            InitMode::FanIn => "fan_in",
            InitMode::FanOut => "fan_out",
        }
    }

    /// The mode called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        [InitMode::FanIn, InitMode::FanOut]
            .into_iter()
            .find(|mode| mode.name() == name)
    }
}

/// Draws every weight of `architecture` from `seed`.
///
/// Convolutions: normal with mean 0 and variance 2 / fan (kaiming, gain of ReLU). Batch norms: γ 1, β 0, running mean 0
/// and variance 1. Classifier: weight uniform in ±1/√c_in (what PyTorch's `Linear` starts from), bias 0.
///
/// # Numerics
/// Element `i` of tensor `name` depends on `seed`, `name` and `i` alone: Philox4x32-10 keyed by the seed, its counter
/// made of the name's FNV-1a hash and the element, so that no order of generation matters and a part can be drawn
/// without the rest. Uniform numbers become normal by the inverse distribution function in plain f64 arithmetic (no
/// library function that differs between platforms). A test pins the bits.
pub fn initialize(architecture: &Architecture, seed: u64, mode: InitMode) -> StateDict {
    architecture
        .parameters()
        .iter()
        .map(|p| (p.name.clone(), parameter(p, seed, mode)))
        .collect()
}

/// Draws one tensor; see [`initialize`].
pub(crate) fn parameter(parameter: &Parameter, seed: u64, mode: InitMode) -> Tensor {
    let shape = &parameter.shape;
    let stream = Stream::new(seed, &parameter.name);
    match parameter.kind {
        ParameterKind::ConvWeight => {
            let channels = match mode {
                InitMode::FanIn => shape[1],
                InitMode::FanOut => shape[0],
            };
            let fan = channels * shape[2..].iter().product::<usize>();
            let deviation = (2.0 / fan as f64).sqrt();
            drawn(shape, &stream, |uniform| {
                deviation * normal::quantile(uniform)
            })
        }
        ParameterKind::LinearWeight => {
            let bound = 1.0 / (shape[1] as f64).sqrt();
            drawn(shape, &stream, |uniform| bound * (2.0 * uniform - 1.0))
        }
        ParameterKind::NormWeight | ParameterKind::RunningVar => Tensor::full(shape, 1.0),
        ParameterKind::NormBias | ParameterKind::RunningMean | ParameterKind::LinearBias => {
            Tensor::full(shape, 0.0)
        }
    }
}

/// A tensor whose element `i` is `transform` of the stream's `i`-th uniform number.
fn drawn(shape: &[usize], stream: &Stream, transform: impl Fn(f64) -> f64) -> Tensor {
    let count: usize = shape.iter().product();
    let mut data = Vec::with_capacity(count);
    for pair in 0..count.div_ceil(2) {
        for uniform in stream.uniform_pair(pair as u64) {
            if data.len() < count {
                data.push(transform(uniform) as f32);
            }
        }
    }
    Tensor {
        shape: shape.to_vec(),
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use densenet_spec::preset;
    use sha2::{Digest, Sha256};

    fn digest(state: &StateDict) -> String {
        let mut hash = Sha256::new();
        for (name, tensor) in state.iter() {
            hash.update(name);
            for value in &tensor.data {
                hash.update(value.to_le_bytes());
            }
        }
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    fn drawn_preset(name: &str, dims: usize, seed: u64) -> StateDict {
        let config = preset(name).unwrap().config(dims).unwrap();
        initialize(
            &Architecture::new(&config).unwrap(),
            seed,
            InitMode::default_for(dims),
        )
    }

    #[test]
    fn the_bits_never_change() {
        assert_eq!(
            digest(&drawn_preset("densenet-bc-100-12", 2, 1)),
            "6433ee3b889770610d46b8a5bda205c93b6271e34218e50f731f765b9fb2d760"
        );
        assert_eq!(
            digest(&drawn_preset("densenet-40-12", 3, u64::MAX)),
            "777a71634a2cd66601b08ac5bf0d9f92832ca37696a42234472e10425f3101b4"
        );
    }

    #[test]
    fn seeds_names_and_elements_differ() {
        let (a, b) = (
            drawn_preset("densenet-40-12", 2, 1),
            drawn_preset("densenet-40-12", 2, 2),
        );
        let layer = "features.denseblock1.denselayer1.conv1.weight";
        assert_ne!(a.get(layer), b.get(layer));
        let data = &a
            .get("features.denseblock3.denselayer12.conv1.weight")
            .unwrap()
            .data;
        let mut sorted: Vec<u32> = data.iter().map(|v| v.to_bits()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        assert!(
            sorted.len() > data.len() * 99 / 100,
            "{} of {}",
            sorted.len(),
            data.len()
        );
    }

    /// Moments of a drawn convolution against a normal distribution's, within five standard errors.
    #[test]
    fn convolutions_are_normal_with_the_promised_variance() {
        let state = drawn_preset("densenet121", 2, 7);
        let weights = state.get("features.transition3.conv.weight").unwrap();
        assert_eq!(weights.shape, [512, 1024, 1, 1]);
        let n = weights.len() as f64;
        let deviation = (2.0f64 / 1024.0).sqrt();
        let moment = |power: i32| {
            weights
                .data
                .iter()
                .map(|&w| (f64::from(w) / deviation).powi(power))
                .sum::<f64>()
                / n
        };
        // Var of the k-th power of a standard normal: 1, 2, 15, 96.
        for (power, expected, variance) in
            [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)]
        {
            let error = 5.0 * (f64::sqrt(variance) / n.sqrt());
            let found = moment(power);
            assert!((found - expected).abs() < error, "moment {power}: {found}");
        }
        let beyond = |z: f64| {
            weights
                .data
                .iter()
                .filter(|&&w| f64::from(w).abs() > z * deviation)
                .count() as f64
                / n
        };
        for (z, expected) in [(1.0, 0.317_310_5), (2.0, 0.045_500_3), (3.0, 0.002_699_8)] {
            let error = 5.0 * f64::sqrt(expected / n);
            assert!(
                (beyond(z) - expected).abs() < error,
                "beyond {z}: {}",
                beyond(z)
            );
        }
    }

    #[test]
    fn fans_norms_and_the_classifier_follow_the_sources() {
        let config = preset("densenet121").unwrap().config(2).unwrap();
        let architecture = Architecture::new(&config).unwrap();
        let variance = |mode| {
            let state = initialize(&architecture, 3, mode);
            let w = &state
                .get("features.denseblock4.denselayer16.conv2.weight")
                .unwrap()
                .data;
            w.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / w.len() as f64
        };
        // conv2 is 128 -> 32 with a 3x3 kernel, 36,864 weights: five standard errors are 3.7 %.
        assert!((variance(InitMode::FanIn) * (128.0 * 9.0) / 2.0 - 1.0).abs() < 0.037);
        assert!((variance(InitMode::FanOut) * (32.0 * 9.0) / 2.0 - 1.0).abs() < 0.037);

        let state = initialize(&architecture, 3, InitMode::FanIn);
        let all =
            |name: &str, value: f32| state.get(name).unwrap().data.iter().all(|&v| v == value);
        assert!(all("features.norm0.weight", 1.0) && all("features.norm0.bias", 0.0));
        assert!(all("features.norm5.running_mean", 0.0) && all("features.norm5.running_var", 1.0));
        assert!(all("classifier.bias", 0.0));
        let weights = &state.get("classifier.weight").unwrap().data;
        let bound = 1.0 / 32.0;
        assert!(weights.iter().all(|w| w.abs() <= bound));
        let mean_square =
            weights.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>() / weights.len() as f64;
        assert!(
            (mean_square * 3.0 * 1024.0 - 1.0).abs() < 0.01,
            "{mean_square}"
        );
        assert_eq!(
            state.names().collect::<Vec<_>>(),
            architecture
                .parameters()
                .iter()
                .map(|p| p.name.as_str())
                .collect::<Vec<_>>()
        );
    }
}
