//! The loaders, once it is certain that every batch can be trained on.

use std::sync::Arc;

use densenet_data::{LastBatch, Loader, LoaderOptions, Split};

use super::Images;
use crate::{
    config::TrainConfig,
    error::TrainError,
    evaluate::{EvaluateOptions, evaluation_loader},
    report::Reporter,
    spec::{Architecture, Op},
};

/// Values per channel that a batch norm should see at least for steady statistics.
const STEADY: usize = 8;

/// The loaders of the training split and, where there is one, the validation split.
pub(super) fn loaders(
    config: &TrainConfig,
    images: &Images,
    architecture: &Architecture,
    reporter: &mut dyn Reporter,
) -> Result<(Loader, Option<Loader>), TrainError> {
    let Images {
        dataset,
        preprocessing,
    } = images;
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
    if config.batch_size * values < STEADY {
        reporter.warning(&format!(
            "{norm} sees only {} values per channel in a batch, too few for steady statistics; a larger --batch-size helps",
            config.batch_size * values
        ));
    }
    warn_of_memory(config, architecture, &train, reporter)?;
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
    Ok(fewest.map_or((String::new(), STEADY), |(layer, n)| {
        (layer.name.clone(), n)
    }))
}

/// Says so where a step will probably not fit into the memory that is free now.
fn warn_of_memory(
    config: &TrainConfig,
    architecture: &Architecture,
    train: &Loader,
    reporter: &mut dyn Reporter,
) -> Result<(), TrainError> {
    let memory = densenet::memory::estimate(architecture, train.spatial(), train.largest_batch())?;
    let needed = if config.memory_efficient {
        memory.train_memory_efficient_bytes
    } else {
        memory.train_bytes
    };
    if let Some(free) = free_bytes()
        && needed as u64 > free
    {
        let mib = |bytes: u64| bytes >> 20;
        reporter.warning(&format!(
            "a training step needs about {} MiB, and {} MiB are free; a smaller --batch-size (with --accumulate) or --memory-efficient helps",
            mib(needed as u64),
            mib(free)
        ));
    }
    Ok(())
}

/// Memory that the system says is available; `None` where it does not say (anywhere but on Linux).
fn free_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
