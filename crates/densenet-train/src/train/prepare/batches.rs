//! The loaders, once it is certain that every batch can be trained on.

use std::sync::Arc;

use densenet::memory;
use densenet_data::{Dataset, LastBatch, Loader, LoaderOptions, Preprocessing, Split};

use super::preflight::extent;
use crate::{
    config::TrainConfig,
    error::TrainError,
    report::Reporter,
    spec::{Architecture, Op},
};

/// Values per channel that a batch norm should see at least for steady statistics.
const STEADY: usize = 8;

/// What loaders are made of.
pub(super) struct Batches<'a> {
    pub config: &'a TrainConfig,
    pub dataset: &'a Arc<Dataset>,
    pub preprocessing: &'a Preprocessing,
    pub architecture: &'a Architecture,
}

impl Batches<'_> {
    fn loader(&self, split: Split, options: LoaderOptions) -> Result<Loader, TrainError> {
        let dataset = Arc::clone(self.dataset);
        Ok(Loader::new(
            dataset,
            split,
            self.preprocessing.clone(),
            options,
        )?)
    }

    /// The part of the memory for prepared samples that a split may take: its share of the samples.
    fn cache_bytes(&self, split: Split) -> usize {
        let count = |split| self.dataset.indices(split).len() as u128;
        let all = (count(Split::Train) + count(Split::Val)).max(1);
        let budget = self.config.cache_mb.saturating_mul(1 << 20) as u128;
        usize::try_from(budget * count(split) / all).unwrap_or(usize::MAX)
    }

    /// The loaders of the training split and, where there is one, the validation split.
    ///
    /// # Errors
    /// A split that is empty, batches that batch norm cannot work with.
    pub(super) fn loaders(
        &self,
        reporter: &mut dyn Reporter,
    ) -> Result<(Loader, Option<Loader>), TrainError> {
        let config = self.config;
        let options = LoaderOptions {
            threads: config.threads(),
            augmentation: config.augment.clone(),
            cache_bytes: self.cache_bytes(Split::Train),
            ..LoaderOptions::training(config.batch_size, config.seed)
        };
        let make = |last| {
            let options = LoaderOptions {
                last,
                ..options.clone()
            };
            self.loader(Split::Train, options)
        };
        let kept = make(LastBatch::Keep)?;
        let (norm, values) = self.fewest_values(kept.spatial())?;
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
            reporter.note(
                "the last batch of an epoch would be a single image; it joins the batch before",
            );
        }
        // A split that is smaller than a batch makes smaller batches.
        let batch = config.batch_size.min(train.samples());
        if batch * values < STEADY {
            reporter.warning(&format!(
                "{norm} sees only {} values per channel in a batch, too few for steady statistics — give a larger --batch-size \
                 or --image-size",
                batch * values
            ));
        }
        if self.dataset.indices(Split::Val).is_empty() {
            reporter.note("there is no validation split: the last epoch's model is the best one, and nothing stops early");
            return Ok((train, None));
        }
        let options = LoaderOptions {
            threads: config.threads(),
            cache_bytes: self.cache_bytes(Split::Val),
            ..LoaderOptions::evaluation(config.batch_size)
        };
        let val = self.loader(Split::Val, options)?;
        if val.spatial() != train.spatial() {
            let what = format!(
                "validation images are {}, training images {}",
                extent(val.spatial()),
                extent(train.spatial())
            );
            return Err(TrainError::config(
                self.dataset.name(),
                what,
                "give all the same size with --image-size",
            ));
        }
        Ok((train, Some(val)))
    }

    /// The batch norm that sees the fewest values per channel and sample, and their number.
    fn fewest_values(&self, spatial: [usize; 3]) -> Result<(String, usize), TrainError> {
        let trace = self.architecture.trace(spatial)?;
        let norms = self
            .architecture
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

    /// Says so where training will probably not fit into the memory that is free now.
    pub(super) fn warn_of_memory(
        &self,
        train: &Loader,
        val: Option<&Loader>,
        reporter: &mut dyn Reporter,
    ) -> Result<(), TrainError> {
        let config = self.config;
        let memory = memory::estimate(self.architecture, train.spatial(), train.largest_batch())?;
        let mut step = match config.memory_efficient {
            true => memory.train_memory_efficient_bytes,
            false => memory.train_bytes,
        };
        if config.needs_whole_gradient() {
            step += memory.whole_gradient_bytes;
        }
        let sample = 4 * train.spatial().iter().product::<usize>() * train.channels();
        // Each thread builds one batch, and some lie ready.
        let ahead =
            (2 * config.threads() + 2).min(train.batches()) * train.largest_batch() * sample;
        let samples = train.samples() + val.map_or(0, Loader::samples);
        let kept = (sample * samples).min(config.cache_mb.saturating_mul(1 << 20));
        let needed = (step + ahead + kept) as u64;
        if let Some(free) = free_bytes()
            && needed > free
        {
            let mib = |bytes: u64| bytes >> 20;
            reporter.warning(&format!(
                "training needs about {} MiB ({} for a step, {} for batches ahead, {} for prepared samples), and {} MiB are \
                 free — give a smaller --batch-size (with --accumulate), --memory-efficient, fewer --loader-threads or a \
                 smaller --cache-mb",
                mib(needed),
                mib(step as u64),
                mib(ahead as u64),
                mib(kept as u64),
                mib(free)
            ));
        }
        Ok(())
    }
}

/// Memory that the system says is available; `None` where it does not say (anywhere but on Linux).
fn free_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
