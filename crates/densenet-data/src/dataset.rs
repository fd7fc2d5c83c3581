//! A data set: labelled samples in three splits, wherever they come from.
//!
//! [`Dataset::open`] looks at the path and finds out what it is:
//!
//! | path | read as |
//! |---|---|
//! | folder with `train/`, `val/`, `test/`, each with a folder per class | image folder with splits ([`folder`]) |
//! | folder with a folder per class | image folder, split here ([`folder`]) |
//! | `*.csv` | manifest `path,label[,split][,group]` ([`manifest`]) |
//! | folder with `data_batch_*.bin`, or `train.bin` and `test.bin` | CIFAR-10, CIFAR-100 ([`cifar`]) |
//! | folder with `*images*idx3*` files, `.gz` or not | MNIST and its relatives ([`idx`]) |
//! | `*.npz` | MedMNIST, or Keras' `mnist.npz` ([`npz`]) |
//! | `digits`, where no such file exists | the embedded digits ([`digits`]) |
//! | `shapes3d`, where no such file exists | the generated volumes ([`shapes3d`]) |
//!
//! Class folders may hold volumes instead of pictures: NIfTI, NumPy and DICOM files, or a folder for each DICOM series.
//!
//! Opening reads names and, for the packed formats, the samples; picture files are read when needed. Nothing is
//! ever written.

mod assemble;
pub mod cifar;
pub mod digits;
pub mod folder;
pub mod idx;
pub mod manifest;
pub mod npz;
pub mod shapes3d;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cache::{DiskCache, Steady};
use crate::decode;
use crate::decoded::{DecodedImage, Fnv, Samples};
use crate::error::DataError;
use crate::preprocessing::Preprocessing;
use crate::split::{Split, SplitOptions};
use crate::volume::{self, Space};

/// The most bytes of samples a packed format may unpack to.
pub(crate) const MAX_PACKED_BYTES: u64 = 4 << 30;

/// How to open a data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenOptions {
    /// How samples are divided where the source does not say.
    pub split: SplitOptions,
    /// The class names of a trained model. The data's classes are then matched to these by name, may be fewer,
    /// and labels are the model's. Without it, the data's own classes count, in natural order.
    pub classes: Option<Vec<String>>,
}

/// What a data set was recognised as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Folders of picture files.
    ImageFolder,
    /// A CSV file naming picture files.
    Manifest,
    /// CIFAR-10's binary files.
    Cifar10,
    /// CIFAR-100's binary files, fine labels.
    Cifar100,
    /// IDX files, as MNIST's.
    Idx,
    /// A NumPy archive, as MedMNIST's.
    Npz,
    /// The embedded digits.
    Digits,
    /// Folders of volume files or DICOM series.
    VolumeFolder,
    /// The generated volumes.
    Shapes3d,
}

/// Where one sample's pixels are.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// In a picture file.
    File(PathBuf),
    /// In volume files, or folders of a DICOM series: one for each group of channels.
    Volume(Vec<PathBuf>),
    /// In a packed store, at this position.
    Record { store: usize, record: usize },
}

/// One labelled sample.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub source: Source,
    pub label: u32,
    pub split: Split,
    /// The patient or slide it is of, by number.
    pub group: Option<u32>,
}

/// Samples of one size, packed: what CIFAR, IDX and NumPy files hold.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    /// The file they came from.
    pub place: String,
    pub spatial: [usize; 3],
    pub channels: usize,
    pub samples: Samples,
}

/// Labelled samples in three splits. Cheap to share behind an [`Arc`]; never changed by reading.
#[derive(Clone, Debug)]
pub struct Dataset {
    name: String,
    format: Format,
    classes: Vec<String>,
    samples: Vec<Sample>,
    stores: Arc<Vec<Store>>,
    by_split: [Vec<usize>; 3],
    notes: Vec<String>,
    cache: Option<Arc<DiskCache>>,
}

