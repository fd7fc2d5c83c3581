//! NumPy's `.npy` arrays: read any rank and number type as f32, write f32.
//!
//! Versions 1 to 3; little and big endian; C and Fortran order (turned to C order); `b1 i1 u1 i2 u2 i4 u4 i8 u8 f2
//! f4 f8`. Object arrays are refused: they are pickles, which can run code. Complex numbers, text and records are
//! refused by name.
//!
//! # Limits
//! A header of at most 10,000 bytes and 32 dimensions, checked before reading it; the size it announces must be the
//! size that is there.

mod header;

use std::path::Path;

use half::f16;

use crate::decode::read_bounded;
use crate::error::DataError;

use header::Header;
pub(crate) use header::Kind;

/// The most bytes a `.npy` file may have.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// An array in C order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its dimensions; empty for a single number.
    pub shape: Vec<usize>,
    /// Its numbers, the last dimension fastest.
    pub data: Vec<f32>,
}

/// Read a `.npy` file.
///
/// # Errors
/// Names the file: unreadable, no array, a number type that is not read, cut off.
///
/// # Numerics
/// Numbers are rounded to the nearest f32; an f64 beyond its range becomes infinite.
pub fn read(path: &Path) -> Result<Array, DataError> {
    let bytes = read_bounded(path, MAX_FILE_BYTES)?;
    parse(&path.display().to_string(), &bytes)
}

/// Read an array from memory; `place` names it in messages.
///
/// # Errors
/// As [`read`].
pub fn parse(place: &str, bytes: &[u8]) -> Result<Array, DataError> {
    let raw = RawArray::parse(place, bytes)?;
    Ok(Array {
        data: raw.to_f32(),
        shape: raw.shape,
    })
}

/// The bytes of a `.npy` file (version 1, little endian, C order) with these numbers.
///
/// # Errors
/// A configuration error if `shape` does not multiply to the number of numbers.
pub fn to_bytes(shape: &[usize], data: &[f32]) -> Result<Vec<u8>, DataError> {
    let count = shape
        .iter()
        .try_fold(1usize, |product, &n| product.checked_mul(n));
    if count != Some(data.len()) {
        return Err(DataError::config(
            "array",
            format!("{} numbers do not fill the shape {shape:?}", data.len()),
            "give as many as the dimensions multiply to",
        ));
    }
    let dimensions: String = shape.iter().map(|n| format!("{n}, ")).collect();
    // Python writes a tuple of one as `(3,)`, which `(3, )` equals.
    let mut head = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dimensions}), }}");
    // Magic, version and length take 10 bytes; the samples begin at a multiple of 64.
    let padded = (10 + head.len() + 1).next_multiple_of(64) - 10;
    let length = u16::try_from(padded).map_err(|_| {
        DataError::config(
            "array",
            format!("{} dimensions", shape.len()),
            "use fewer dimensions",
        )
    })?;
    head.extend(std::iter::repeat_n(' ', padded - head.len() - 1));
    head.push('\n');
    let mut out = Vec::with_capacity(10 + padded + 4 * data.len());
    out.extend_from_slice(b"\x93NUMPY\x01\x00");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(head.as_bytes());
    out.extend(data.iter().flat_map(|v| v.to_le_bytes()));
    Ok(out)
}

/// An array in C order whose numbers are still bytes.
pub(crate) struct RawArray {
    pub kind: Kind,
    pub shape: Vec<usize>,
    big_endian: bool,
    bytes: Vec<u8>,
}

impl RawArray {
    pub(crate) fn parse(place: &str, bytes: &[u8]) -> Result<RawArray, DataError> {
        let header = Header::parse(place, bytes)?;
        let body = bytes.get(header.length..).unwrap_or(&[]);
        let Header {
            kind,
            big_endian,
            fortran_order,
            shape,
            ..
        } = header;
        let size = kind.size();
        let announced = shape
            .iter()
            .try_fold(size, |product, &n| product.checked_mul(n));
        if announced != Some(body.len()) {
            return Err(DataError::data(
                place,
                format!(
                    "the header announces {shape:?} numbers of {size} bytes, the file has {} bytes of them",
                    body.len()
                ),
                "write the file anew: it is cut off or damaged",
            ));
        }
        let bytes = if fortran_order && shape.len() > 1 {
            to_c_order(body, &shape, size)
        } else {
            body.to_vec()
        };
        Ok(RawArray {
            kind,
            shape,
            big_endian,
            bytes,
        })
    }

