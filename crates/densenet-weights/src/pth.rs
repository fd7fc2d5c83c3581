//! PyTorch's `.pth`/`.pt` files: zip archives (since 1.6) and the older sequence of pickles.
//!
//! A pickle is a program that can call anything. This reader runs no part of it: it follows the stack machine with plain
//! data, knows the few names that weights need (`pth/globals.rs`) and refuses every other. All values live in one arena and
//! refer to each other by number, so nothing is cloned, shared or dropped recursively, whatever the file says.
//!
//! Bounds: [`MAX_PICKLE_BYTES`], [`MAX_NODES`] values, [`MAX_REFERENCES`] entries in containers, nesting of
//! [`MAX_DEPTH`]. Tensors must lie inside their storage and may not repeat elements; a storage's record must have
//! exactly the length its type says; archives must be unambiguous (unique names, equal headers, right checksums).
//!
//! The reader is this crate's own: the available one clones values on every memo access under its own, wider budgets
//! (100 MB of pickle, nesting 1000), keeps unknown objects as opaque values instead of refusing them, and checks archives
//! less strictly.

mod archive;
mod extract;
mod globals;
mod legacy;
mod unpickle;
mod value;
mod write;
mod zip_write;

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use crate::{
    RawWeights,
    error::{Format, Problem, WeightsError, malformed, unsupported},
    files,
};

pub use unpickle::{MAX_DEPTH, MAX_NODES, MAX_PICKLE_BYTES, MAX_REFERENCES};
pub(crate) use write::write;

/// Reads the `.pth` or `.pt` file at `path`.
///
/// # Errors
/// Anything that keeps the file from being read completely, with its path.
pub fn read(path: &Path) -> Result<RawWeights, WeightsError> {
    let (file, length) = files::open(path)?;
    read_from(&mut BufReader::new(file as File), length).map_err(|error| error.at(path))
}

/// Reads `length` bytes of `.pth` from `reader`.
///
/// # Errors
/// As [`read`], without a path.
pub fn read_from<R: Read + Seek>(reader: &mut R, length: u64) -> Result<RawWeights, WeightsError> {
    let mut start = [0; 4];
    let known = length.min(4) as usize;
    reader.read_exact(&mut start[..known]).map_err(reading)?;
    reader.seek(SeekFrom::Start(0)).map_err(reading)?;
    match &start {
        b"PK\x03\x04" => archive::read(reader, length),
        [0x80, ..] => legacy::read(reader, length),
        b"PK\x05\x06" => Err(bad("the archive is empty")),
        _ if known == 0 => Err(bad("the file is empty")),
        _ if start.starts_with(b"\x1f\x8b") => Err(unsupported(
            "the file is compressed with gzip",
            "unpack it with gunzip first",
        )),
        _ => Err(bad("it starts neither as a zip archive nor as a pickle")),
    }
}

fn bad(what: impl Into<String>) -> WeightsError {
    malformed(Format::Pth, what)
}

/// A failed read; an early end means that the file is shorter than it says.
fn reading(cause: std::io::Error) -> WeightsError {
    match cause.kind() {
        std::io::ErrorKind::UnexpectedEof => bad("it ends early"),
        std::io::ErrorKind::InvalidData => bad(cause.to_string()),
        _ => Problem::Io {
            action: "read",
            cause,
        }
        .into(),
    }
}
