//! Everything that can be found out, measured and refused before the first step.

use std::path::Path;

use densenet::{Network, NetworkOptions};
use densenet_data::{Loader, Preprocessing};
use serde_json::json;

use crate::{
    config::TrainConfig,
    error::TrainError,
    report::Reporter,
    spec::{Architecture, ConcatOrder, DenseNetConfig, Stem},
    stop::StopFlag,
    weights::{InitMode, Model, StateDict, initialize},
};

mod batches;
mod images;
mod preflight;
mod source;
mod volumes;

pub use preflight::{Finding, Preflight, preflight};
pub(super) use source::Source;

/// A run that can start.
pub(super) struct Prepared {
    /// Every option resolved.
    pub(super) config: TrainConfig,
    pub(super) train: Loader,
    pub(super) val: Option<Loader>,
    architecture: Architecture,
    state: StateDict,
    batches_tracked: u64,
    preprocessing: Preprocessing,
}

impl Prepared {
    /// Looks at the data and decides on the network; `None` where `stop` was raised.
    ///
    /// # Errors
    /// What the [pre-flight](Preflight) cannot do, and the first finding of it that refuses training.
    pub(super) fn new(
        config: &TrainConfig,
        source: Source,
        reporter: &mut dyn Reporter,
        stop: &StopFlag,
    ) -> Result<Option<Self>, TrainError> {
        let Some(found) = Preflight::new(config, source, reporter, stop)? else {
            return Ok(None);
        };
        let (ready, preprocessing) = found.start(reporter)?;
        Ok(Some(Prepared {
            config: ready.config,
            train: ready.train,
            val: ready.val,
            architecture: ready.architecture,
            state: ready.state,
            batches_tracked: ready.batches_tracked,
            preprocessing,
        }))
    }

    /// First part of the run folder's name.
    pub(super) fn run_name(&self) -> String {
        if let Some(name) = &self.config.name {
            return name.clone();
        }
        let stem = self
            .config
            .data
            .as_deref()
            .and_then(|d| Path::new(d).file_stem())
            .and_then(|s| s.to_str());
        let plain = |c: char| {
            if c.is_alphanumeric() || "-_".contains(c) {
                c
            } else {
                '-'
            }
        };
        let name: String = stem.unwrap_or("digits").chars().map(plain).collect();
        if name.chars().any(char::is_alphanumeric) {
            name
        } else {
            "run".into()
        }
    }

    pub(super) fn network(&self) -> Result<Network, TrainError> {
        let options = NetworkOptions {
            memory_efficient: self.config.memory_efficient,
            frozen: self.config.freeze.clone(),
            dropout_seed: self.config.seed,
        };
        let mut network = Network::new(self.architecture.config(), &self.state, &options)?;
        network.set_num_batches_tracked(self.batches_tracked);
        Ok(network)
    }

    /// The model file but for its weights.
    pub(super) fn template(&self) -> Model {
        let dataset = self.train.dataset();
        Model {
            config: self.architecture.config().clone(),
            state: StateDict::new(),
            classes: Some(dataset.classes().to_vec()),
            preprocessing: Some(self.preprocessing.to_value()),
            provenance: Some(json!({
                "program": concat!("densenet ", env!("CARGO_PKG_VERSION")),
                "data": dataset.name(),
                "data_fingerprint": format!("{:016x}", dataset.fingerprint()),
                "started_from": self.config.model,
                "seed": self.config.seed,
                "split_seed": self.config.split_seed,
                "val_split": self.config.val_split,
                "test_split": self.config.test_split,
            })),
            num_batches_tracked: 0,
        }
    }
}

/// Fresh weights as the configuration asks for them.
fn fresh(config: &TrainConfig, architecture: &Architecture) -> StateDict {
    let default = InitMode::default_for(architecture.config().spatial_dims);
    let mode = config
        .init
        .as_deref()
        .and_then(InitMode::from_name)
        .unwrap_or(default);
    initialize(architecture, config.seed, mode)
}

/// The small network for the generated volumes: a stem that halves 28³ voxels, 3 blocks on 14³, 7³ and 3³.
fn shapes3d_network() -> DenseNetConfig {
    DenseNetConfig {
        growth_rate: 12,
        block_config: vec![3, 4, 4],
        num_init_features: 24,
        bn_size: 2,
        drop_rate: 0.0,
        num_classes: 8,
        spatial_dims: 3,
        stem: Stem {
            kernel: [3; 3],
            stride: [2; 3],
            norm: true,
            pool: false,
        },
        ..digits_network()
    }
}

/// The small network for 8×8 digits: 3 blocks on 8×8, 4×4 and 2×2 pixels.
fn digits_network() -> DenseNetConfig {
    DenseNetConfig {
        growth_rate: 12,
        block_config: vec![4, 4, 4],
        num_init_features: 24,
        bn_size: 4,
        compression: 0.5,
        drop_rate: 0.1,
        num_classes: 10,
        in_channels: 1,
        spatial_dims: 2,
        stem: Stem::small(2),
        final_norm: true,
        concat_order: ConcatOrder::OldNew,
        bn_eps: 1e-5,
        bn_momentum: 0.1,
    }
}
