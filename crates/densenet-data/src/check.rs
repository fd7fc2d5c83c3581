//! Looking at every sample before training starts.
//!
//! One parallel pass decodes and prepares everything once. It finds every bad file (not just the first), measures
//! mean and standard deviation of the training split, counts kinds and sizes of images, and spots images that occur
//! in more than one split. Files are only read.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::cache::Steady;
use crate::dataset::{Dataset, Stage};
use crate::error::DataError;
use crate::preprocessing::Preprocessing;
use crate::split::Split;

/// What to do about bad files.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum OnError {
    /// Do not start.
    #[default]
    Fail,
    /// Leave them out, as long as they are at most this share of all samples, rounded up to a whole file.
    Skip {
        /// The share, from 0 to 1.
        cap: f64,
    },
}

impl OnError {
    /// Skip at most one file in a hundred.
    pub const SKIP: OnError = OnError::Skip { cap: 0.01 };
}

/// A sample that cannot be used.
#[derive(Clone, Debug, PartialEq)]
pub struct BadFile {
    /// Its position in the data set.
    pub index: usize,
    /// The file, what is wrong with it, and what to do.
    pub error: DataError,
}

/// What the check found.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// Every sample that cannot be used, in order.
    pub bad: Vec<BadFile>,
    /// Mean of each channel over the pixels of the training split, as prepared (scaled, without normalisation).
    pub mean: Vec<f32>,
    /// Standard deviation of each channel likewise; 1 for a channel that does not vary.
    pub std: Vec<f32>,
    /// How many images there are of each kind, such as `8-bit RGB`.
    pub kinds: BTreeMap<String, usize>,
    /// Prepared sizes `[depth, height, width]`, how many images have each, and the first of them.
    pub sizes: BTreeMap<[usize; 3], (usize, usize)>,
    /// Pairs of samples in different splits with the same pixels.
    pub leaks: Vec<(usize, usize)>,
}

/// What one sample contributed.
struct Seen {
    kind: String,
    size: [usize; 3],
    hash: u64,
    /// Pixels, then sum and sum of squares of each channel; for training samples only.
    moments: Option<(usize, Vec<f64>, Vec<f64>)>,
}

/// Check all samples with `threads` threads.
///
/// `progress(done, total)` is called now and then from any of them; if it returns false, the check stops and there is
/// no result. The result does not depend on the number of threads.
///
/// # Errors
/// Only for preprocessing that cannot work; bad files are in the [`Inspection`].
pub fn check(
    dataset: &Dataset,
    preprocessing: &Preprocessing,
    threads: usize,
    progress: &(dyn Fn(usize, usize) -> bool + Sync),
) -> Result<Option<Inspection>, DataError> {
    preprocessing.validate()?;
    let total = dataset.len();
    let (next, done, stopped) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicBool::new(false),
    );
    let results: Mutex<BTreeMap<usize, Result<Seen, DataError>>> = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, total.max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= total || stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let seen = look(dataset, preprocessing, index);
                    if let Ok(mut results) = results.lock() {
                        results.insert(index, seen);
                    }
                    let count = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if (count.is_multiple_of(64) || count == total) && !progress(count, total) {
                        stopped.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    if stopped.into_inner() {
        return Ok(None);
    }
    let results = results
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Some(summarise(dataset, preprocessing.channels, results)))
}

