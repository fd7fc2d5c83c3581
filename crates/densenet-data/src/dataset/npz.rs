//! NumPy archives: MedMNIST's `train_images`, `train_labels`, `val_…`, `test_…`, and Keras' `x_train`, `y_train`,
//! `x_test`, `y_test`.
//!
//! Images are `[number, height, width]` (grey), with 1 or 3 channels last, or volumes `[number, depth, height,
//! width]`, again with channels last or without; of unsigned bytes, unsigned 16-bit numbers or floats. Labels are
//! whole numbers, one an image. Classes are called by their numbers.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;

use super::assemble::{Draft, Found, assemble};
use super::idx::MOST_INFLATION;
use super::{Dataset, Format, MAX_PACKED_BYTES, OpenOptions, Source, Store};
use crate::decoded::Samples;
use crate::error::DataError;
use crate::npy::{Kind, RawArray};
use crate::split::Split;

const MAX_ENTRIES: usize = 1024;
const MAX_CLASSES: i64 = 1 << 16;
const PAIRS: [(Split, &str, &str); 7] = [
    (Split::Train, "train_images.npy", "train_labels.npy"),
    (Split::Val, "val_images.npy", "val_labels.npy"),
    (Split::Test, "test_images.npy", "test_labels.npy"),
    (Split::Train, "x_train.npy", "y_train.npy"),
    (Split::Val, "x_val.npy", "y_val.npy"),
    (Split::Val, "x_valid.npy", "y_valid.npy"),
    (Split::Test, "x_test.npy", "y_test.npy"),
];

pub(super) fn open(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    let place = path.display().to_string();
    let file = File::open(path).map_err(|e| DataError::io(path, &e))?;
    let mut archive = Archive::open(&place, file)?;
    let mut drafts = Vec::new();
    let mut stores = Vec::new();
    let mut most = 0;
    for (split, images, labels) in PAIRS {
        if !archive.has(images) {
            continue;
        }
        if !archive.has(labels) {
            return Err(DataError::data(
                place,
                format!("`{images}` without `{labels}`"),
                format!("add `{labels}`"),
            ));
        }
        let store = image_store(&format!("{place}:{images}"), archive.read(images)?)?;
        let count =
            store.samples.len() / (store.spatial.iter().product::<usize>() * store.channels);
        let labels = class_labels(&format!("{place}:{labels}"), &archive.read(labels)?, count)?;
        for (record, class) in labels.into_iter().enumerate() {
            most = most.max(class);
            let source = Source::Record {
                store: stores.len(),
                record,
            };
            drafts.push(Draft {
                source,
                class,
                split: Some(split),
                group: None,
            });
        }
        stores.push(store);
    }
    if drafts.is_empty() {
        let names: Vec<&str> = archive.names.iter().take(8).map(String::as_str).collect();
        return Err(DataError::data(
            place,
            format!(
                "no train_images or x_train in it; it has {}",
                names.join(", ")
            ),
            "name the arrays train_images, train_labels, val_images, … as MedMNIST does",
        ));
    }
    let classes = (0..=most).map(|i| i.to_string()).collect();
    let found = Found {
        name: place,
        format: Format::Npz,
        classes,
        ordered: false,
        drafts,
        stores,
        notes: Vec::new(),
    };
    assemble(found, options)
}

/// A zip archive read with budgets.
struct Archive<'a> {
    place: &'a str,
    names: BTreeSet<String>,
    archive: ZipArchive<BufReader<File>>,
    budget_bytes: u64,
}