    /// The numbers as bytes, if that is what they are.
    pub(crate) fn into_u8(self) -> Option<Vec<u8>> {
        (self.kind == Kind::U8).then_some(self.bytes)
    }

    /// The numbers as unsigned 16-bit numbers, if that is what they are.
    pub(crate) fn to_u16(&self) -> Option<Vec<u16>> {
        (self.kind == Kind::U16).then(|| self.map(u16::from_be_bytes))
    }

    /// The numbers as signed integers, if they are whole numbers by type; those beyond i64 become its largest.
    pub(crate) fn to_i64(&self) -> Option<Vec<i64>> {
        Some(match self.kind {
            Kind::Bool | Kind::U8 => self.map(|[b]| i64::from(b)),
            Kind::I8 => self.map(|b| i64::from(i8::from_be_bytes(b))),
            Kind::I16 => self.map(|b| i64::from(i16::from_be_bytes(b))),
            Kind::U16 => self.map(|b| i64::from(u16::from_be_bytes(b))),
            Kind::I32 => self.map(|b| i64::from(i32::from_be_bytes(b))),
            Kind::U32 => self.map(|b| i64::from(u32::from_be_bytes(b))),
            Kind::I64 => self.map(i64::from_be_bytes),
            Kind::U64 => self.map(|b| i64::try_from(u64::from_be_bytes(b)).unwrap_or(i64::MAX)),
            Kind::F16 | Kind::F32 | Kind::F64 => return None,
        })
    }

    /// The numbers rounded to f32.
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        match self.kind {
            Kind::Bool | Kind::U8 => self.map(|[b]| f32::from(b)),
            Kind::I8 => self.map(|b| f32::from(i8::from_be_bytes(b))),
            Kind::I16 => self.map(|b| f32::from(i16::from_be_bytes(b))),
            Kind::U16 => self.map(|b| f32::from(u16::from_be_bytes(b))),
            Kind::I32 => self.map(|b| i32::from_be_bytes(b) as f32),
            Kind::U32 => self.map(|b| u32::from_be_bytes(b) as f32),
            Kind::I64 => self.map(|b| i64::from_be_bytes(b) as f32),
            Kind::U64 => self.map(|b| u64::from_be_bytes(b) as f32),
            Kind::F16 => self.map(|b| f16::from_be_bytes(b).to_f32()),
            Kind::F32 => self.map(f32::from_be_bytes),
            Kind::F64 => self.map(|b| f64::from_be_bytes(b) as f32),
        }
    }

    /// Each number's bytes, most significant first, through `convert`.
    fn map<T, const N: usize>(&self, convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (numbers, _) = self.bytes.as_chunks::<N>();
        numbers
            .iter()
            .map(|&number| {
                let mut number = number;
                if !self.big_endian {
                    number.reverse();
                }
                convert(number)
            })
            .collect()
    }
}

/// From first-dimension-fastest to last-dimension-fastest. `body` has exactly the announced length.
fn to_c_order(body: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = size;
    for &n in shape {
        strides.push(stride);
        stride *= n;
    }
    let mut out = Vec::with_capacity(body.len());
    let mut position = vec![0usize; shape.len()];
    while out.len() < body.len() {
        let at: usize = position.iter().zip(&strides).map(|(p, s)| p * s).sum();
        out.extend_from_slice(body.get(at..at + size).unwrap_or(&[]));
        for (p, &n) in position.iter_mut().zip(shape).rev() {
            *p += 1;
            if *p < n {
                break;
            }
            *p = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests;
