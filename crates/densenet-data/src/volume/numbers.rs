//! Numbers of any type, read in bounded pieces and turned into f32.

use half::f16;

use super::stored::Stored;
use crate::error::DataError;
use crate::npy::Kind;

/// Numbers converted at a time.
const PIECE: usize = 1 << 14;

/// How numbers are written, and what they mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Coding {
    pub kind: Kind,
    pub big_endian: bool,
    /// Slope and intercept: the value is `slope · number + intercept`.
    pub scale: Option<(f64, f64)>,
}

impl Coding {
    /// The next `count` values.
    ///
    /// # Numerics
    /// Scaled in f64, rounded once to f32. Whole numbers beyond 2²⁴ and f64 are rounded to the nearest f32.
    pub(super) fn read(
        &self,
        stored: &mut Stored<'_>,
        count: usize,
    ) -> Result<Vec<f32>, DataError> {
        let mut values = Vec::new();
        values.try_reserve_exact(count).map_err(|_| {
            DataError::limit(
                stored.place(),
                format!("{count} voxels do not fit into memory"),
                "use a machine with more memory, or smaller volumes",
            )
        })?;
        let mut bytes = vec![0; PIECE.min(count) * self.kind.size()];
        while values.len() < count {
            let piece = PIECE.min(count - values.len()) * self.kind.size();
            let Some(bytes) = bytes.get_mut(..piece) else {
                break;
            };
            stored.fill(bytes)?;
            self.convert(bytes, &mut values);
        }
        Ok(values)
    }

    /// Whole numbers' bytes as values.
    pub(super) fn convert(&self, bytes: &[u8], out: &mut Vec<f32>) {
        match self.kind {
            Kind::Bool | Kind::U8 => self.each(bytes, out, |[b]| f64::from(b)),
            Kind::I8 => self.each(bytes, out, |b| f64::from(i8::from_be_bytes(b))),
            Kind::I16 => self.each(bytes, out, |b| f64::from(i16::from_be_bytes(b))),
            Kind::U16 => self.each(bytes, out, |b| f64::from(u16::from_be_bytes(b))),
            Kind::I32 => self.each(bytes, out, |b| f64::from(i32::from_be_bytes(b))),
            Kind::U32 => self.each(bytes, out, |b| f64::from(u32::from_be_bytes(b))),
            Kind::I64 => self.each(bytes, out, |b| i64::from_be_bytes(b) as f64),
            Kind::U64 => self.each(bytes, out, |b| u64::from_be_bytes(b) as f64),
            Kind::F16 => self.each(bytes, out, |b| f16::from_be_bytes(b).to_f64()),
            Kind::F32 => self.each(bytes, out, |b| f64::from(f32::from_be_bytes(b))),
            Kind::F64 => self.each(bytes, out, f64::from_be_bytes),
        }
    }

    fn each<const N: usize>(
        &self,
        bytes: &[u8],
        out: &mut Vec<f32>,
        number: impl Fn([u8; N]) -> f64,
    ) {
        let (numbers, _) = bytes.as_chunks::<N>();
        let ordered = |mut bytes: [u8; N]| {
            if !self.big_endian {
                bytes.reverse();
            }
            number(bytes)
        };
        match self.scale {
            None => out.extend(numbers.iter().map(|&b| ordered(b) as f32)),
            Some((slope, intercept)) => {
                out.extend(
                    numbers
                        .iter()
                        .map(|&b| (ordered(b) * slope + intercept) as f32),
                );
            }
        }
    }
}

/// From one channel behind the other to all channels of a voxel together.
pub(super) fn channels_last(planes: Vec<f32>, channels: usize) -> Vec<f32> {
    if channels == 1 {
        return planes;
    }
    let voxels = planes.len() / channels;
    let mut out = vec![0.0; planes.len()];
    for (c, plane) in planes.chunks_exact(voxels.max(1)).enumerate() {
        for (voxel, &value) in out.chunks_exact_mut(channels).zip(plane) {
            if let Some(place) = voxel.get_mut(c) {
                *place = value;
            }
        }
    }
    out
}
