//! Everything that can be found out, measured and refused before the first step.

use std::{path::Path, sync::Arc};

use densenet::{Network, NetworkOptions};
use densenet_data::{Dataset, LastBatch, Loader, LoaderOptions, Preprocessing, Split, check};
use serde_json::json;

use super::preprocessing;
use crate::{
    config::{ClassWeights, TrainConfig},
    error::TrainError,
    evaluate::{EvaluateOptions, evaluation_loader},
    report::Reporter,
    spec::{Architecture, DenseNetConfig, Op},
    stop::StopFlag,
    weights::{ConfigFile, InitMode, Model, StateDict, initialize},
};

mod source;

use source::Source;

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
    /// Opens and checks the data, decides on the network, and tries whether they fit; `None` where `stop` was raised.
    pub(super) fn new(
        config: &TrainConfig,
        reporter: &mut dyn Reporter,
        stop: &StopFlag,
    ) -> Result<Option<Self>, TrainError> {
        Prepared::with(config, false, reporter, stop)
    }

    /// The same for a run whose weights come from its saved state: a model file it started from is not read again.
    pub(super) fn resumed(
        config: &TrainConfig,
        reporter: &mut dyn Reporter,
        stop: &StopFlag,
    ) -> Result<Option<Self>, TrainError> {
        Prepared::with(config, true, reporter, stop)
    }

    fn with(
        config: &TrainConfig,
        resumed: bool,
        reporter: &mut dyn Reporter,
        stop: &StopFlag,
    ) -> Result<Option<Self>, TrainError> {
        let mut config = config.clone();
        let source = if resumed {
            Source::Resumed
        } else {
            Source::find(&config)?
        };
        let dataset = match &config.data {
            None => Dataset::digits(&config.open_options(None))?,
            Some(path) => Dataset::open(
                Path::new(path),
                &config.open_options(source.classes(&config)),
            )?,
        };
        for note in dataset.notes() {
            reporter.note(note);
        }
        let wanted = source.preprocessing()?;
        let channels = config.network.in_channels;
        let suggested = || Preprocessing::suggest(&dataset, channels, config.image_size);
        let mut preprocessing = preprocessing(&config, wanted.clone().unwrap_or_else(suggested));
        if let (Some(size), Some(_), None) = (config.image_size, &wanted, &config.preprocessing) {
            let sized = Preprocessing::suggest(&dataset, Some(preprocessing.channels), Some(size));
            (preprocessing.resize, preprocessing.crop) = (sized.resize, sized.crop);
        }
        // Measured statistics are those of the images before normalisation, whatever mean and std say so far.
        let progress = std::sync::Mutex::new(&mut *reporter);
        let looked = check(
            &dataset,
            &preprocessing,
            config.threads(),
            &|done, total| {
                if let Ok(mut reporter) = progress.lock() {
                    reporter.progress("checking images", done, total);
                }
                stop.raised().is_none()
            },
        )?;
        let Some(inspection) = looked else {
            return Ok(None);
        };
        for bad in inspection.bad.iter().take(BAD_SHOWN) {
            reporter.warning(&bad.error.to_string());
        }
        if let Some(more) = inspection
            .bad
            .len()
            .checked_sub(BAD_SHOWN)
            .filter(|&n| n > 0)
        {
            reporter.warning(&format!("and {more} more files that cannot be used"));
        }
        for note in inspection.notes(&dataset, &preprocessing) {
            reporter.note(&note);
        }
        let dataset = Arc::new(inspection.accept(&dataset, config.bad_files())?);
        if config.preprocessing.is_none() && wanted.is_none() {
            (preprocessing.mean, preprocessing.std) = (inspection.mean, inspection.std);
        }
        let given = |list: &[f64]| list.iter().map(|&v| v as f32).collect::<Vec<f32>>();
        if let Some(mean) = &config.mean {
            preprocessing.mean = given(mean);
        }
        if let Some(std) = &config.std {
            preprocessing.std = given(std);
        }
        preprocessing.validate()?;
        let classes = dataset.classes();
        if classes.len() < 2 {
            return Err(TrainError::config(
                dataset.name(),
                format!("{} class: there is nothing to tell apart", classes.len()),
                "give data with at least two classes, a folder for each",
            ));
        }
        if let Some(ClassWeights::List(list)) = &config.class_weights
            && list.len() != classes.len()
        {
            let what = format!("{} weights for {} classes", list.len(), classes.len());
            return Err(TrainError::config(
                "--class-weights",
                what,
                "give one for each class, or `balanced`",
            ));
        }
        let network = source.network(&config, classes.len(), &preprocessing, reporter)?;
        let architecture = Architecture::new(&network)?;
        let state = source.weights(&config, &architecture, classes, reporter)?;
        let batches_tracked = source.batches_tracked();
        config.resolve_rates(source.is_model());
        config.model.get_or_insert_with(|| source.name());
        config.network = ConfigFile::from(&network);
        config.preprocessing = Some(preprocessing.clone());
        (config.image_size, config.mean, config.std) = (None, None, None);
        let (train, val) = loaders(&config, &dataset, &preprocessing, &architecture, reporter)?;
        Ok(Some(Prepared {
            config,
            train,
            val,
            architecture,
            state,
            batches_tracked,
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

/// So many bad files are named one by one.
const BAD_SHOWN: usize = 20;

/// The loaders of the training and validation splits, once it is certain that every batch can be trained on.
fn loaders(
    config: &TrainConfig,
    dataset: &Arc<Dataset>,
    preprocessing: &Preprocessing,
    architecture: &Architecture,
    reporter: &mut dyn Reporter,
) -> Result<(Loader, Option<Loader>), TrainError> {
    let options = LoaderOptions {
        threads: config.threads(),
        augmentation: config.augment.clone(),
        cache_bytes: config.cache_mb.saturating_mul(1 << 20),
        ..LoaderOptions::training(config.batch_size, config.seed)
    };
    let make = |last| {
        let options = LoaderOptions {
            last,
            ..options.clone()
        };
        Loader::new(
            Arc::clone(dataset),
            Split::Train,
            preprocessing.clone(),
            options,
        )
    };
    let kept = make(LastBatch::Keep)?;
    let (norm, values) = fewest_values(architecture, kept.spatial())?;
    // A single value per channel has no variance: such a last batch joins the one before.
    let train = if values == 1 {
        make(LastBatch::MergeSingle)?
    } else {
        kept
    };
    if train.smallest_batch() * values < 2 {
        return Err(TrainError::config(
            "--batch-size",
            format!(
                "a batch of one image leaves {norm} a single value per channel, which has no variance"
            ),
            "give a batch size of at least 2, or larger images with --image-size",
        ));
    }
    if train.largest_batch() > config.batch_size {
        reporter
            .note("the last batch of an epoch would be a single image; it joins the batch before");
    }
    if config.batch_size * values < 8 {
        reporter.warning(&format!(
            "{norm} sees only {} values per channel in a batch, too few for steady statistics; a larger --batch-size helps",
            config.batch_size * values
        ));
    }
    if dataset.indices(Split::Val).is_empty() {
        reporter.note("there is no validation split: the last epoch's model is the best one, and nothing stops early");
        return Ok((train, None));
    }
    let options = EvaluateOptions {
        batch_size: config.batch_size,
        threads: config.threads(),
    };
    let val = evaluation_loader(dataset, Split::Val, preprocessing.clone(), options)?;
    if val.spatial() != train.spatial() {
        let what = format!(
            "validation images are {:?}, training images {:?}",
            val.spatial(),
            train.spatial()
        );
        return Err(TrainError::config(
            dataset.name(),
            what,
            "give all the same size with --image-size",
        ));
    }
    Ok((train, Some(val)))
}

/// The batch norm that sees the fewest values per channel and sample, and their number.
fn fewest_values(
    architecture: &Architecture,
    spatial: [usize; 3],
) -> Result<(String, usize), TrainError> {
    let trace = architecture.trace(spatial)?;
    let norms = architecture
        .layers()
        .iter()
        .zip(&trace.layers)
        .filter(|(layer, _)| layer.op == Op::BatchNorm);
    let fewest = norms
        .map(|(layer, shape)| (layer, shape.spatial.iter().product::<usize>()))
        .min_by_key(|(_, n)| *n);
    Ok(
        fewest.map_or((String::new(), usize::MAX / 2), |(layer, n)| {
            (layer.name.clone(), n)
        }),
    )
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

/// The small network for 8×8 digits: 3 blocks on 8×8, 4×4 and 2×2 pixels.
pub(crate) fn digits_network() -> DenseNetConfig {
    use crate::spec::{ConcatOrder, Stem};
    DenseNetConfig {
        growth_rate: 12,
        block_config: vec![4, 4, 4],
        num_init_features: 24,
        bn_size: 4,
        compression: 0.5,
        drop_rate: 0.0,
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
