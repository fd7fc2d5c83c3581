//! Batches for the network: read, decoded, prepared and augmented by threads, delivered in a fixed order.
//!
//! ```text
//! order(seed, epoch) -> batch numbers -> threads build whole batches -> delivered by number
//! ```
//!
//! What is in batch `b` of an epoch is a function of seed and epoch alone: not of the number of threads, of what was
//! cached, or of where in the epoch one starts. So a run resumed at batch `b` goes on as if never interrupted.
//!
//! # Memory
//! At most `threads + prefetch` batches exist that were not yet taken, and the buffers of
//! [recycled](Loader::recycle) ones are used again. Prepared samples are kept between epochs while they fit into
//! `cache_bytes`; others are prepared again, or read from the data set's [`DiskCache`](crate::DiskCache).
//!
//! # The last batch
//! A last batch of a single sample would give batch normalisation nothing to average in 1×1 feature maps. See
//! [`LastBatch`] for what becomes of it.

mod cache;
mod epoch;

use std::sync::{Arc, Mutex};

use crate::augmentation::{Augmentation, SampleKey};
use crate::dataset::{Dataset, Stage};
use crate::error::DataError;
use crate::preprocessing::Preprocessing;
use crate::random::{Purpose, shuffle};
use crate::split::Split;

use cache::Cache;
pub use epoch::Epoch;

/// What becomes of a last batch that is smaller than the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastBatch {
    /// It is delivered whatever its size: for evaluation.
    Keep,
    /// If it has a single sample, that sample joins the batch before, which is then larger by one: for training.
    #[default]
    MergeSingle,
    /// If it has a single sample, it is left out (another one each epoch when shuffling).
    DropSingle,
}

/// How batches are made.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Samples a batch.
    pub batch_size: usize,
    /// Threads that build batches; they are the loader's own, beside those that compute.
    pub threads: usize,
    /// Batches built ahead, beside the one each thread works on.
    pub prefetch: usize,
    /// Seed of order and augmentation.
    pub seed: u64,
    /// A new order each epoch; otherwise the data set's own.
    pub shuffle: bool,
    /// What becomes of a small last batch.
    pub last: LastBatch,
    /// Random changes.
    pub augmentation: Augmentation,
    /// How much memory prepared samples may take between epochs.
    pub cache_bytes: usize,
}

impl LoaderOptions {
    /// For training: shuffled, a single last sample merged, no augmentation until it is set.
    pub fn training(batch_size: usize, seed: u64) -> LoaderOptions {
        LoaderOptions {
            shuffle: true,
            last: LastBatch::MergeSingle,
            seed,
            ..LoaderOptions::evaluation(batch_size)
        }
    }

    /// For evaluation: in the data set's order, every sample once.
    pub fn evaluation(batch_size: usize) -> LoaderOptions {
        LoaderOptions {
            batch_size,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            prefetch: 2,
            seed: 0,
            shuffle: false,
            last: LastBatch::Keep,
            augmentation: Augmentation::default(),
            cache_bytes: 1 << 30,
        }
    }
}

/// One batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Position within the epoch.
    pub number: usize,
    /// The prepared samples, `[sample][depth][height][width][channel]`.
    pub data: Vec<f32>,
    /// Their labels.
    pub labels: Vec<u32>,
    /// Their positions in the [`Dataset`].
    pub indices: Vec<usize>,
    /// `[depth, height, width]`.
    pub spatial: [usize; 3],
    /// Channels a pixel.
    pub channels: usize,
}