impl<'a> Archive<'a> {
    fn open(place: &'a str, file: File) -> Result<Archive<'a>, DataError> {
        let mut archive =
            ZipArchive::new(BufReader::new(file)).map_err(|e| broken(place, &e.to_string()))?;
        if archive.len() > MAX_ENTRIES {
            return Err(DataError::limit(
                place,
                format!("{} arrays; at most {MAX_ENTRIES} are read", archive.len()),
                "save only the arrays of the data set",
            ));
        }
        let mut names = BTreeSet::new();
        for i in 0..archive.len() {
            let entry = archive
                .by_index_raw(i)
                .map_err(|e| broken(place, &e.to_string()))?;
            let name = entry
                .name()
                .map_err(|e| broken(place, &e.to_string()))?
                .into_owned();
            if names.contains(&name) {
                return Err(broken(place, &format!("`{name}` is in it twice")));
            }
            names.insert(name);
        }
        Ok(Archive {
            place,
            names,
            archive,
            budget_bytes: MAX_PACKED_BYTES,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    fn read(&mut self, name: &str) -> Result<RawArray, DataError> {
        let here = format!("{}:{name}", self.place);
        let entry = self
            .archive
            .by_name(name)
            .map_err(|e| broken(&here, &e.to_string()))?;
        let (size, packed) = (entry.size(), entry.compressed_size());
        if size > packed.saturating_mul(MOST_INFLATION).saturating_add(1024) {
            return Err(broken(
                &here,
                &format!("{size} bytes cannot come out of {packed} packed ones"),
            ));
        }
        if size > self.budget_bytes {
            return Err(DataError::limit(
                here,
                format!("the arrays take more than the {MAX_PACKED_BYTES} bytes allowed"),
                "divide the data set, or store smaller images",
            ));
        }
        self.budget_bytes -= size;
        let mut bytes = Vec::new();
        // One byte more than announced, so that the end, and with it the checksum, is reached and checked.
        entry
            .take(size + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| broken(&here, &e.to_string()))?;
        if bytes.len() as u64 != size {
            return Err(broken(
                &here,
                &format!("{} bytes where {size} were announced", bytes.len()),
            ));
        }
        RawArray::parse(&here, &bytes)
    }
}

fn broken(place: &str, why: &str) -> DataError {
    DataError::data(
        place,
        format!("broken NumPy archive ({why})"),
        "fetch or save it again",
    )
}

fn image_store(place: &str, array: RawArray) -> Result<Store, DataError> {
    let (spatial, channels) = match *array.shape.as_slice() {
        [_, h, w] => ([1, h, w], 1),
        [_, h, w, c @ (1 | 3)] => ([1, h, w], c),
        [_, d, h, w] => ([d, h, w], 1),
        [_, d, h, w, c @ (1 | 3)] => ([d, h, w], c),
        _ => {
            return Err(DataError::data(
                place,
                format!("images of shape {:?}", array.shape),
                "give [number, height, width] or [number, depth, height, width], with 1 or 3 channels last or none",
            ));
        }
    };
    if array.shape.contains(&0) {
        return Err(DataError::data(
            place,
            format!("no images: the shape is {:?}", array.shape),
            "save it again",
        ));
    }
    let samples = match array.kind {
        Kind::U8 => array.into_u8().map(Samples::U8),
        Kind::U16 => array.to_u16().map(Samples::U16),
        Kind::F16 | Kind::F32 | Kind::F64 => Some(Samples::F32(array.to_f32())),
        _ => None,
    };
    let Some(samples) = samples else {
        return Err(DataError::data(
            place,
            "images of signed, large or truth-value numbers, whose white is unknown",
            "save them as uint8, uint16 or float32",
        ));
    };
    if let Samples::F32(values) = &samples
        && !values.iter().all(|v| v.is_finite())
    {
        return Err(DataError::data(
            place,
            "some values are infinite or not numbers",
            "replace them",
        ));
    }
    Ok(Store {
        place: place.to_string(),
        spatial,
        channels,
        samples,
    })
}

fn class_labels(place: &str, array: &RawArray, count: usize) -> Result<Vec<usize>, DataError> {
    let single = matches!(*array.shape.as_slice(), [_] | [_, 1]);
    let numbers = array.to_i64();
    match (numbers, array.shape.as_slice()) {
        (Some(numbers), _) if single && numbers.len() == count => numbers
            .into_iter()
            .enumerate()
            .map(|(i, label)| match label {
                0..MAX_CLASSES => Ok(label as usize),
                _ => Err(DataError::data(
                    format!("{place}[{i}]"),
                    format!("label {label}"),
                    format!("use labels from 0 to {}", MAX_CLASSES - 1),
                )),
            })
            .collect(),
        (_, [_, several]) if *several > 1 => Err(DataError::data(
            place,
            format!("{several} labels an image"),
            "use a data set with one label an image; several at once are not supported",
        )),
        (None, _) => Err(DataError::data(
            place,
            "labels that are not whole numbers",
            "save them as integers",
        )),
        (_, shape) => Err(DataError::data(
            place,
            format!("labels of shape {shape:?} for {count} images"),
            "give one label per image",
        )),
    }
}
