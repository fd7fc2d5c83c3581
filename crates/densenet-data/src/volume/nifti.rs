//! NIfTI-1 and NIfTI-2, in one file (`.nii`, `.nii.gz`).
//!
//! Both byte orders; all whole-number and floating-point types up to 64 bits, and RGB and RGBA bytes; `scl_slope` and
//! `scl_inter`. The place in the patient comes from `sform`, else `qform`, else the voxel sizes, as nibabel decides it.
//! A fourth and further dimensions are channels.
//!
//! Written here because the crate there is for NIfTI reads neither NIfTI-2 nor gzip files of several members, and
//! allocates what a header announces before it looks at the file's length.
//!
//! # Source
//! NIfTI-1.1 and NIfTI-2 header files, <https://nifti.nimh.nih.gov>.

use super::numbers::{Coding, channels_last};
use super::space::Space;
use super::stored::Stored;
use super::{MAX_CHANNELS, assembled, too_many};
use crate::decoded::DecodedImage;
use crate::error::DataError;
use crate::npy::Kind;

mod header;

use header::Header;

/// Whether the file begins like NIfTI (or its ancestor Analyze, which is refused by name).
pub(super) fn recognises(head: &[u8]) -> bool {
    matches!(
        head,
        [0x5C, 1, 0, 0, ..] | [0, 0, 1, 0x5C, ..] | [0x1C, 2, 0, 0, ..] | [0, 0, 2, 0x1C, ..]
    )
}

pub(super) fn read(mut stored: Stored<'_>) -> Result<DecodedImage, DataError> {
    let place = stored.place();
    let header = Header::read(&mut stored)?;
    let (kind, samples) = number_type(place, header.datatype)?;
    let [width, height, depth] = [header.shape[0], header.shape[1], header.shape[2]];
    let channels = header
        .shape
        .iter()
        .skip(3)
        .try_fold(samples, |product, &n| product.checked_mul(n));
    let channels = match channels {
        Some(n) if n <= MAX_CHANNELS => n,
        _ => {
            return Err(DataError::limit(
                place,
                format!(
                    "{:?} voxels: more than {MAX_CHANNELS} volumes in one file",
                    header.shape
                ),
                "take the volumes that matter out of it, each into a file of its own",
            ));
        }
    };
    let spatial = [depth, height, width];
    let count = too_many(place, spatial, channels)?;
    let bytes = count as u64 * kind.size() as u64;
    stored.require(
        header.offset.saturating_add(bytes),
        &format!(
            "the header announces {:?} voxels of {} bytes",
            header.shape,
            kind.size() * samples
        ),
    )?;
    stored.skip(header.offset - header.bytes)?;
    let coding = Coding {
        kind,
        big_endian: header.big_endian,
        scale: header.scale.filter(|_| samples == 1),
    };
    let values = coding.read(&mut stored, count)?;
    stored.finish()?;
    // RGB lies together voxel by voxel; further volumes lie behind each other.
    let values = if samples == channels {
        values
    } else if samples == 1 {
        channels_last(values, channels)
    } else {
        return Err(DataError::data(
            place,
            "several volumes in colour",
            "take the volumes that matter out of it, each into a file of its own",
        ));
    };
    let space = Space {
        affine: header.affine(),
    };
    assembled(place, spatial, channels, values, space)
}

/// NIfTI's number for a type: how a sample is stored, and how many a voxel has.
fn number_type(place: &str, datatype: i16) -> Result<(Kind, usize), DataError> {
    let name = match datatype {
        2 => return Ok((Kind::U8, 1)),
        4 => return Ok((Kind::I16, 1)),
        8 => return Ok((Kind::I32, 1)),
        16 => return Ok((Kind::F32, 1)),
        64 => return Ok((Kind::F64, 1)),
        128 => return Ok((Kind::U8, 3)),
        256 => return Ok((Kind::I8, 1)),
        512 => return Ok((Kind::U16, 1)),
        768 => return Ok((Kind::U32, 1)),
        1024 => return Ok((Kind::I64, 1)),
        1280 => return Ok((Kind::U64, 1)),
        2304 => return Ok((Kind::U8, 4)),
        1 => "single bits",
        32 | 1792 | 2048 => "complex numbers",
        1536 => "128-bit numbers",
        other => {
            return Err(DataError::data(
                place,
                format!("number type {other}, which NIfTI does not have"),
                "write the file anew: it is damaged",
            ));
        }
    };
    Err(DataError::data(
        place,
        format!("voxels of {name}"),
        "convert it to whole or floating-point numbers of at most 64 bits",
    ))
}
