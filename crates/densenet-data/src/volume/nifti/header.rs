//! What the headers of both versions say, in one form.

use super::super::stored::Stored;
use crate::error::DataError;

/// The parts of a header that reading needs.
#[derive(Debug)]
pub(super) struct Header {
    pub big_endian: bool,
    pub datatype: i16,
    /// Sizes, the fastest axis first; at least three, each at least 1.
    pub shape: Vec<usize>,
    /// Bytes before the voxels.
    pub offset: u64,
    /// Bytes of the header itself.
    pub bytes: u64,
    /// Slope and intercept, where values are scaled.
    pub scale: Option<(f64, f64)>,
    /// `pixdim[0..4]`: the sign of the third axis, then voxel sizes.
    zooms: [f64; 4],
    qform: Option<[f64; 6]>,
    sform: Option<[[f64; 4]; 3]>,
    /// Millimetres in a unit of length.
    unit: f64,
}

const V1_BYTES: usize = 348;
const V2_BYTES: usize = 540;

impl Header {
    pub(super) fn read(stored: &mut Stored<'_>) -> Result<Header, DataError> {
        let place = stored.place();
        let (version, big_endian) = match stored.head() {
            [0x5C, 1, 0, 0, ..] => (1, false),
            [0, 0, 1, 0x5C, ..] => (1, true),
            [0, 0, 2, 0x1C, ..] => (2, true),
            _ => (2, false),
        };
        let mut bytes = vec![0; if version == 1 { V1_BYTES } else { V2_BYTES }];
        stored.fill(&mut bytes)?;
        let fields = Fields {
            bytes: &bytes,
            big_endian,
        };
        let magic = fields.raw::<4>(if version == 1 { 344 } else { 4 });
        match (&magic, version) {
            (b"n+1\0", 1) | (b"n+2\0", 2) => {}
            (b"ni1\0", 1) | (b"ni2\0", 2) => {
                return Err(DataError::data(
                    place,
                    "the header of a pair of files (.hdr and .img)",
                    "convert the pair to a single .nii file",
                ));
            }
            _ => {
                return Err(DataError::data(
                    place,
                    "an Analyze file, or a NIfTI file whose mark is damaged: orientation and scaling are unknown",
                    "convert it to NIfTI (.nii)",
                ));
            }
        }
        let header = if version == 1 {
            fields.version_1(place)?
        } else {
            fields.version_2(place)?
        };
        header.checked(place)
    }

    fn checked(mut self, place: &str) -> Result<Header, DataError> {
        let least = self.bytes + 4;
        // Zero stands for the least there can be; nibabel takes it so, too.
        if self.offset == 0 {
            self.offset = least;
        }
        if self.offset < least {
            return Err(DataError::data(
                place,
                format!(
                    "voxels are said to begin at byte {}, within the header",
                    self.offset
                ),
                "write the file anew: it is damaged",
            ));
        }
        match self.scale {
            Some((slope, inter)) if slope.is_finite() && slope != 0.0 => {
                if !inter.is_finite() {
                    return Err(DataError::data(
                        place,
                        format!("values are scaled by {slope} and shifted by {inter}"),
                        "write the file anew: its header is damaged",
                    ));
                }
                self.scale = Some((slope, inter)).filter(|&s| s != (1.0, 0.0));
            }
            _ => self.scale = None,
        }
        Ok(self)
    }

    /// The map to millimetres: `sform`, else `qform`, else voxel sizes around the middle with the first axis to the left.
    pub(super) fn affine(&self) -> [[f64; 4]; 3] {
        let [_, dx, dy, dz] = self.zooms;
        let mut affine = if let Some(sform) = self.sform {
            sform
        } else if let Some(qform) = self.qform {
            quaternion(qform, self.zooms)
        } else {
            let middle =
                |axis: usize| (self.shape.get(axis).copied().unwrap_or(1) as f64 - 1.0) / 2.0;
            [
                [-dx, 0.0, 0.0, dx * middle(0)],
                [0.0, dy, 0.0, -dy * middle(1)],
                [0.0, 0.0, dz, -dz * middle(2)],
            ]
        };
        affine.iter_mut().flatten().for_each(|v| *v *= self.unit);
        affine
    }
}

/// NIfTI's rotation from a quaternion's last three parts, scaled by the voxel sizes.
///
/// # Source
/// `nifti1.h`, METHOD 2.
fn quaternion([b, c, d, x, y, z]: [f64; 6], [sign, dx, dy, dz]: [f64; 4]) -> [[f64; 4]; 3] {
    // The first part is what a unit quaternion lacks; rounding in f32 may make that a little less than nothing.
    let a = (1.0 - (b * b + c * c + d * d)).max(0.0).sqrt();
    let (b, c, d) = if a == 0.0 {
        let norm = (b * b + c * c + d * d).sqrt().max(f64::MIN_POSITIVE);
        (b / norm, c / norm, d / norm)
    } else {
        (b, c, d)
    };
    let dz = if sign < 0.0 { -dz } else { dz };
    [
        [
            (a * a + b * b - c * c - d * d) * dx,
            2.0 * (b * c - a * d) * dy,
            2.0 * (b * d + a * c) * dz,
            x,
        ],
        [
            2.0 * (b * c + a * d) * dx,
            (a * a + c * c - b * b - d * d) * dy,
            2.0 * (c * d - a * b) * dz,
            y,
        ],
        [
            2.0 * (b * d - a * c) * dx,
            2.0 * (c * d + a * b) * dy,
            (a * a + d * d - b * b - c * c) * dz,
            z,
        ],
    ]
}

