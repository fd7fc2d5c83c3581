//! Reading: length, header, then each tensor's bytes straight into f32.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use super::header::{Header, Info, MAX_HEADER_BYTES};
use crate::{
    RawWeights, Tensor,
    dtype::DType,
    error::{Format, Problem, WeightsError, malformed, within},
    files,
};

/// Reads the `.safetensors` file at `path`.
///
/// # Errors
/// Anything that keeps the file from being read completely, with its path.
pub fn read(path: &Path) -> Result<RawWeights, WeightsError> {
    let (file, length) = files::open(path)?;
    read_from(&mut BufReader::new(file as File), length).map_err(|error| error.at(path))
}

/// Reads `length` bytes of `.safetensors` from `reader`.
///
/// # Errors
/// As [`read`], without a path.
pub fn read_from(reader: &mut impl Read, length: u64) -> Result<RawWeights, WeightsError> {
    let (header, _) = header(reader, length)?;
    let mut weights = RawWeights {
        metadata: header.metadata,
        ..RawWeights::default()
    };
    let mut converted = BTreeMap::new();
    for info in header.tensors {
        if info.is_counter()? {
            let value = counter(reader)?;
            weights.counters.push((info.name, value));
            continue;
        }
        if info.dtype != DType::F32 {
            *converted.entry(info.dtype.name()).or_default() += 1;
        }
        let data = floats(reader, &info)?;
        weights.tensors.insert(
            info.name,
            Tensor {
                shape: info.shape,
                data,
            },
        );
    }
    weights.note_conversions(&converted);
    Ok(weights)
}

/// The header of a file of `length` bytes, and where the tensors' bytes begin.
pub(crate) fn header(reader: &mut impl Read, length: u64) -> Result<(Header, u64), WeightsError> {
    if length < 8 {
        return Err(malformed(
            Format::Safetensors,
            format!("the file has {length} bytes, too few for a header"),
        ));
    }
    let mut header_length = [0; 8];
    reader.read_exact(&mut header_length).map_err(reading)?;
    let header_bytes = u64::from_le_bytes(header_length);
    if header_bytes > length - 8 {
        return Err(malformed(
            Format::Safetensors,
            format!("the header claims {header_bytes} bytes in a file of {length}"),
        ));
    }
    within("bytes of header", header_bytes, MAX_HEADER_BYTES)?;
    let mut json = vec![0; header_bytes as usize];
    reader.read_exact(&mut json).map_err(reading)?;
    let header = Header::parse(&json, length - 8 - header_bytes)?;
    Ok((header, 8 + header_bytes))
}

/// A step counter.
pub(crate) fn counter(reader: &mut impl Read) -> Result<i64, WeightsError> {
    let mut value = [0; 8];
    reader.read_exact(&mut value).map_err(reading)?;
    Ok(i64::from_le_bytes(value))
}

/// One tensor's elements; the header's check has bounded their number by the file's length.
pub(crate) fn floats(reader: &mut impl Read, info: &Info) -> Result<Vec<f32>, WeightsError> {
    let mut data = Vec::with_capacity(info.count);
    let mut left = info.count * info.dtype.size_bytes();
    let mut piece = vec![0; left.min(PIECE_BYTES)];
    while left > 0 {
        let piece = &mut piece[..left.min(PIECE_BYTES)];
        reader.read_exact(piece).map_err(reading)?;
        info.dtype.decode_floats(piece, &mut data);
        left -= piece.len();
    }
    Ok(data)
}

/// A multiple of every element size.
const PIECE_BYTES: usize = 64 * 1024;

pub(crate) fn reading(cause: std::io::Error) -> WeightsError {
    Problem::Io {
        action: "read",
        cause,
    }
    .into()
}