/// How far a sample is prepared: as far as it is the same each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Up to the change of size, which is random.
    Converted,
    /// All but the last step.
    Fitted,
}

impl Dataset {
    /// Open whatever lies at `path`; see the [module](self) for what is recognised.
    ///
    /// # Errors
    /// What is missing, broken or ambiguous, naming the file or folder.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
        options.split.validate()?;
        let metadata = match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && path == Path::new("digits") => {
                return digits::open(options);
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && path == Path::new("shapes3d") => {
                return shapes3d::open(options);
            }
            Err(e) => return Err(DataError::io(path, &e)),
            Ok(metadata) => metadata,
        };
        if metadata.is_dir() {
            let listing = folder::Listing::read(path)?;
            if cifar::recognises(&listing) {
                cifar::open(path, &listing, options)
            } else if idx::recognises(&listing) {
                idx::open(path, &listing, options)
            } else {
                folder::open(path, &listing, options)
            }
        } else if !metadata.is_file() {
            Err(DataError::data(
                path.display().to_string(),
                "neither a file nor a folder",
                "give a folder or a file",
            ))
        } else {
            let extension = path
                .extension()
                .and_then(|e| e.to_str())
                .unwrap_or("")
                .to_ascii_lowercase();
            match extension.as_str() {
                "csv" => manifest::open(path, options),
                "npz" => npz::open(path, options),
                _ => Err(unknown_file(path, &extension)),
            }
        }
    }

    /// The embedded handwritten digits: 1,797 grey images of 8×8, ten classes, 500 of them for testing.
    ///
    /// # Errors
    /// None for sensible `options`; a validation share that is out of range is named.
    pub fn digits(options: &OpenOptions) -> Result<Dataset, DataError> {
        options.split.validate()?;
        digits::open(options)
    }

    /// The path it was opened from, or `digits`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it was recognised as.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Class names; a label is a position in this list. In natural order (`class2` before `class10`) where the
    /// source has no order of its own.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The number of samples, all splits together.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are no samples; never so for a data set that was opened.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The samples of one split, ascending.
    pub fn indices(&self, split: Split) -> &[usize] {
        &self.by_split[split.position()]
    }

    /// A sample's label, a position in [`classes`](Self::classes); 0 for an index that does not exist.
    pub fn label(&self, index: usize) -> u32 {
        self.samples.get(index).map_or(0, |s| s.label)
    }

    /// The split a sample belongs to, if it exists.
    pub fn split_of(&self, index: usize) -> Option<Split> {
        self.samples.get(index).map(|s| s.split)
    }

    /// A number that a sample shares with those of its group (one patient, one slide); `None` where the source names none.
    pub fn group(&self, index: usize) -> Option<u32> {
        self.samples.get(index)?.group
    }

    /// A sample's name for messages and tables: its path, or `file[record]`.
    pub fn describe(&self, index: usize) -> String {
        match self.samples.get(index).map(|s| &s.source) {
            Some(Source::File(path)) => path.display().to_string(),
            Some(Source::Volume(paths)) => {
                let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
                names.join(";")
            }
            Some(Source::Record { store, record }) => {
                let place = self.stores.get(*store).map_or("", |s| s.place.as_str());
                format!("{place}[{record}]")
            }
            None => format!("{}[{index}]", self.name),
        }
    }

    /// The file of a sample, where it has one of its own.
    pub fn path(&self, index: usize) -> Option<&Path> {
        match self.samples.get(index).map(|s| &s.source) {
            Some(Source::File(path)) => Some(path),
            Some(Source::Volume(paths)) => paths.first().map(PathBuf::as_path),
            _ => None,
        }
    }

    /// Read and decode one sample.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn decode(&self, index: usize) -> Result<DecodedImage, DataError> {
        let missing = || {
            DataError::data(
                self.describe(index),
                format!("no such sample: the data set has {}", self.len()),
                "open the data set anew",
            )
        };
        match &self.samples.get(index).ok_or_else(missing)?.source {
            Source::File(path) => decode::decode_file(path),
            Source::Volume(paths) => volume::decode_channels(paths),
            Source::Record { store, record } => {
                let store = self.stores.get(*store).ok_or_else(missing)?;
                let size = store.spatial.iter().product::<usize>() * store.channels;
                let samples = store
                    .samples
                    .slice(record * size..(record + 1) * size)
                    .ok_or_else(missing)?;
                if store.spatial[0] > 1 {
                    return Ok(DecodedImage::of_volume(
                        store.spatial,
                        store.channels,
                        samples,
                        Space::UNKNOWN,
                    ));
                }
                DecodedImage::new(&store.place, store.spatial, store.channels, samples)
            }
        }
    }

    /// From now on, prepared samples that come from files are kept in `cache`, and looked up there first.
    pub fn keep_in(&mut self, cache: Option<Arc<DiskCache>>) {
        self.cache = cache;
    }

    /// The folder that prepared samples are kept in.
    pub fn cache(&self) -> Option<&Arc<DiskCache>> {
        self.cache.as_ref()
    }

    /// One sample, prepared up to `stage`: from the [cache](Self::keep_in), or decoded.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and what preprocessing refuses.
    pub(crate) fn prepared(
        &self,
        index: usize,
        preprocessing: &Preprocessing,
        stage: Stage,
    ) -> Result<Steady, DataError> {
        let make = || {
            let decoded = self.decode(index)?;
            let image = match stage {
                Stage::Converted => preprocessing.convert_channels(&decoded),
                Stage::Fitted => preprocessing.fit(&decoded),
            };
            Ok(Steady {
                image: image.map_err(|e| e.at(&self.describe(index)))?,
                kind: decoded.kind(),
                hash: decoded.content_hash(),
            })
        };
        let source = self.samples.get(index).map(|s| &s.source);
        let files = match (&self.cache, source) {
            (Some(_), Some(Source::File(path))) => vec![path.clone()],
            (Some(_), Some(Source::Volume(paths))) => {
                let mut files = Vec::new();
                for path in paths {
                    files.extend(volume::files(path)?);
                }
                files
            }
            _ => return make(),
        };
        match &self.cache {
            Some(cache) => cache.get(&files, &preprocessing.recipe(stage), make),
            None => make(),
        }
    }

    /// Whether the samples are volumes rather than images.
    pub fn is_volumes(&self) -> bool {
        match self.samples.first().map(|s| &s.source) {
            Some(Source::Volume(_)) => true,
            Some(Source::Record { store, .. }) => {
                self.stores.get(*store).is_some_and(|s| s.spatial[0] > 1)
            }
            _ => false,
        }
    }

    /// Size `[depth, height, width]` and channels that all samples share, for formats where they do by nature.
    pub fn uniform_shape(&self) -> Option<([usize; 3], usize)> {
        let first = self.stores.first()?;
        let shape = (first.spatial, first.channels);
        self.stores
            .iter()
            .all(|s| (s.spatial, s.channels) == shape)
            .then_some(shape)
    }

    /// How many samples of each class a split has.
    pub fn class_counts(&self, split: Split) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for &index in self.indices(split) {
            if let Some(count) = counts.get_mut(self.label(index) as usize) {
                *count += 1;
            }
        }
        counts
    }

    /// What the user should know about how the data was read: files left out, splits made here.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// A number that changes when class names, the samples' names, labels, order or splits change, or the pixels
    /// of packed samples. Picture files are not read for it. A run that is resumed compares it.
    pub fn fingerprint(&self) -> u64 {
        let root = match (self.format, Path::new(&self.name)) {
            (Format::Manifest, file) => file.parent().unwrap_or(file),
            (_, folder) => folder,
        };
        let mut hash = Fnv::new();
        for class in &self.classes {
            hash.bytes(class.as_bytes());
            hash.bytes(&[0]);
        }
        for sample in &self.samples {
            match &sample.source {
                // Relative to the data set, so that it may be moved.
                Source::File(path) => {
                    let relative = path.strip_prefix(root).unwrap_or(path);
                    hash.bytes(relative.to_string_lossy().as_bytes());
                }
                Source::Volume(paths) => {
                    for path in paths {
                        let relative = path.strip_prefix(root).unwrap_or(path);
                        hash.bytes(relative.to_string_lossy().as_bytes());
                        hash.bytes(&[0]);
                    }
                }
                Source::Record { store, record } => {
                    hash.bytes(&(*store as u64).to_le_bytes());
                    hash.bytes(&(*record as u64).to_le_bytes());
                }
            }
            hash.bytes(&sample.label.to_le_bytes());
            hash.bytes(&[sample.split as u8]);
        }
        for store in self.stores.iter() {
            match &store.samples {
                Samples::U8(v) => hash.bytes(v),
                Samples::U16(v) => v.iter().for_each(|s| hash.bytes(&s.to_le_bytes())),
                Samples::F32(v) => v
                    .iter()
                    .for_each(|s| hash.bytes(&s.to_bits().to_le_bytes())),
            }
        }
        hash.finish()
    }

    /// The same data set without some samples (bad ones that are to be skipped).
    ///
    /// # Errors
    /// If a class, or the whole training split, would be left without training samples.
    pub fn without(&self, skip: &[usize]) -> Result<Dataset, DataError> {
        let skip: std::collections::BTreeSet<usize> = skip.iter().copied().collect();
        let mut out = self.clone();
        out.samples = self
            .samples
            .iter()
            .enumerate()
            .filter(|(i, _)| !skip.contains(i))
            .map(|(_, sample)| sample.clone())
            .collect();
        out.by_split = split_indices(&out.samples);
        for ((class, before), after) in self
            .classes
            .iter()
            .zip(self.class_counts(Split::Train))
            .zip(out.class_counts(Split::Train))
        {
            if before > 0 && after == 0 {
                return Err(DataError::data(
                    self.name.clone(),
                    format!("without its bad files class `{class}` has no training images left"),
                    "replace the bad files",
                ));
            }
        }
        if out.samples.is_empty() {
            return Err(DataError::data(
                self.name.clone(),
                "no sample is left",
                "replace the bad files",
            ));
        }
        Ok(out)
    }
}

