//! IDX files: MNIST, Fashion-MNIST, EMNIST, KMNIST, plain or gzipped.
//!
//! Layout: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as a big-endian
//! 32-bit number, the samples. Pictures have three dimensions (number, height, width) or four (then 1 or 3 channels
//! come last), labels one. A file whose name has `images` and `idx` is paired with the one that has `labels`
//! instead; `train`, `t10k`, `test`, `val` in the name tell the split.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::assemble::{Draft, Found, assemble};
use super::folder::{Entry, Listing};
use super::{Dataset, Format, MAX_PACKED_BYTES, OpenOptions, Source, Store};
use crate::decode::read_bounded;
use crate::decoded::Samples;
use crate::error::DataError;
use crate::split::Split;

/// Deflate makes at most 1,032 bytes out of one.
pub(super) const MOST_INFLATION: u64 = 1032;

fn is_images(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("images") && name.contains("idx")
}

pub(super) fn recognises(listing: &Listing) -> bool {
    listing.files.iter().any(|f| is_images(&f.name))
}

/// What is the same in the names of pictures and labels: `train-images-idx3-ubyte.gz` gives `train--idx-ubyte`.
fn pair_key(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    ["images", "labels"]
        .iter()
        .fold(name.to_string(), |n, word| n.replace(word, ""))
        .replace(['1', '3', '4'], "")
}

fn split_of(file: &Entry) -> Result<Split, DataError> {
    let name = file.name.to_ascii_lowercase();
    if name.contains("train") {
        Ok(Split::Train)
    } else if name.contains("t10k") || name.contains("test") {
        Ok(Split::Test)
    } else if name.contains("val") {
        Ok(Split::Val)
    } else {
        Err(DataError::data(
            file.path.display().to_string(),
            "the name does not tell the split",
            "put `train`, `val`, `test` or `t10k` into the names of the images and labels files",
        ))
    }
}

pub(super) fn open(
    path: &Path,
    listing: &Listing,
    options: &OpenOptions,
) -> Result<Dataset, DataError> {
    let mut drafts = Vec::new();
    let mut stores: Vec<Store> = Vec::new();
    let mut most = 0usize;
    let mut seen = std::collections::BTreeSet::new();
    for images in listing.files.iter().filter(|f| is_images(&f.name)) {
        let key = pair_key(&images.name);
        if !seen.insert(key.clone()) {
            continue; // The same file packed and unpacked: the first in natural order counts.
        }
        let split = split_of(images)?;
        let labels = listing
            .files
            .iter()
            .find(|f| f.name.to_ascii_lowercase().contains("labels") && pair_key(&f.name) == key)
            .ok_or_else(|| {
                DataError::data(
                    images.path.display().to_string(),
                    "no labels file beside it",
                    format!(
                        "put `{}` there",
                        images
                            .name
                            .replace("images", "labels")
                            .replace("idx3", "idx1")
                    ),
                )
            })?;
        let store = image_store(&images.path.display().to_string(), read_file(&images.path)?)?;
        let array = read_file(&labels.path)?;
        let count =
            store.samples.len() / (store.spatial.iter().product::<usize>() * store.channels);
        if array.shape.len() != 1 || array.data.len() != count {
            return Err(DataError::data(
                labels.path.display().to_string(),
                format!("labels of shape {:?} for {count} images", array.shape),
                "give one label per image, in one dimension",
            ));
        }
        for (record, &label) in array.data.iter().enumerate() {
            most = most.max(usize::from(label));
            drafts.push(Draft {
                source: Source::Record {
                    store: stores.len(),
                    record,
                },
                class: usize::from(label),
                split: Some(split),
                group: None,
            });
        }
        stores.push(store);
    }
    let name = path.display().to_string();
    let classes = (0..=most).map(|i| i.to_string()).collect();
    let found = Found {
        name,
        format: Format::Idx,
        classes,
        ordered: false,
        drafts,
        stores,
        notes: Vec::new(),
    };
    assemble(found, options)
}

/// An IDX file's content: unsigned bytes of some shape.
pub(super) struct IdxArray {
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

fn read_file(path: &Path) -> Result<IdxArray, DataError> {
    let bytes = read_bounded(path, MAX_PACKED_BYTES)?;
    parse(&path.display().to_string(), &bytes)
}

/// Read an IDX file, gzipped or not, from memory.
pub(super) fn parse(place: &str, bytes: &[u8]) -> Result<IdxArray, DataError> {
    let length = bytes.len() as u64;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        read(
            place,
            MultiGzDecoder::new(bytes),
            length.saturating_mul(MOST_INFLATION),
        )
    } else {
        read(place, bytes, length)
    }
}

/// `most` is how many bytes `reader` can possibly give: what the header announces is compared with it first.
fn read(place: &str, mut reader: impl Read, most: u64) -> Result<IdxArray, DataError> {
    let broken = |what: String| {
        DataError::data(
            place,
            what,
            "fetch the file again: it is damaged or of another kind",
        )
    };
    let cut_off = |e: std::io::Error| broken(format!("cut off or damaged ({e})"));
    let mut magic = [0u8; 4];
    reader.read_exact(&mut magic).map_err(cut_off)?;
    let [0, 0, kind, dimensions] = magic else {
        return Err(broken(format!(
            "not an IDX file: it begins with {magic:02x?}"
        )));
    };
    if kind != 8 {
        return Err(broken(format!(
            "IDX samples of type {kind:#04x}; only unsigned bytes (0x08) are read"
        )));
    }
    if !(1..=4).contains(&dimensions) {
        return Err(broken(format!("{dimensions} dimensions; 1 to 4 are read")));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        let mut size = [0u8; 4];
        reader.read_exact(&mut size).map_err(cut_off)?;
        shape.push(u32::from_be_bytes(size) as usize);
    }
    let announced = shape
        .iter()
        .try_fold(1u64, |product, &n| product.checked_mul(n as u64));
    let announced = match announced {
        Some(n) if n <= most => n,
        _ => {
            return Err(broken(format!(
                "the header announces {shape:?} samples, more than the file can hold"
            )));
        }
    };
    if announced > MAX_PACKED_BYTES {
        return Err(DataError::limit(
            place,
            format!("{announced} bytes of samples, more than the {MAX_PACKED_BYTES} allowed"),
            "divide the data set",
        ));
    }
    let mut data = Vec::new();
    reader
        .take(announced + 1)
        .read_to_end(&mut data)
        .map_err(cut_off)?;
    if data.len() as u64 != announced {
        let found = if data.len() as u64 > announced {
            "more".to_string()
        } else {
            data.len().to_string()
        };
        return Err(broken(format!(
            "the header announces {announced} bytes of samples, the file has {found}"
        )));
    }
    Ok(IdxArray { shape, data })
}

/// Pictures out of an array.
pub(super) fn image_store(place: &str, array: IdxArray) -> Result<Store, DataError> {
    let (height, width, channels) = match *array.shape.as_slice() {
        [_, height, width] => (height, width, 1),
        [_, height, width, channels @ (1 | 3)] => (height, width, channels),
        _ => {
            return Err(DataError::data(
                place,
                format!("images of shape {:?}", array.shape),
                "give [number, height, width], or four dimensions with 1 or 3 channels last",
            ));
        }
    };
    if array.data.is_empty() {
        return Err(DataError::data(
            place,
            "no images in it",
            "fetch the file again",
        ));
    }
    Ok(Store {
        place: place.to_string(),
        spatial: [1, height, width],
        channels,
        samples: Samples::U8(array.data),
    })
}