/// A header's bytes.
struct Fields<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl Fields<'_> {
    /// The bytes at `at`; zeros past the end, which no field reaches.
    fn raw<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes
            .get(at..at + N)
            .and_then(|b| b.try_into().ok())
            .unwrap_or([0; N])
    }

    /// The same, most significant byte first.
    fn number<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = self.raw(at);
        if !self.big_endian {
            bytes.reverse();
        }
        bytes
    }

    fn i16(&self, at: usize) -> i16 {
        i16::from_be_bytes(self.number(at))
    }

    fn f32(&self, at: usize) -> f64 {
        f64::from(f32::from_be_bytes(self.number(at)))
    }

    fn f64(&self, at: usize) -> f64 {
        f64::from_be_bytes(self.number(at))
    }

    fn version_1(&self, place: &str) -> Result<Header, DataError> {
        let float = |at| self.f32(at);
        let dims: Vec<i64> = (0..8).map(|i| i64::from(self.i16(40 + 2 * i))).collect();
        let row = |at: usize| [0, 4, 8, 12].map(|i| float(at + i));
        Ok(Header {
            big_endian: self.big_endian,
            datatype: self.i16(70),
            shape: shape(place, &dims)?,
            offset: offset(place, float(108))?,
            bytes: V1_BYTES as u64,
            scale: Some((float(112), float(116))),
            zooms: [76, 80, 84, 88].map(float),
            qform: (self.i16(252) > 0).then(|| [256, 260, 264, 268, 272, 276].map(float)),
            sform: (self.i16(254) > 0).then(|| [280, 296, 312].map(row)),
            unit: unit(self.raw::<1>(123)[0]),
        })
    }

    fn version_2(&self, place: &str) -> Result<Header, DataError> {
        let float = |at| self.f64(at);
        let i32 = |at| i32::from_be_bytes(self.number(at));
        let i64 = |at| i64::from_be_bytes(self.number(at));
        let dims: Vec<i64> = (0..8).map(|i| i64(16 + 8 * i)).collect();
        let row = |at: usize| [0, 8, 16, 24].map(|i| float(at + i));
        Ok(Header {
            big_endian: self.big_endian,
            datatype: self.i16(12),
            shape: shape(place, &dims)?,
            offset: u64::try_from(i64(168))
                .map_err(|_| bad_offset(place, &i64(168).to_string()))?,
            bytes: V2_BYTES as u64,
            scale: Some((float(176), float(184))),
            zooms: [104, 112, 120, 128].map(float),
            qform: (i32(344) > 0).then(|| [352, 360, 368, 376, 384, 392].map(float)),
            sform: (i32(348) > 0).then(|| [400, 432, 464].map(row)),
            unit: unit(i32(500) as u8),
        })
    }
}

fn shape(place: &str, dims: &[i64]) -> Result<Vec<usize>, DataError> {
    let wrong = |what: String| {
        Err(DataError::data(
            place,
            what,
            "write the file anew: its header is damaged",
        ))
    };
    let Some((&rank, sizes)) = dims.split_first() else {
        return wrong("no dimensions".into());
    };
    let sizes = match usize::try_from(rank) {
        Ok(rank @ 1..=7) => sizes.get(..rank).unwrap_or(sizes),
        _ => return wrong(format!("{rank} dimensions; there are 1 to 7")),
    };
    let mut shape = Vec::with_capacity(7);
    for &n in sizes {
        match usize::try_from(n) {
            Ok(n) if n > 0 => shape.push(n),
            _ => return wrong(format!("the header announces {sizes:?} voxels")),
        }
    }
    shape.resize(shape.len().max(3), 1);
    Ok(shape)
}

fn offset(place: &str, value: f64) -> Result<u64, DataError> {
    if (0.0..9e15).contains(&value) && value.fract() == 0.0 {
        Ok(value as u64)
    } else {
        Err(bad_offset(place, &value.to_string()))
    }
}

fn bad_offset(place: &str, value: &str) -> DataError {
    DataError::data(
        place,
        format!("voxels are said to begin at byte {value}"),
        "write the file anew: its header is damaged",
    )
}

/// Millimetres in the unit of length that `xyzt_units` names; files that name none are in millimetres.
fn unit(xyzt_units: u8) -> f64 {
    match xyzt_units & 7 {
        1 => 1e3,
        3 => 1e-3,
        _ => 1.0,
    }
}
