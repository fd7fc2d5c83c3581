//! The zip form: `NAME/data.pkl`, `NAME/data/0`, `NAME/data/1`, …

use std::{
    collections::HashMap,
    io::{Read, Seek},
};

use zip::{CompressionMethod, ZipArchive, read::ZipReadOptions, result::ZipError};

use super::{
    bad,
    extract::Plan,
    reading,
    unpickle::{MAX_PICKLE_BYTES, unpickle},
};
use crate::{
    RawWeights,
    error::{WeightsError, printable, unsupported, within},
};

/// Most records: a DenseNet-264 has 1,595.
const MAX_RECORDS: usize = 65_535;
/// Records may unpack to at most this many times the file; PyTorch itself never compresses.
const MAX_UNPACKED: u64 = 8;

/// Reads a zip archive of `length` bytes.
pub(super) fn read<R: Read + Seek>(
    reader: &mut R,
    length: u64,
) -> Result<RawWeights, WeightsError> {
    let mut archive = Archive::open(reader, length)?;
    let prefix = archive.prefix()?;
    if let Some(order) = archive.find(&format!("{prefix}byteorder")) {
        let order = archive.read(order, 16)?;
        if order.trim_ascii() != b"little" {
            return Err(unsupported(
                "it was written on a big-endian machine",
                "in Python, save it again with torch.save on an ordinary machine",
            ));
        }
    }
    let Some(record) = archive.find(&format!("{prefix}data.pkl")) else {
        return Err(bad("it has no data.pkl"));
    };
    let text = archive.read(record, MAX_PICKLE_BYTES)?;
    let pickle = unpickle(&text)?;
    if pickle.length != text.len() {
        return Err(bad("bytes follow the end of its pickle"));
    }
    let mut plan = Plan::new(&pickle, length)?;
    for (key, bytes) in plan.needed()? {
        let name = format!("{prefix}data/{}", String::from_utf8_lossy(key));
        let Some(record) = archive.find(&name) else {
            return Err(bad(format!("it has no record `{}`", printable(&name))));
        };
        if record.bytes != bytes {
            return Err(bad(format!(
                "record `{}` has {} bytes where its type and size need {bytes}",
                printable(&name),
                record.bytes
            )));
        }
        let content = archive.read(record, bytes)?;
        plan.supply(key, &content);
    }
    plan.finish()
}

/// An archive that has passed every check.
struct Archive<'a, R> {
    zip: ZipArchive<&'a mut R>,
    /// Place in the archive and unpacked bytes, by name.
    records: HashMap<String, Record>,
}

#[derive(Clone, Copy)]
struct Record {
    index: usize,
    bytes: u64,
}

impl<'a, R: Read + Seek> Archive<'a, R> {
    fn open(reader: &'a mut R, length: u64) -> Result<Self, WeightsError> {
        let mut zip = ZipArchive::new(reader).map_err(zip_error)?;
        within(
            "records in the archive",
            zip.len() as u64,
            MAX_RECORDS as u64,
        )?;
        if zip.offset() != 0 {
            return Err(bad("bytes stand before the archive"));
        }
        // Unique names, local headers equal to the directory's, no overlap, nothing unlisted.
        zip.validate_header_consistency().map_err(zip_error)?;
        let mut records = HashMap::with_capacity(zip.len());
        let mut unpacked = 0u64;
        for index in 0..zip.len() {
            let entry = zip.by_index_data(index).map_err(zip_error)?;
            let name = entry.name().map_err(zip_error)?.into_owned();
            let stored = entry.compression() == CompressionMethod::Stored;
            if entry.encrypted() {
                return Err(bad(format!("record `{}` is encrypted", printable(&name))));
            }
            if !stored && entry.compression() != CompressionMethod::Deflated {
                return Err(bad(format!(
                    "record `{}` is compressed in an unknown way",
                    printable(&name)
                )));
            }
            if stored && entry.size() != entry.compressed_size() {
                return Err(bad(format!("record `{}` has two sizes", printable(&name))));
            }
            unpacked = unpacked.saturating_add(entry.size());
            let record = Record {
                index,
                bytes: entry.size(),
            };
            records.insert(name, record);
        }
        within(
            "bytes in the unpacked archive",
            unpacked,
            length.saturating_mul(MAX_UNPACKED).saturating_add(1 << 20),
        )?;
        Ok(Archive { zip, records })
    }

    fn find(&self, name: &str) -> Option<Record> {
        self.records.get(name).copied()
    }

    /// The folder of the one `data.pkl`, with its slash.
    fn prefix(&self) -> Result<String, WeightsError> {
        if self
            .records
            .keys()
            .any(|name| name == "constants.pkl" || name.ends_with("/constants.pkl"))
        {
            return Err(unsupported(
                "it is a TorchScript program, not plain weights",
                "in Python, load it with torch.jit.load and save its `state_dict()`",
            ));
        }
        let mut pickles = self.records.keys().filter_map(|name| {
            let folder = name.strip_suffix("data.pkl")?;
            (folder.is_empty() || folder.ends_with('/')).then_some(folder)
        });
        match (pickles.next(), pickles.next()) {
            (Some(folder), None) => Ok(folder.to_string()),
            (Some(_), Some(_)) => Err(bad("it has more than one data.pkl")),
            (None, _) => Err(unsupported(
                "it is a zip archive without data.pkl",
                "give a file that torch.save wrote",
            )),
        }
    }

    /// A record's bytes, at most `limit`, its checksum verified.
    fn read(&mut self, record: Record, limit: u64) -> Result<Vec<u8>, WeightsError> {
        let options = ZipReadOptions::new().enforce_header_consistency(true);
        let entry = self
            .zip
            .by_index_with_options(record.index, options)
            .map_err(zip_error)?;
        let size = entry.size();
        within("bytes in a record", size, limit)?;
        // Grows as bytes arrive: the size in the directory alone allocates nothing.
        let mut content = Vec::new();
        entry
            .take(size + 1)
            .read_to_end(&mut content)
            .map_err(reading)?;
        if content.len() as u64 != size {
            return Err(bad("a record does not have the size its directory tells"));
        }
        Ok(content)
    }
}

fn zip_error(error: ZipError) -> WeightsError {
    match error {
        ZipError::Io(cause) => reading(cause),
        other => bad(format!(
            "the archive is not sound: {}",
            printable(&other.to_string())
        )),
    }
}
