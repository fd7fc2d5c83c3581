//! Where a network and its weights come from.

use std::path::{Path, PathBuf};

use densenet_data::Preprocessing;

use super::{digits_network, fresh, shapes3d_network};
use crate::{
    config::{DIGITS_MODEL, SHAPES3D_MODEL, TrainConfig},
    error::TrainError,
    evaluate::preprocessing_of,
    report::Reporter,
    spec::{Architecture, DenseNetConfig, PRESETS, preset},
    weights::{ConfigFile, Model, StateDict},
};

/// What `--model` means.
pub(crate) enum Source {
    /// The small network for digits.
    Digits,
    /// The small network for the generated volumes.
    Shapes3d,
    /// A published network, by name.
    Preset(String),
    /// No word of it: a preset that suits the images.
    Unsaid,
    /// A trained model to go on from.
    Model(PathBuf, Box<Model>),
    /// A run that goes on: its configuration holds the network in full, its state the weights and these class names.
    Resumed(Vec<String>),
}

/// Images up to this side get the paper's network for small images, larger ones the one for ImageNet.
const SMALL: usize = 64;

impl Source {
    /// Looks `--model` up and reads the file, if it is one.
    pub(crate) fn find(config: &TrainConfig) -> Result<Self, TrainError> {
        let Some(name) = config.model.as_deref() else {
            return Ok(Source::Unsaid);
        };
        if name == DIGITS_MODEL {
            return Ok(Source::Digits);
        }
        if name == SHAPES3D_MODEL {
            return Ok(Source::Shapes3d);
        }
        if PRESETS.iter().any(|p| p.name == name) {
            return Ok(Source::Preset(name.to_string()));
        }
        let path = Path::new(name);
        if path.is_file() {
            return Ok(Source::Model(
                path.to_path_buf(),
                Box::new(Model::load(path)?),
            ));
        }
        if path.extension().is_some() || path.components().count() > 1 {
            return Err(TrainError::config(
                name,
                "there is no such model file",
                "check the path, or name a preset",
            ));
        }
        // Neither: the presets' own error knows the likely one.
        preset(name)?;
        Ok(Source::Preset(name.to_string()))
    }

    /// Whether weights are there already.
    pub(super) fn is_model(&self) -> bool {
        matches!(self, Source::Model(..))
    }

    /// Channels that the network must read.
    pub(super) fn channels(&self) -> Option<usize> {
        match self {
            Source::Model(_, model) => Some(model.config.in_channels),
            _ => None,
        }
    }

    /// The network that suits the images, where none was named.
    pub(super) fn settled(
        self,
        preprocessing: &Preprocessing,
        reporter: &mut dyn Reporter,
    ) -> Self {
        if !matches!(self, Source::Unsaid) {
            return self;
        }
        let side = match &preprocessing.volume {
            None => preprocessing
                .fixed_size()
                .map_or(usize::MAX, |[height, width]| height.max(width)),
            // The network for small images would keep all voxels of a volume through its first block.
            Some(_) => usize::MAX,
        };
        let name = if side <= SMALL {
            "densenet-bc-100-12"
        } else {
            "densenet121"
        };
        let what = match &preprocessing.volume {
            None => "images",
            Some(_) => "volumes",
        };
        reporter.note(&format!("no --model given: {name} suits these {what}"));
        Source::Preset(name.to_string())
    }

    /// What to write down as `model`.
    pub(super) fn name(&self) -> String {
        match self {
            Source::Digits | Source::Unsaid | Source::Resumed(_) => DIGITS_MODEL.to_string(),
            Source::Shapes3d => SHAPES3D_MODEL.to_string(),
            Source::Preset(name) => name.clone(),
            Source::Model(path, _) => path.display().to_string(),
        }
    }

    /// The class names that labels must mean.
    pub(super) fn classes(&self, config: &TrainConfig) -> Option<Vec<String>> {
        match self {
            Source::Model(_, model) if !config.replace_head => model.classes.clone(),
            Source::Resumed(classes) => Some(classes.clone()),
            _ => None,
        }
    }

    /// The preprocessing that the weights were trained with.
    pub(super) fn preprocessing(&self) -> Result<Option<Preprocessing>, TrainError> {
        match self {
            Source::Model(_, model) if model.preprocessing.is_some() => {
                preprocessing_of(model).map(Some)
            }
            _ => Ok(None),
        }
    }

    pub(super) fn batches_tracked(&self) -> u64 {
        match self {
            Source::Model(_, model) => model.num_batches_tracked,
            _ => 0,
        }
    }

