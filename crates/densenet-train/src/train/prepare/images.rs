//! The data set: opened, every image looked at, and its preprocessing decided.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use densenet_data::{Dataset, Inspection, Preprocessing, check};

use super::{Source, volumes};
use crate::{
    config::{ClassWeights, TrainConfig},
    error::TrainError,
    report::Reporter,
    stop::StopFlag,
};

/// Images that were looked at.
pub(super) struct Images {
    /// Those fit to train on; all, where training is refused.
    pub(super) dataset: Arc<Dataset>,
    /// All of them.
    pub(super) whole: Dataset,
    pub(super) preprocessing: Preprocessing,
    pub(super) inspection: Inspection,
    /// Why they cannot be trained on.
    pub(super) refused: Option<TrainError>,
}

/// So many bad files are named one by one.
const BAD_SHOWN: usize = 20;

impl Images {
    /// Opens the data and looks at every image; `None` where `stop` was raised meanwhile.
    pub(super) fn new(
        config: &TrainConfig,
        source: &Source,
        reporter: &mut dyn Reporter,
        stop: &StopFlag,
    ) -> Result<Option<Self>, TrainError> {
        let options = config.open_options(source.classes(config));
        let mut dataset = match &config.data {
            None => Dataset::digits(&options)?,
            Some(path) => Dataset::open(Path::new(path), &options)?,
        };
        for note in dataset.notes() {
            reporter.note(note);
        }
        let learned = source.preprocessing()?;
        if source.is_model() && learned.is_none() && config.preprocessing.is_none() {
            reporter.note("the model file does not say how its images were prepared: that is decided by this data");
        }
        let mut preprocessing = if dataset.is_volumes() {
            volumes::steps(config, source, &dataset, learned.as_ref())?
        } else {
            volumes::refuse_for_images(config)?;
            sizes(config, source, &dataset, learned.as_ref())?
        };
        let cache = config.disk_cache()?.map(Arc::new);
        // Whole samples are no use where each epoch crops them anew.
        let crops = config.augment.resized_crop.is_some();
        dataset.keep_in(cache.clone().filter(|_| !crops));
        let Some(inspection) = inspect(config, &dataset, &preprocessing, reporter, stop)? else {
            return Ok(None);
        };
        dataset.keep_in(cache.clone());
        if let Some(trouble) = cache.and_then(|cache| cache.trouble()) {
            reporter.warning(&format!("no more samples are kept on disk: {trouble}"));
        }
        let (accepted, refused) = match inspection.accept(&dataset, config.bad_files()) {
            Ok(accepted) => (accepted, check_classes(config, &dataset).err()),
            Err(error) => (dataset.clone(), Some(error.into())),
        };
        if config.preprocessing.is_none() && learned.is_none() && !inspection.mean.is_empty() {
            preprocessing.mean.clone_from(&inspection.mean);
            preprocessing.std.clone_from(&inspection.std);
        }
        for (given, place) in [
            (&config.mean, &mut preprocessing.mean),
            (&config.std, &mut preprocessing.std),
        ] {
            if let Some(given) = given {
                *place = given.iter().map(|&v| v as f32).collect();
            }
        }
        preprocessing.validate()?;
        Ok(Some(Images {
            dataset: Arc::new(accepted),
            whole: dataset,
            preprocessing,
            inspection,
            refused,
        }))
    }
}

/// Channels and sizes: as the configuration says, as the model learned them, or as the data suggests.
fn sizes(
    config: &TrainConfig,
    source: &Source,
    dataset: &Dataset,
    learned: Option<&Preprocessing>,
) -> Result<Preprocessing, TrainError> {
    let channels = source.channels().or(config.network.in_channels);
    let size = match config.image_size.as_deref() {
        None => None,
        Some(&[side]) => Some([side, side]),
        Some(&[height, width]) => Some([height, width]),
        Some(other) => {
            return Err(TrainError::config(
                "--image-size",
                format!("{} sizes, but the data are images", other.len()),
                "give a height and a width, like 224x192",
            ));
        }
    };
    let suggested = Preprocessing::suggest(dataset, channels, size);
    Ok(match (&config.preprocessing, learned) {
        (Some(given), _) => given.clone(),
        (None, None) => suggested,
        (None, Some(learned)) if config.image_size.is_none() => learned.clone(),
        (None, Some(learned)) => Preprocessing {
            resize: suggested.resize,
            crop: suggested.crop,
            ..learned.clone()
        },
    })
}

/// Decodes everything once, telling of every file that cannot be used.
fn inspect(
    config: &TrainConfig,
    dataset: &Dataset,
    preprocessing: &Preprocessing,
    reporter: &mut dyn Reporter,
    stop: &StopFlag,
) -> Result<Option<Inspection>, TrainError> {
    let shared = Mutex::new(&mut *reporter);
    let progress = |done, total| {
        if let Ok(mut reporter) = shared.lock() {
            reporter.progress("checking images", done, total);
        }
        stop.raised().is_none()
    };
    let Some(inspection) = check(dataset, preprocessing, config.threads(), &progress)? else {
        return Ok(None);
    };
    for bad in inspection.bad.iter().take(BAD_SHOWN) {
        reporter.warning(&bad.error.to_string());
    }
    if inspection.bad.len() > BAD_SHOWN {
        let more = inspection.bad.len() - BAD_SHOWN;
        reporter.warning(&format!("and {more} more files that cannot be used"));
    }
    for note in inspection.notes(dataset, preprocessing) {
        reporter.note(&note);
    }
    Ok(Some(inspection))
}

fn check_classes(config: &TrainConfig, dataset: &Dataset) -> Result<(), TrainError> {
    let classes = dataset.classes().len();
    if classes < 2 {
        return Err(TrainError::config(
            dataset.name(),
            format!("{classes} class: there is nothing to tell apart"),
            "give data with at least two classes, a folder for each",
        ));
    }
    match &config.class_weights {
        Some(ClassWeights::List(list)) if list.len() != classes => Err(TrainError::config(
            "--class-weights",
            format!("{} weights for {classes} classes", list.len()),
            "give one for each class, or `balanced`",
        )),
        _ => Ok(()),
    }
}