impl Batch {
    /// The number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none; never so for a batch that was delivered.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// Makes the batches of one split, epoch after epoch.
pub struct Loader {
    shared: Arc<Shared>,
}

/// What the threads of an epoch read.
struct Shared {
    dataset: Arc<Dataset>,
    indices: Vec<usize>,
    preprocessing: Preprocessing,
    options: LoaderOptions,
    spatial: [usize; 3],
    cache: Cache,
    buffers: Mutex<Vec<Vec<f32>>>,
}

impl Loader {
    /// A loader for one split.
    ///
    /// # Errors
    /// Options that cannot work (configuration), an empty split (data), samples without a common size (data).
    pub fn new(
        dataset: Arc<Dataset>,
        split: Split,
        preprocessing: Preprocessing,
        options: LoaderOptions,
    ) -> Result<Loader, DataError> {
        let indices = dataset.indices(split).to_vec();
        if indices.is_empty() {
            return Err(DataError::data(
                dataset.name(),
                format!("the split `{split}` is empty"),
                "choose another split, or give the data set one",
            ));
        }
        Loader::of(dataset, indices, preprocessing, options)
    }

    /// A loader for chosen samples, in the given order unless shuffled.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of(
        dataset: Arc<Dataset>,
        indices: Vec<usize>,
        preprocessing: Preprocessing,
        options: LoaderOptions,
    ) -> Result<Loader, DataError> {
        preprocessing.validate()?;
        options.augmentation.validate()?;
        if preprocessing.volume.is_none() && options.augmentation.needs_volumes() {
            return Err(DataError::config(
                "augment",
                format!(
                    "`{}` has operations that only volumes know",
                    options.augmentation
                ),
                "leave out dflip, rot90, scale, gamma and noise",
            ));
        }
        for (name, value) in [
            ("batch_size", options.batch_size),
            ("loader threads", options.threads),
        ] {
            if value == 0 {
                return Err(DataError::config(name, "0", "give at least 1"));
            }
        }
        let Some(&first) = indices.first() else {
            return Err(DataError::data(
                dataset.name(),
                "no samples to load",
                "choose at least one",
            ));
        };
        let spatial = match (dataset.uniform_shape(), preprocessing.fixed_size()) {
            _ if preprocessing.volume.is_some() => match preprocessing.fixed_volume() {
                Some(size) => size,
                None => preprocessing
                    .fit(&dataset.decode(first)?)
                    .map_err(|e| e.at(&dataset.describe(first)))?
                    .spatial(),
            },
            (Some((spatial, _)), _) => preprocessing.output_spatial(spatial)?,
            (None, Some([height, width])) if dataset.path(first).is_some() => [1, height, width],
            _ => preprocessing.output_spatial(dataset.decode(first)?.spatial())?,
        };
        let cache = Cache::new(dataset.len(), options.cache_bytes);
        let buffers = Mutex::new(Vec::new());
        Ok(Loader {
            shared: Arc::new(Shared {
                dataset,
                indices,
                preprocessing,
                options,
                spatial,
                cache,
                buffers,
            }),
        })
    }

    /// Batches in an epoch.
    pub fn batches(&self) -> usize {
        self.shared.batches()
    }

    /// Samples delivered in an epoch.
    pub fn samples(&self) -> usize {
        self.shared.delivered()
    }

    /// Samples of the largest batch: what memory must be planned for.
    pub fn largest_batch(&self) -> usize {
        (0..self.batches())
            .rev()
            .take(2)
            .map(|b| self.shared.range(b).len())
            .max()
            .unwrap_or(0)
    }

    /// Samples of the smallest batch: 1 here means trouble for batch normalisation.
    pub fn smallest_batch(&self) -> usize {
        (0..self.batches())
            .rev()
            .take(2)
            .map(|b| self.shared.range(b).len())
            .min()
            .unwrap_or(0)
    }

    /// `[depth, height, width]` of every sample.
    pub fn spatial(&self) -> [usize; 3] {
        self.shared.spatial
    }

    /// Channels a pixel.
    pub fn channels(&self) -> usize {
        self.shared.preprocessing.channels
    }

    /// The data set.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.shared.dataset
    }

    /// The batches of `epoch` from number `start` on. Dropping the iterator stops its threads.
    pub fn epoch(&self, epoch: u32, start: usize) -> Epoch {
        Epoch::start(self.shared.clone(), epoch, start)
    }

    /// Hand a batch's buffer back to be filled again.
    pub fn recycle(&self, batch: Batch) {
        self.shared.recycle(batch.data);
    }
}

