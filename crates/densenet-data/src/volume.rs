//! Volumes: from files to a [`DecodedImage`] that knows where it lies in the patient.
//!
//! | kind | recognised by | read |
//! |---|---|---|
//! | NIfTI-1, NIfTI-2 | its mark; gzipped or not | all whole and floating types, RGB; further dimensions are channels |
//! | NRRD, MetaImage | their first line | whole and floating types, raw, gzip (NRRD) or zlib (MetaImage) |
//! | NumPy | its mark | `[d, h, w]`, or up to four channels last |
//! | DICOM file | its mark | one or many frames |
//! | DICOM folder | DICOM files directly in it | the slices of one series |
//!
//! Several files can be the channels of one volume, such as T1, T2 and FLAIR; they must lie on the same grid.
//!
//! # Limits
//! 2²⁸ numbers a volume (1 GiB as f32), 64 channels. What a header announces is compared with the length of the file
//! before anything is allocated.

mod carry;
mod dicom;
mod metaimage;
mod nifti;
mod nrrd;
mod numbers;
mod numpy;
mod raster;
pub(crate) mod space;
mod stored;
mod write;

use std::path::{Path, PathBuf};

use crate::decoded::{DecodedImage, Samples};
use crate::error::DataError;

pub use carry::{Grid, carry};
pub use space::{Orientation, Space};
use stored::Stored;
pub use write::nifti_gz;

/// The most numbers a volume may have.
pub const MAX_VALUES: usize = 1 << 28;
/// The most channels a volume may have.
pub const MAX_CHANNELS: usize = 64;

/// File name endings that mean a volume, in lower case.
pub const EXTENSIONS: [&str; 10] = [
    ".nii", ".nii.gz", ".npy", ".dcm", ".dicom", ".ima", ".nrrd", ".nhdr", ".mha", ".mhd",
];

/// Whether the file's name ends like a volume's.
pub fn has_volume_extension(path: &Path) -> bool {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().to_ascii_lowercase());
    name.is_some_and(|name| EXTENSIONS.iter().any(|known| name.ends_with(known)))
}

/// Whether the path leads to a DICOM file, whatever its name.
///
/// # Errors
/// Input/output, where the file cannot be read.
pub fn is_dicom_file(path: &Path) -> Result<bool, DataError> {
    dicom::is_file(path)
}

/// Whether the path is a folder with DICOM files directly in it.
///
/// # Errors
/// Input/output, where the folder cannot be read.
pub fn is_series(path: &Path) -> Result<bool, DataError> {
    dicom::is_series(path)
}

/// The patient that a DICOM file or series names; nothing for other kinds.
pub(crate) fn patient(path: &Path) -> Option<String> {
    dicom::patient(path)
}

/// All files that a volume is read from: itself, the slices of a folder, the file of numbers beside a header.
///
/// # Errors
/// Input/output, where the folder or the header cannot be read.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if path.is_dir() {
        return dicom::files(path);
    }
    let mut files = vec![path.to_path_buf()];
    let name = path.to_string_lossy().to_ascii_lowercase();
    if name.ends_with(".mhd") || name.ends_with(".nhdr") {
        let place = path.display().to_string();
        let stored = Stored::open(path, &place)?;
        let apart = if nrrd::recognises(stored.head()) {
            nrrd::apart(stored)
        } else {
            metaimage::apart(stored)
        };
        // Where the header is broken, or the file is missing, reading says so.
        let apart = apart.ok().flatten().map(|name| path.with_file_name(name));
        files.extend(apart.filter(|path| path.is_file()));
    }
    Ok(files)
}

/// The files that a path of a volume names: several, separated by semicolons, are its channels.
pub fn parts(path: &Path) -> Vec<PathBuf> {
    match path.to_str() {
        Some(text) if text.contains(';') && !path.exists() => {
            text.split(';').map(|part| part.trim().into()).collect()
        }
        _ => vec![path.to_path_buf()],
    }
}

/// Read a volume: a file, or a folder with a DICOM series; several of them, separated by semicolons, as its channels.
///
/// # Errors
/// Names the file: unreadable (input/output), no volume or broken (data), too large (limit).
pub fn decode_volume(path: &Path) -> Result<DecodedImage, DataError> {
    match parts(path).as_slice() {
        [one] => decode_one(one),
        several => decode_channels(several),
    }
}

fn decode_one(path: &Path) -> Result<DecodedImage, DataError> {
    let place = path.display().to_string();
    if path.is_dir() {
        return dicom::read_folder(path, &place);
    }
    decode(Stored::open(path, &place)?)
}

/// Read several files as the channels of one volume, in order.
///
/// # Errors
/// As [`decode_volume`], and files that do not lie on the same grid (data).
pub fn decode_channels(paths: &[PathBuf]) -> Result<DecodedImage, DataError> {
    let Some((first, others)) = paths.split_first() else {
        return Err(DataError::config("path", "no file", "name at least one"));
    };
    let volume = decode_one(first)?;
    if others.is_empty() {
        return Ok(volume);
    }
    let mut volumes = vec![volume];
    for path in others {
        let next = decode_one(path)?;
        let place = path.display().to_string();
        same_grid(&place, first, &volumes[0], &next)?;
        volumes.push(next);
    }
    let channels: usize = volumes.iter().map(DecodedImage::channels).sum();
    let place = first.display().to_string();
    let spatial = volumes[0].spatial();
    let space = volumes[0].space().unwrap_or(Space::UNKNOWN);
    let count = too_many(&place, spatial, channels)?;
    let mut values = vec![0.0; count];
    let mut at = 0;
    for volume in volumes {
        let own = volume.channels();
        if let Samples::F32(from) = volume.samples() {
            for (voxel, from) in values
                .chunks_exact_mut(channels)
                .zip(from.chunks_exact(own))
            {
                if let Some(place) = voxel.get_mut(at..at + own) {
                    place.copy_from_slice(from);
                }
            }
        }
        at += own;
    }
    assembled(&place, spatial, channels, values, space)
}