fn look(dataset: &Dataset, preprocessing: &Preprocessing, index: usize) -> Result<Seen, DataError> {
    let Steady {
        image: fitted,
        kind,
        hash,
    } = dataset.prepared(index, preprocessing, Stage::Fitted)?;
    let training = dataset.split_of(index) == Some(Split::Train);
    let moments = training.then(|| {
        let plain = Preprocessing {
            mean: vec![0.0; preprocessing.channels],
            std: vec![1.0; preprocessing.channels],
            ..preprocessing.clone()
        };
        let mut values = vec![0.0; fitted.samples().len()];
        plain.finish(&fitted, None, &mut values);
        let channels = fitted.channels();
        let (mut sums, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
        for pixel in values.chunks_exact(fitted.channels()) {
            for ((&v, sum), square) in pixel.iter().zip(&mut sums).zip(&mut squares) {
                *sum += f64::from(v);
                *square += f64::from(v) * f64::from(v);
            }
        }
        (values.len() / fitted.channels(), sums, squares)
    });
    Ok(Seen {
        kind,
        size: fitted.spatial(),
        hash,
        moments,
    })
}

/// Combine in the order of the samples, so that sums come out the same for any number of threads.
fn summarise(
    dataset: &Dataset,
    channels: usize,
    results: BTreeMap<usize, Result<Seen, DataError>>,
) -> Inspection {
    let mut out = Inspection {
        bad: Vec::new(),
        mean: Vec::new(),
        std: Vec::new(),
        kinds: BTreeMap::new(),
        sizes: BTreeMap::new(),
        leaks: Vec::new(),
    };
    let (mut pixels, mut sums, mut squares) = (0usize, vec![0.0; channels], vec![0.0; channels]);
    let mut first_with: BTreeMap<u64, usize> = BTreeMap::new();
    for (index, result) in results {
        let seen = match result {
            Ok(seen) => seen,
            Err(error) => {
                out.bad.push(BadFile { index, error });
                continue;
            }
        };
        *out.kinds.entry(seen.kind).or_insert(0) += 1;
        out.sizes.entry(seen.size).or_insert((0, index)).0 += 1;
        let first = *first_with.entry(seen.hash).or_insert(index);
        if dataset.split_of(first) != dataset.split_of(index) {
            out.leaks.push((first, index));
        }
        if let Some((n, sum, square)) = seen.moments {
            pixels += n;
            for (total, part) in sums
                .iter_mut()
                .zip(sum)
                .chain(squares.iter_mut().zip(square))
            {
                *total += part;
            }
        }
    }
    for (sum, square) in sums.into_iter().zip(squares).take(channels) {
        let n = pixels.max(1) as f64;
        let mean = sum / n;
        let std = (square / n - mean * mean).max(0.0).sqrt();
        out.mean.push(mean as f32);
        // Below what f32 samples can show, a spread is rounding.
        out.std.push(if std > 1e-7 * mean.abs().max(1.0) {
            std as f32
        } else {
            1.0
        });
    }
    out
}

impl Inspection {
    /// What the user should know, beside the bad files.
    pub fn notes(&self, dataset: &Dataset, preprocessing: &Preprocessing) -> Vec<String> {
        let mut notes = Vec::new();
        if self.kinds.len() > 1 && !dataset.is_volumes() {
            let list: Vec<String> = self
                .kinds
                .iter()
                .map(|(kind, n)| format!("{n} {kind}"))
                .collect();
            let to = if preprocessing.channels == 1 {
                "grey"
            } else {
                "RGB"
            };
            notes.push(format!(
                "images of several kinds ({}): all become {to}",
                list.join(", ")
            ));
        }
        if let Some(&(a, b)) = self.leaks.first() {
            let name = |index: usize| {
                let split = dataset.split_of(index).map_or("", Split::name);
                format!("`{}` ({split})", dataset.describe(index))
            };
            let what = if dataset.is_volumes() {
                "volumes"
            } else {
                "images"
            };
            notes.push(format!(
                "{} {what} occur in more than one split, the first: {} is {}; results on them will look too good — keep \
                 each in one split, or give its copies one group in a manifest",
                self.leaks.len(),
                name(b),
                name(a),
            ));
        }
        notes
    }

    /// The data set that may be trained on: all of it, or without its bad files.
    ///
    /// # Errors
    /// Bad files where none are tolerated, or more than the cap; images of different sizes that nothing brings to
    /// one.
    pub fn accept(&self, dataset: &Dataset, on_error: OnError) -> Result<Dataset, DataError> {
        if let [(a, (_, first)), (b, (_, second)), ..] =
            self.sizes.iter().collect::<Vec<_>>().as_slice()
        {
            return Err(DataError::data(
                dataset.describe(*first),
                if dataset.is_volumes() {
                    format!(
                        "{a:?} voxels, while `{}` has {b:?}",
                        dataset.describe(*second)
                    )
                } else {
                    format!(
                        "{} × {} pixels, while `{}` has {} × {}",
                        a[1],
                        a[2],
                        dataset.describe(*second),
                        b[1],
                        b[2]
                    )
                },
                "give a size that all images are brought to",
            ));
        }
        let Some(first) = self.bad.first() else {
            return Ok(dataset.clone());
        };
        let (bad, total) = (self.bad.len(), dataset.len());
        let found = format!(
            "{bad} of {total} {} cannot be used, the first: {}: {}",
            if dataset.is_volumes() {
                "volumes"
            } else {
                "images"
            },
            first.error.place(),
            first.error.what()
        );
        match on_error {
            OnError::Fail => Err(DataError::data(
                dataset.name(),
                found,
                "replace or remove them, or leave them out with `--on-error skip`",
            )),
            OnError::Skip { cap } if bad as f64 > (cap * total as f64).ceil() => {
                Err(DataError::data(
                    dataset.name(),
                    found,
                    format!(
                        "replace or remove them: more than the {} % that may be skipped",
                        cap * 100.0
                    ),
                ))
            }
            OnError::Skip { .. } => {
                let skip: Vec<usize> = self.bad.iter().map(|b| b.index).collect();
                dataset.without(&skip)
            }
        }
    }
}
