//! What several test programs share: the golden files' formula and network.
#![allow(dead_code)]

use densenet_spec::{Architecture, ConcatOrder, DenseNetConfig, Stem};
use densenet_weights::{Model, Tensor};

/// Element `i` of the golden tensor `name`: 23 bits of a hash, in [-0.5, 0.5); running variances 1 more.
pub fn formula(name: &str, i: usize) -> f32 {
    let hash = name.bytes().fold(0x811C_9DC5u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let bits = hash.wrapping_add((i as u32).wrapping_mul(2_654_435_761)) >> 9;
    let value = bits as f32 / (1u32 << 23) as f32 - 0.5;
    if name.ends_with("running_var") {
        value + 1.0
    } else {
        value
    }
}

/// The network of most golden files.
pub fn small_config() -> DenseNetConfig {
    DenseNetConfig {
        growth_rate: 2,
        block_config: vec![2, 1],
        num_init_features: 4,
        bn_size: 2,
        compression: 0.5,
        drop_rate: 0.0,
        num_classes: 3,
        in_channels: 3,
        spatial_dims: 2,
        stem: Stem::imagenet(2),
        final_norm: true,
        concat_order: ConcatOrder::OldNew,
        bn_eps: 1e-5,
        bn_momentum: 0.1,
    }
}

/// A model of `config` whose weights follow the formula under torchvision's names, after 7 steps.
pub fn model(config: &DenseNetConfig) -> Model {
    let architecture = Architecture::new(config).unwrap();
    let state = architecture
        .parameters()
        .iter()
        .map(|p| {
            let data = (0..p.len()).map(|i| formula(&p.name, i)).collect();
            (p.name.clone(), Tensor::new(p.shape.clone(), data).unwrap())
        })
        .collect();
    let mut model = Model::new(config.clone(), state).unwrap();
    model.num_batches_tracked = 7;
    model
}

/// The networks of `tools/weights/networks.py` under the names used there.
pub fn networks() -> Vec<(&'static str, DenseNetConfig)> {
    let two_d = |in_channels| DenseNetConfig {
        in_channels,
        ..small_config()
    };
    let three_d = |in_channels, depth_stride| {
        let mut config = DenseNetConfig {
            spatial_dims: 3,
            stem: Stem::imagenet(3),
            ..two_d(in_channels)
        };
        config.stem.stride[0] = depth_stride;
        config
    };
    let four_blocks = DenseNetConfig {
        block_config: vec![1, 2, 1, 1],
        ..small_config()
    };
    vec![
        ("torchvision", two_d(3)),
        ("torchvision-legacy", two_d(3)),
        ("monai+2d", two_d(4)),
        ("monai+3d", three_d(1, 2)),
        ("timm", two_d(1)),
        ("kenshohara", three_d(3, 1)),
        ("kenshohara-2018", three_d(3, 1)),
        ("tutorial-2d", two_d(3)),
        ("tutorial-rewritten", four_blocks.clone()),
        ("tutorial-3d", three_d(1, 2)),
        ("gpleiss", two_d(3)),
        (
            "gpleiss+small",
            DenseNetConfig {
                stem: Stem::small(2),
                ..small_config()
            },
        ),
        (
            "tutorial-bottom",
            DenseNetConfig {
                concat_order: ConcatOrder::NewOld,
                final_norm: false,
                ..four_blocks
            },
        ),
    ]
}