fn same_grid(
    place: &str,
    first: &Path,
    a: &DecodedImage,
    b: &DecodedImage,
) -> Result<(), DataError> {
    let cure = "bring all channels of a sample to one grid first";
    if a.spatial() != b.spatial() {
        return Err(DataError::data(
            place,
            format!(
                "{:?} voxels, while `{}` has {:?}",
                b.spatial(),
                first.display(),
                a.spatial()
            ),
            cure,
        ));
    }
    let (Some(here), Some(there)) = (a.space(), b.space()) else {
        return Ok(());
    };
    // A tenth of a voxel at the corners is nothing; a shifted or turned scan is more.
    let smallest = here.spacing().into_iter().fold(f64::INFINITY, f64::min);
    let far = a.spatial().map(|n| n.saturating_sub(1) as f64);
    for corner in [
        [0.0; 3],
        far,
        [far[0], 0.0, 0.0],
        [0.0, far[1], 0.0],
        [0.0, 0.0, far[2]],
    ] {
        let (p, q) = (here.place(corner), there.place(corner));
        let distance = p
            .iter()
            .zip(q)
            .map(|(x, y)| (x - y).powi(2))
            .sum::<f64>()
            .sqrt();
        if distance > 0.1 * smallest {
            return Err(DataError::data(
                place,
                format!(
                    "lies elsewhere than `{}`: {distance:.2} mm apart at a corner",
                    first.display()
                ),
                cure,
            ));
        }
    }
    Ok(())
}

/// Read a volume file that is already in memory; `place` names it in messages.
///
/// # Errors
/// As [`decode_volume`].
pub fn decode_volume_bytes(place: &str, bytes: &[u8]) -> Result<DecodedImage, DataError> {
    decode(Stored::of_bytes(place, bytes)?)
}

fn decode(stored: Stored<'_>) -> Result<DecodedImage, DataError> {
    let head = stored.head();
    // What stands in DICOM's preamble may be anything, even the size of a NIfTI header.
    if dicom::recognises(head) {
        dicom::read(stored)
    } else if nifti::recognises(head) {
        nifti::read(stored)
    } else if numpy::recognises(head) {
        numpy::read(stored)
    } else if nrrd::recognises(head) {
        nrrd::read(stored)
    } else if metaimage::recognises(head) {
        metaimage::read(stored)
    } else {
        Err(unknown(stored.place(), head))
    }
}

fn unknown(place: &str, head: &[u8]) -> DataError {
    let kind = match head {
        [b'C', b'D', b'F', ..] | [0x89, b'H', b'D', b'F', ..] => {
            "a MINC file, which is not read here"
        }
        [0, 0, 0, 1, ..] => "an MGH file, which is not read here",
        _ => "not a volume: its first bytes are those of no known format",
    };
    DataError::data(
        place,
        kind,
        "convert it to NIfTI (.nii, .nii.gz); NRRD, MetaImage, NumPy arrays and DICOM files with their preamble are read, too",
    )
}

/// The number of values of a volume of this size, if it may be read.
fn too_many(place: &str, spatial: [usize; 3], channels: usize) -> Result<usize, DataError> {
    let count = crate::decoded::volume(&spatial).and_then(|v| v.checked_mul(channels));
    match count {
        Some(count @ 1..=MAX_VALUES) => Ok(count),
        Some(0) => Err(DataError::data(
            place,
            format!("no voxels: the size is {spatial:?}"),
            "remove it or replace it",
        )),
        _ => Err(DataError::limit(
            place,
            format!(
                "{} voxels with {}, more than the 2^28 numbers allowed",
                spatial.map(|n| n.to_string()).join("×"),
                match channels {
                    1 => "1 channel".to_string(),
                    n => format!("{n} channels"),
                }
            ),
            "scale it down, or cut out the part that matters",
        )),
    }
}

/// A volume from its parts, refused if they do not fit or its map is none.
fn assembled(
    place: &str,
    spatial: [usize; 3],
    channels: usize,
    values: Vec<f32>,
    space: Space,
) -> Result<DecodedImage, DataError> {
    if values.len() != too_many(place, spatial, channels)? || channels > MAX_CHANNELS {
        return Err(DataError::data(
            place,
            format!(
                "{} numbers for {spatial:?} voxels with {channels} channels",
                values.len()
            ),
            "write the file anew: it is damaged",
        ));
    }
    if !space.is_sound() {
        return Err(DataError::data(
            place,
            "its place in the patient makes no sense (voxel sizes of zero, or axes that coincide)",
            "write the file anew with a proper affine",
        ));
    }
    Ok(DecodedImage::of_volume(
        spatial,
        channels,
        Samples::F32(values),
        space,
    ))
}
