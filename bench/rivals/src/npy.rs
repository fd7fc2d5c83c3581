//! NumPy's file format, as far as `bench/compare` writes it: version 1, little-endian f32, rows first.

use std::{fs, path::Path};

use crate::{Array, Failure};

const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// Reads an array.
pub fn read(path: &Path) -> Result<Array, Failure> {
    let bytes = fs::read(path)?;
    let wrong = || format!("{}: not a .npy file of f32, rows first", path.display());
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(wrong)?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(wrong)?;
    let (header, body) = rest
        .split_at_checked(usize::from(u16::from_le_bytes(*length)))
        .ok_or_else(wrong)?;
    let header = std::str::from_utf8(header)?;
    if !header.contains("'<f4'") || !header.contains("False") {
        return Err(wrong().into());
    }
    let shape = header
        .split_once("'shape': (")
        .and_then(|(_, rest)| rest.split_once(')'))
        .ok_or_else(wrong)?
        .0;
    let shape = shape
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty())
        .map(str::parse)
        .collect::<Result<Vec<usize>, _>>()?;
    let data: Vec<f32> = body
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&word| f32::from_le_bytes(word))
        .collect();
    if data.len() != shape.iter().product::<usize>() {
        return Err(wrong().into());
    }
    Ok(Array { shape, data })
}

/// Writes an array.
pub fn write(path: &Path, array: &Array) -> Result<(), Failure> {
    let shape: Vec<String> = array.shape.iter().map(|size| format!("{size},")).collect();
    let header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}",
        shape.concat()
    );
    // The data start at a multiple of 64 bytes; the header ends with a newline.
    let padded = (MAGIC.len() + 2 + header.len() + 1).next_multiple_of(64) - MAGIC.len() - 2;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(u16::try_from(padded)?.to_le_bytes());
    bytes.extend(format!("{header:<width$}\n", width = padded - 1).bytes());
    bytes.extend(array.data.iter().flat_map(|value| value.to_le_bytes()));
    Ok(fs::write(path, bytes)?)
}
