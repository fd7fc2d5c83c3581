//! CIFAR-10 and CIFAR-100 in their binary version.
//!
//! A record is one label byte (CIFAR-100: coarse, then fine; the fine one counts) and 3,072 bytes: the red plane,
//! the green, the blue, each 32 rows of 32. CIFAR-10 lies in `data_batch_*.bin` and `test_batch.bin` with names in
//! `batches.meta.txt`, CIFAR-100 in `train.bin` and `test.bin` with names in `fine_label_names.txt`. Where the names
//! are missing, classes are called by their numbers.

use std::path::Path;

use super::assemble::{Draft, Found, assemble};
use super::folder::{Entry, Listing};
use super::{Dataset, Format, OpenOptions, Source, Store};
use crate::decode::read_bounded;
use crate::decoded::Samples;
use crate::error::DataError;
use crate::split::Split;

const PLANE: usize = 32 * 32;
const PICTURE: usize = 3 * PLANE;
const MAX_FILE_BYTES: u64 = 1 << 30;

fn is_ten(name: &str) -> bool {
    name == "test_batch.bin" || name.starts_with("data_batch_") && name.ends_with(".bin")
}

fn is_hundred(name: &str) -> bool {
    name == "train.bin" || name == "test.bin"
}

pub(super) fn recognises(listing: &Listing) -> bool {
    listing
        .files
        .iter()
        .any(|f| is_ten(&f.name) || is_hundred(&f.name))
}

pub(super) fn open(
    path: &Path,
    listing: &Listing,
    options: &OpenOptions,
) -> Result<Dataset, DataError> {
    let hundred = !listing.files.iter().any(|f| is_ten(&f.name));
    let (format, count, names_file) = if hundred {
        (Format::Cifar100, 100, "fine_label_names.txt")
    } else {
        (Format::Cifar10, 10, "batches.meta.txt")
    };
    let files: Vec<&Entry> = listing
        .files
        .iter()
        .filter(|f| {
            if hundred {
                is_hundred(&f.name)
            } else {
                is_ten(&f.name)
            }
        })
        .collect();
    let mut notes = Vec::new();
    let classes = match listing.files.iter().find(|f| f.name == names_file) {
        Some(file) => class_names(&file.path, count)?,
        None => {
            notes.push(format!(
                "{}: no {names_file}, classes are called by number",
                path.display()
            ));
            (0..count).map(|i| i.to_string()).collect()
        }
    };
    let mut drafts = Vec::new();
    let mut stores = Vec::new();
    for file in files {
        let split = if file.name.starts_with("test") {
            Split::Test
        } else {
            Split::Train
        };
        let place = file.path.display().to_string();
        let bytes = read_bounded(&file.path, MAX_FILE_BYTES)?;
        let (labels, samples) = parse(&place, &bytes, if hundred { 2 } else { 1 }, count)?;
        drafts.extend(labels.into_iter().enumerate().map(|(record, label)| Draft {
            source: Source::Record {
                store: stores.len(),
                record,
            },
            class: usize::from(label),
            split: Some(split),
            group: None,
        }));
        stores.push(Store {
            place,
            spatial: [1, 32, 32],
            channels: 3,
            samples: Samples::U8(samples),
        });
    }
    let name = path.display().to_string();
    assemble(
        Found {
            name,
            format,
            classes,
            ordered: true,
            drafts,
            stores,
            notes,
        },
        options,
    )
}

/// Labels, and pixels with channels last.
fn parse(
    place: &str,
    bytes: &[u8],
    label_bytes: usize,
    count: usize,
) -> Result<(Vec<u8>, Vec<u8>), DataError> {
    let record = label_bytes + PICTURE;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        return Err(DataError::data(
            place,
            format!(
                "{} bytes, not a positive multiple of CIFAR's {record} a record",
                bytes.len()
            ),
            "fetch the file again: it is cut off or of another kind",
        ));
    }
    let mut labels = Vec::with_capacity(bytes.len() / record);
    let mut samples = Vec::with_capacity(bytes.len() / record * PICTURE);
    for (i, record) in bytes.chunks_exact(record).enumerate() {
        let (head, planes) = record.split_at(label_bytes);
        let label = head.last().copied().unwrap_or(0);
        if usize::from(label) >= count {
            return Err(DataError::data(
                format!("{place}[{i}]"),
                format!("label {label} where there are {count} classes"),
                "fetch the file again: it is damaged or of another kind",
            ));
        }
        labels.push(label);
        let (red, rest) = planes.split_at(PLANE);
        let (green, blue) = rest.split_at(PLANE);
        samples.extend(
            red.iter()
                .zip(green)
                .zip(blue)
                .flat_map(|((&r, &g), &b)| [r, g, b]),
        );
    }
    Ok((labels, samples))
}

fn class_names(path: &Path, count: usize) -> Result<Vec<String>, DataError> {
    let bytes = read_bounded(path, 1 << 20)?;
    let text = String::from_utf8_lossy(&bytes);
    let names: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .map(str::to_string)
        .collect();
    let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
    if names.len() != count || distinct.len() != count {
        return Err(DataError::data(
            path.display().to_string(),
            format!("{} different names for {count} classes", distinct.len()),
            "give one name a line, or remove the file to call classes by number",
        ));
    }
    Ok(names)
}