/// The positions of each split's samples, ascending.
fn split_indices(samples: &[Sample]) -> [Vec<usize>; 3] {
    let mut out = [Vec::new(), Vec::new(), Vec::new()];
    for (i, sample) in samples.iter().enumerate() {
        out[sample.split.position()].push(i);
    }
    out
}

fn unknown_file(path: &Path, extension: &str) -> DataError {
    let place = path.display().to_string();
    match extension {
        "zip" | "tar" | "gz" | "tgz" | "bz2" | "xz" | "7z" | "rar"
            if !place.contains("idx") && !volume::has_volume_extension(path) =>
        {
            DataError::data(place, "a packed archive", "unpack it and give the folder")
        }
        "pkl" | "pickle" => DataError::data(
            place,
            "a Python pickle, which can run code when it is read",
            "use the binary version of the data set, or images in folders",
        ),
        _ if volume::has_volume_extension(path) => DataError::data(
            place,
            "a single volume, not a data set",
            "give the folder that has a folder of volumes per class",
        ),
        _ if decode::has_image_extension(path) => DataError::data(
            place,
            "a single image, not a data set",
            "give the folder that has a folder of images per class",
        ),
        _ if place.contains("idx") || place.contains("ubyte") || extension == "bin" => {
            DataError::data(
                place,
                "one file of a data set",
                "give the folder it lies in",
            )
        }
        _ => DataError::data(
            place,
            "not a kind of data set that is known here",
            "give a folder with a folder of images per class, a .csv manifest, a .npz file, or a folder of CIFAR or IDX files",
        ),
    }
}