    /// The network for so many classes and these images.
    pub(super) fn network(
        &self,
        config: &TrainConfig,
        classes: usize,
        preprocessing: &Preprocessing,
    ) -> Result<DenseNetConfig, TrainError> {
        if let Source::Model(path, model) = self {
            return fine_tuned(path, model, config, classes, preprocessing);
        }
        let own_dims = if preprocessing.volume.is_some() { 3 } else { 2 };
        let dims = config.network.spatial_dims.unwrap_or(own_dims);
        let base = match self {
            Source::Shapes3d => shapes3d_network(),
            Source::Preset(name) => preset(name)?.config(dims)?,
            // A resumed run's configuration leaves nothing of the base.
            _ => digits_network(),
        };
        let base = DenseNetConfig {
            num_classes: classes,
            in_channels: preprocessing.channels,
            ..base
        };
        let network = config.network.over(&base)?;
        if network.spatial_dims != own_dims {
            let what = if own_dims == 2 { "images" } else { "volumes" };
            return Err(TrainError::config(
                "--dims",
                format!("{}, but the data are {what}", network.spatial_dims),
                format!("leave it out, or give {own_dims}"),
            ));
        }
        if network.num_classes != classes {
            let what = format!(
                "{} classes, but the data has {classes}",
                network.num_classes
            );
            return Err(TrainError::config(
                "--num-classes",
                what,
                "leave it out: the data decides",
            ));
        }
        if network.in_channels != preprocessing.channels {
            let what = format!(
                "{} channels, but images are prepared with {}",
                network.in_channels, preprocessing.channels
            );
            return Err(TrainError::config(
                "--in-channels",
                what,
                "give 1 (grey) or 3 (RGB), or leave it out",
            ));
        }
        Ok(network)
    }

    /// The weights to begin with; for a resumed run any of the right shapes.
    pub(super) fn weights(
        &self,
        config: &TrainConfig,
        architecture: &Architecture,
        reporter: &mut dyn Reporter,
    ) -> Result<StateDict, TrainError> {
        let mut state = fresh(config, architecture);
        let Source::Model(path, model) = self else {
            return Ok(state);
        };
        let head = architecture
            .stages()
            .last()
            .map_or("classifier", |s| s.name.as_str());
        for (name, tensor) in model.state.iter() {
            if config.replace_head
                && name
                    .strip_prefix(head)
                    .is_some_and(|rest| rest.starts_with('.'))
            {
                continue;
            }
            match state.get_mut(name) {
                Some(place) if place.shape == tensor.shape => place.clone_from(tensor),
                _ => {
                    let what = format!("tensor `{name}` does not fit the network");
                    return Err(TrainError::config(
                        path.display().to_string(),
                        what,
                        "leave the network options out",
                    ));
                }
            }
        }
        if config.replace_head {
            reporter.note(&format!(
                "the classifier is drawn anew for {} classes",
                architecture.config().num_classes
            ));
        }
        Ok(state)
    }
}

/// A model's network, with only such changes as its weights survive.
fn fine_tuned(
    path: &Path,
    model: &Model,
    config: &TrainConfig,
    classes: usize,
    preprocessing: &Preprocessing,
) -> Result<DenseNetConfig, TrainError> {
    let refused =
        |what: String, cure: &str| Err(TrainError::config(path.display().to_string(), what, cure));
    // Classes are the data's affair; these two change no weight's meaning.
    let free = ConfigFile {
        drop_rate: config.network.drop_rate,
        bn_momentum: config.network.bn_momentum,
        ..ConfigFile::default()
    };
    let mut network = free.over(&model.config)?;
    let asked = ConfigFile {
        num_classes: None,
        ..config.network.clone()
    }
    .over(&network)?;
    if asked != network {
        return refused(
            "a model file fixes its network; the options given ask for another".into(),
            "leave the network options out (--drop-rate and --bn-momentum may be given)",
        );
    }
    if config.replace_head {
        network.num_classes = classes;
    } else if network.num_classes != classes {
        return refused(
            format!(
                "it tells {} classes apart, the data has {classes}",
                network.num_classes
            ),
            "give --replace-head to draw a new classifier",
        );
    }
    if config
        .network
        .num_classes
        .is_some_and(|n| n != network.num_classes)
    {
        return Err(TrainError::config(
            "--num-classes",
            "not the data's number of classes",
            "leave it out: the data decides",
        ));
    }
    let own_dims = if preprocessing.volume.is_some() { 3 } else { 2 };
    if network.spatial_dims != own_dims {
        return refused(
            format!(
                "a network for {}-D data, the data are {own_dims}-D",
                network.spatial_dims
            ),
            "give data of the model's kind",
        );
    }
    if network.in_channels != preprocessing.channels {
        return refused(
            format!(
                "it reads {} channels, the images are prepared with {}",
                network.in_channels, preprocessing.channels
            ),
            "import the weights again with --in-channels",
        );
    }
    Ok(network)
}