impl Shared {
    /// Samples delivered in an epoch: all, or all but one.
    fn delivered(&self) -> usize {
        let (n, size) = (self.indices.len(), self.options.batch_size);
        let single = n % size == 1 && n > size;
        if single && self.options.last == LastBatch::DropSingle {
            n - 1
        } else {
            n
        }
    }

    fn batches(&self) -> usize {
        let (n, size) = (self.delivered(), self.options.batch_size);
        let single = n % size == 1 && n > size && self.options.last == LastBatch::MergeSingle;
        n.div_ceil(size) - usize::from(single)
    }

    /// The part of the epoch's order that is batch `number`.
    fn range(&self, number: usize) -> std::ops::Range<usize> {
        let size = self.options.batch_size;
        let end = if number + 1 == self.batches() {
            self.delivered()
        } else {
            (number + 1) * size
        };
        number * size..end
    }

    /// The data set's positions in the order of `epoch`.
    fn order(&self, epoch: u32) -> Vec<usize> {
        let mut order = self.indices.clone();
        if self.options.shuffle {
            shuffle(&mut order, self.options.seed, epoch, Purpose::Shuffle);
        }
        order
    }

    fn recycle(&self, buffer: Vec<f32>) {
        if let Ok(mut buffers) = self.buffers.lock()
            && buffers.len() < self.options.threads + self.options.prefetch
        {
            buffers.push(buffer);
        }
    }

    /// Build batch `number` out of an epoch's order.
    fn build(&self, order: &[usize], epoch: u32, number: usize) -> Result<Batch, DataError> {
        let indices = order.get(self.range(number)).unwrap_or(&[]).to_vec();
        let channels = self.preprocessing.channels;
        let size = self.spatial.iter().product::<usize>() * channels;
        let mut data = self
            .buffers
            .lock()
            .ok()
            .and_then(|mut buffers| buffers.pop())
            .unwrap_or_default();
        let count = indices.len().saturating_mul(size);
        data.try_reserve_exact(count.saturating_sub(data.len()))
            .map_err(|_| {
                DataError::limit(
                    "batch_size",
                    format!(
                        "{} samples of {size} numbers do not fit into memory",
                        indices.len()
                    ),
                    "use smaller batches or smaller images",
                )
            })?;
        data.resize(count, 0.0);
        for (&index, out) in indices.iter().zip(data.chunks_exact_mut(size)) {
            self.sample(index, epoch, out)?;
        }
        let labels = indices.iter().map(|&i| self.dataset.label(i)).collect();
        Ok(Batch {
            number,
            data,
            labels,
            indices,
            spatial: self.spatial,
            channels,
        })
    }

    /// Prepare one sample into its place.
    fn sample(&self, index: usize, epoch: u32, out: &mut [f32]) -> Result<(), DataError> {
        let augmentation = &self.options.augmentation;
        let key = SampleKey {
            seed: self.options.seed,
            epoch,
            index: index as u64,
        };
        let change = (!augmentation.is_none()).then_some((augmentation, key));
        // The part that is the same each time is what the cache keeps.
        let stage = if augmentation.resizes() {
            Stage::Converted
        } else {
            Stage::Fitted
        };
        let steady = self.cache.get(index, || {
            let prepared = self.dataset.prepared(index, &self.preprocessing, stage)?;
            Ok(prepared.image)
        })?;
        let fitted = if augmentation.resizes() {
            &self
                .preprocessing
                .resized_crop(&steady, augmentation, key)?
        } else {
            &*steady
        };
        if fitted.spatial() != self.spatial {
            let name = |[d, h, w]: [usize; 3]| {
                if d == 1 {
                    format!("{h} × {w}")
                } else {
                    format!("{d} × {h} × {w}")
                }
            };
            return Err(DataError::data(
                self.dataset.describe(index),
                format!(
                    "{} pixels where others have {}",
                    name(fitted.spatial()),
                    name(self.spatial)
                ),
                "give a size to resize to",
            ));
        }
        self.preprocessing.finish(fitted, change, out);
        Ok(())
    }
}
