//! What several test programs share: networks, models and their answers.

use densenet_reference::{Network, Tensor};
use densenet_spec::{Architecture, ConcatOrder, DenseNetConfig, Stem, preset};
use densenet_testkit::{generate_input, generate_parameters};
use densenet_weights::{Model, Tensor as Weights};

/// A small DenseNet.
pub fn tiny(spatial_dims: usize) -> DenseNetConfig {
    let published = preset("densenet121").unwrap().config(spatial_dims).unwrap();
    DenseNetConfig {
        growth_rate: 4,
        num_init_features: 6,
        bn_size: 2,
        block_config: vec![2, 1],
        num_classes: 3,
        ..published
    }
}

/// A small network for every option of the architecture, with a name.
#[allow(dead_code)]
pub fn networks() -> Vec<(&'static str, DenseNetConfig)> {
    let odd = Stem {
        kernel: [1, 4, 5],
        stride: [1, 3, 1],
        norm: false,
        pool: true,
    };
    let flat = |change: &dyn Fn(&mut DenseNetConfig)| {
        let mut config = tiny(2);
        change(&mut config);
        config
    };
    vec![
        ("2-D", tiny(2)),
        ("3-D", tiny(3)),
        ("plain", flat(&|c| (c.bn_size, c.compression) = (0, 1.0))),
        (
            "newest first",
            flat(&|c| c.concat_order = ConcatOrder::NewOld),
        ),
        (
            "newest first, one layer",
            flat(&|c| (c.concat_order, c.block_config) = (ConcatOrder::NewOld, vec![1])),
        ),
        ("no final norm", flat(&|c| c.final_norm = false)),
        ("small stem", flat(&|c| c.stem = Stem::small(2))),
        ("odd stem", flat(&|c| (c.stem, c.compression) = (odd, 0.7))),
        (
            "constants",
            flat(&|c| (c.bn_eps, c.bn_momentum, c.drop_rate) = (1e-3, 0.01, 0.25)),
        ),
        (
            "plain, small, bare",
            flat(&|c| {
                (c.bn_size, c.final_norm, c.stem) = (0, false, Stem::small(2));
                c.block_config = vec![1, 2, 1];
            }),
        ),
    ]
}

/// A model whose tensors follow the generator, seed 5, as `tools/onnx/make_golden.py`'s do.
pub fn generated(config: &DenseNetConfig) -> Model {
    let architecture = Architecture::new(config).unwrap();
    let state = generate_parameters(&architecture, 5)
        .into_iter()
        .map(|p| (p.name, Weights::new(p.shape, p.data).unwrap()))
        .collect();
    Model::new(config.clone(), state).unwrap()
}

/// The reference's answer to two generated inputs.
#[allow(dead_code)]
pub fn logits(model: &Model) -> Vec<f64> {
    let architecture = Architecture::new(&model.config).unwrap();
    let parameters = model
        .state
        .iter()
        .map(|(name, tensor)| {
            (
                name.to_string(),
                tensor.data.iter().map(|&v| f64::from(v)).collect(),
            )
        })
        .collect();
    let network = Network::new(&architecture, parameters).unwrap();
    let spatial = architecture
        .min_input()
        .map(|side| if side > 1 { side + 8 } else { side });
    let channels = model.config.in_channels;
    let shape = [2, channels, spatial[0], spatial[1], spatial[2]];
    let data = generate_input(&shape, 1, 0)
        .into_iter()
        .map(f64::from)
        .collect();
    network
        .forward(&Tensor::new(2, channels, spatial, data))
        .unwrap()
        .data
}
