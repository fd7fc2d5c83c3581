//! The published networks. A preset is one line of data.

use crate::{ConcatOrder, ConfigError, DenseNetConfig, Stem, suggest::closest};

/// A named network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// The name on the command line.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Paper, Table 1: growth rate, first features, layers of the four blocks.
    ImageNet(usize, usize, [usize; 4]),
    /// Paper, §4.1: `depth` counted layers, growth rate, with (BC) or without bottleneck and compression.
    Cifar {
        bc: bool,
        depth: usize,
        growth_rate: usize,
    },
}

/// Every preset.
///
/// # Source
/// 121, 169, 201, 264: paper, Table 1. 161: torchvision (k = 48). The CIFAR networks: paper, Table 2.
pub const PRESETS: &[Preset] = &[
    imagenet(
        "densenet121",
        "ImageNet, k=32, 7,978,856 parameters",
        32,
        64,
        [6, 12, 24, 16],
    ),
    imagenet(
        "densenet161",
        "ImageNet, k=48, 28,681,000 parameters",
        48,
        96,
        [6, 12, 36, 24],
    ),
    imagenet(
        "densenet169",
        "ImageNet, k=32, 14,149,480 parameters",
        32,
        64,
        [6, 12, 32, 32],
    ),
    imagenet(
        "densenet201",
        "ImageNet, k=32, 20,013,928 parameters",
        32,
        64,
        [6, 12, 48, 32],
    ),
    imagenet(
        "densenet264",
        "ImageNet, k=32, 33,337,704 parameters",
        32,
        64,
        [6, 12, 64, 48],
    ),
    cifar("densenet-40-12", "CIFAR, plain, L=40, k=12", false, 40, 12),
    cifar(
        "densenet-100-12",
        "CIFAR, plain, L=100, k=12",
        false,
        100,
        12,
    ),
    cifar(
        "densenet-100-24",
        "CIFAR, plain, L=100, k=24",
        false,
        100,
        24,
    ),
    cifar(
        "densenet-bc-100-12",
        "CIFAR, bottleneck + compression, L=100, k=12",
        true,
        100,
        12,
    ),
    cifar(
        "densenet-bc-250-24",
        "CIFAR, bottleneck + compression, L=250, k=24",
        true,
        250,
        24,
    ),
    cifar(
        "densenet-bc-190-40",
        "CIFAR, bottleneck + compression, L=190, k=40",
        true,
        190,
        40,
    ),
];

const fn imagenet(
    name: &'static str,
    about: &'static str,
    growth_rate: usize,
    num_init_features: usize,
    blocks: [usize; 4],
) -> Preset {
    Preset {
        name,
        about,
        kind: Kind::ImageNet(growth_rate, num_init_features, blocks),
    }
}

const fn cifar(
    name: &'static str,
    about: &'static str,
    bc: bool,
    depth: usize,
    growth_rate: usize,
) -> Preset {
    Preset {
        name,
        about,
        kind: Kind::Cifar {
            bc,
            depth,
            growth_rate,
        },
    }
}

/// The preset called `name`.
///
/// # Errors
/// `ConfigError` naming the presets, and the likely one where `name` looks like a slip.
pub fn preset(name: &str) -> Result<Preset, ConfigError> {
    if let Some(found) = PRESETS.iter().find(|p| p.name == name) {
        return Ok(*found);
    }
    let names = || PRESETS.iter().map(|p| p.name);
    let hint = match closest(name, names()) {
        Some(likely) => format!("did you mean {likely}?"),
        None => format!("known presets: {}", names().collect::<Vec<_>>().join(", ")),
    };
    Err(ConfigError::new("preset", name, hint))
}

impl Preset {
    /// The configuration in 2-D (three input channels) or 3-D (one input channel), with the class count of the data
    /// set the paper trained it on (1000 or 10).
    ///
    /// # Errors
    /// `spatial_dims` is neither 2 nor 3.
    pub fn config(&self, spatial_dims: usize) -> Result<DenseNetConfig, ConfigError> {
        if spatial_dims != 2 && spatial_dims != 3 {
            return Err(ConfigError::new(
                "spatial_dims",
                spatial_dims,
                "2 for images, 3 for volumes",
            ));
        }
        let base = DenseNetConfig {
            growth_rate: 32,
            block_config: vec![6, 12, 24, 16],
            num_init_features: 64,
            bn_size: 4,
            compression: 0.5,
            drop_rate: 0.0,
            num_classes: 1000,
            in_channels: if spatial_dims == 2 { 3 } else { 1 },
            spatial_dims,
            stem: Stem::imagenet(spatial_dims),
            final_norm: true,
            concat_order: ConcatOrder::OldNew,
            bn_eps: 1e-5,
            bn_momentum: 0.1,
        };
        Ok(match self.kind {
            Kind::ImageNet(growth_rate, num_init_features, blocks) => DenseNetConfig {
                growth_rate,
                num_init_features,
                block_config: blocks.to_vec(),
                ..base
            },
            Kind::Cifar {
                bc,
                depth,
                growth_rate,
            } => DenseNetConfig {
                growth_rate,
                block_config: vec![(depth - 4) / if bc { 6 } else { 3 }; 3],
                num_init_features: if bc { 2 * growth_rate } else { 16 },
                bn_size: if bc { 4 } else { 0 },
                compression: if bc { 0.5 } else { 1.0 },
                num_classes: 10,
                stem: Stem::small(spatial_dims),
                ..base
            },
        })
    }
}
