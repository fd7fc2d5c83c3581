#![forbid(unsafe_code)]
//! Image data sets, preprocessing, augmentation and batches.
//!
//! ```text
//! path ──► Dataset ──► DecodedImage ──► Preprocessing (+ Augmentation) ──► Loader ──► Batch
//!           names,       one picture,      one function for training,       threads,    [n][d][h][w][c]
//!           labels,      as the file       evaluation and prediction        fixed order
//!           splits       had it
//! ```
//!
//! - [`Dataset::open`] recognises image folders, CSV manifests, CIFAR, MNIST's IDX and MedMNIST's NumPy files, and
//!   holds the embedded `digits`.
//! - [`check()`] reads everything once before training: every bad file is named, mean and deviation are measured.
//! - [`Preprocessing`] turns a picture into numbers; it is stored in the model, so prediction does what training did.
//! - [`Augmentation`] is a short text such as `crop:4,hflip`.
//! - [`Loader`] delivers batches, the same ones for any number of threads and wherever a run is resumed.
//! - [`DiskCache`] keeps prepared samples from run to run, in a folder that the user names.
//! - [`npy`] reads and writes raw arrays.
//!
//! Letters: `n` sample, `d` depth, `h` height, `w` width, `c` channel; sizes are `[depth, height, width]`, a picture
//! has depth 1; data is channels last.
//!
//! # Promises
//! Opening any file runs no code and stays within stated limits of memory. No other file is read, but for the file of numbers
//! beside a `.mhd` or `.nhdr` header. Nothing is written, but into the folder of a [`DiskCache`].
//! Everything random is a pure function of (seed, epoch, sample, operation), see [`random`].
//!
//! # Not here
//! Several labels an image, detection and segmentation.
//!
//! ```
//! use std::sync::Arc;
//! use densenet_data::{Dataset, Loader, LoaderOptions, OnError, OpenOptions, Preprocessing, Split, check};
//!
//! let digits = Dataset::digits(&OpenOptions::default())?;
//! let mut preprocessing = Preprocessing::suggest(&digits, None, None);
//! let inspection = check(&digits, &preprocessing, 2, &|_, _| true)?.ok_or("stopped")?;
//! let digits = Arc::new(inspection.accept(&digits, OnError::Fail)?);
//! (preprocessing.mean, preprocessing.std) = (inspection.mean, inspection.std);
//!
//! let loader = Loader::new(digits, Split::Train, preprocessing, LoaderOptions::training(64, 0))?;
//! for batch in loader.epoch(0, 0) {
//!     let batch = batch?;
//!     assert_eq!(batch.data.len(), batch.len() * 8 * 8);
//!     loader.recycle(batch);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod augmentation;
pub mod cache;
pub mod check;
pub mod dataset;
pub mod decode;
mod decoded;
mod error;
pub mod loader;
mod natural;
pub mod npy;
pub mod preprocessing;
pub mod random;
mod resample;
pub mod split;
pub mod volume;

pub use augmentation::{Augmentation, SampleKey};
pub use cache::DiskCache;
pub use check::{BadFile, Inspection, OnError, check};
pub use dataset::{Dataset, Format, OpenOptions};
pub use decode::{decode_bytes, decode_file};
pub use decoded::{DecodedImage, Samples};
pub use error::{DataError, DataErrorKind};
pub use loader::{Batch, Epoch, LastBatch, Loader, LoaderOptions};
pub use natural::natural_cmp;
pub use preprocessing::{
    Alpha, Clip, NonFiniteVoxels, Normalize, Prepared, Preprocessing, Resize, Scale, VolumeSize,
    VolumeSteps,
};
pub use resample::Filter;
pub use split::{Split, SplitOptions};
pub use volume::{Orientation, Space, decode_volume};
