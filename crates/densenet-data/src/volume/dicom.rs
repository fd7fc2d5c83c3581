//! DICOM: one file with one or many frames, or a folder whose files are the slices of one series.
//!
//! Slices are put in order by their positions in the patient. A folder with two series, a missing slice, two slices in one
//! place or slices of different sizes is refused. Values are rescaled by each slice's slope and intercept; MONOCHROME1 is
//! inverted within its stored bits, so that bright is more everywhere.
//!
//! Read are implicit and explicit little endian, explicit big endian, deflated, run-length encoded, and grey JPEG (8-bit and
//! lossless). JPEG 2000 and JPEG-LS are refused by name: what decodes them is C, or was translated from it by machine.
//!
//! Written here because the libraries for DICOM allocate what a length in the file announces before they look whether it is
//! there, which lets a file of a hundred bytes take a machine down.

use std::path::{Path, PathBuf};

use super::space::Space;
use super::stored::Stored;
use super::{assembled, too_many};
use crate::decoded::DecodedImage;
use crate::error::DataError;

mod elements;
mod pixels;
mod series;

pub(in crate::volume) use elements::recognises;
use elements::{Elements, Tag};
use pixels::Form;

/// The most bytes a DICOM file may have.
const MAX_BYTES: u64 = 1 << 30;
/// The part of a file that is read to find its patient.
const HEADER_BYTES: usize = 1 << 18;

const PATIENT: Tag = (0x0010, 0x0020);
const SERIES: Tag = (0x0020, 0x000E);
const POSITION: Tag = (0x0020, 0x0032);
const ORIENTATION: Tag = (0x0020, 0x0037);
const SPACING: Tag = (0x0028, 0x0030);
const THICKNESS: Tag = (0x0018, 0x0050);
const BETWEEN: Tag = (0x0018, 0x0088);

/// Where a slice lies: DICOM's own directions, to the left, the back and upwards.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Plane {
    position: [f64; 3],
    /// Along a row, and down a column.
    row: [f64; 3],
    column: [f64; 3],
    /// From row to row, and from column to column.
    spacing: [f64; 2],
}

impl Plane {
    fn of(elements: &Elements, frame: usize) -> Option<Plane> {
        let [a, b, c, d, e, f] = elements.decimals::<6>(ORIENTATION, frame)?;
        Some(Plane {
            position: elements.decimals::<3>(POSITION, frame)?,
            row: [a, b, c],
            column: [d, e, f],
            spacing: elements
                .decimals::<2>(SPACING, frame)
                .filter(|s| s.iter().all(|&v| v > 0.0))?,
        })
    }

    fn normal(&self) -> [f64; 3] {
        let ([a, b, c], [d, e, f]) = (self.row, self.column);
        [b * f - c * e, c * d - a * f, a * e - b * d]
    }

    /// The map of a stack that begins here and goes on by `step`.
    fn space(&self, step: [f64; 3]) -> Space {
        let mut affine = [[0.0; 4]; 3];
        for (world, row) in affine.iter_mut().enumerate() {
            // DICOM's first two directions point the other way.
            let sign = if world < 2 { -1.0 } else { 1.0 };
            *row = [
                sign * self.row[world] * self.spacing[1],
                sign * self.column[world] * self.spacing[0],
                sign * step[world],
                sign * self.position[world],
            ];
        }
        Space { affine }
    }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn minus(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

/// One file.
pub(super) fn read(stored: Stored<'_>) -> Result<DecodedImage, DataError> {
    let place = stored.place();
    let elements = Elements::parse(place, stored.read_all(MAX_BYTES)?, None)?;
    let form = Form::of(place, &elements)?;
    let values = pixels::values(place, &elements, &form)?;
    let spatial = [form.frames, form.rows, form.columns];
    let planes: Option<Vec<Plane>> = (0..form.frames).map(|i| Plane::of(&elements, i)).collect();
    let distinct = planes
        .as_ref()
        .is_some_and(|p| p.windows(2).all(|w| w[0].position != w[1].position));
    if form.frames > 1
        && distinct
        && let Some(planes) = planes
    {
        // Frames with places of their own: a series in one file.
        let slice = form.rows * form.columns * form.samples;
        let slices = planes
            .into_iter()
            .zip(values.chunks_exact(slice))
            .enumerate()
            .map(|(i, (plane, values))| series::Slice {
                name: format!("frame {i}"),
                plane,
                values: values.to_vec(),
            })
            .collect();
        let stack = series::stack(place, slices)?;
        return assembled(place, spatial, form.samples, stack.values, stack.space);
    }
    let step = elements
        .decimals::<1>(BETWEEN, 0)
        .or_else(|| elements.decimals::<1>(THICKNESS, 0))
        .map(|[v]| v.abs())
        .filter(|&v| v > 0.0)
        .unwrap_or(1.0);
    let space = match Plane::of(&elements, 0) {
        Some(plane) => plane.space(plane.normal().map(|v| v * step)),
        None => {
            let [dy, dx] = elements
                .decimals::<2>(SPACING, 0)
                .filter(|s| s.iter().all(|&v| v > 0.0))
                .unwrap_or([1.0, 1.0]);
            Space::UNKNOWN.resampled([0.0; 3], [step, dy, dx])
        }
    };
    assembled(place, spatial, form.samples, values, space)
}

/// A folder of slices.
pub(super) fn read_folder(folder: &Path, place: &str) -> Result<DecodedImage, DataError> {
    let files = files(folder)?;
    if files.is_empty() {
        return Err(DataError::data(
            place,
            "no DICOM files in this folder",
            "give a folder that holds the slices of one series",
        ));
    }
    if let [only] = files.as_slice() {
        let name = only.display().to_string();
        return read(Stored::open(only, &name)?);
    }
    let mut slices = Vec::with_capacity(files.len());
    let mut first: Option<(Form, Option<String>, String)> = None;
    for path in &files {
        let name = path.display().to_string();
        let bytes = Stored::open(path, &name)?.read_all(MAX_BYTES)?;
        let elements = Elements::parse(&name, bytes, None)?;
        let form = Form::of(&name, &elements)?;
        if form.frames != 1 {
            return Err(DataError::data(
                name,
                format!("{} frames in one of several files", form.frames),
                "give each file with many frames a folder of its own",
            ));
        }
        let series = elements.text(SERIES);
        let (known, known_series, known_name) =
            first.get_or_insert_with(|| (form, series.clone(), name.clone()));
        if *known_series != series {
            return Err(DataError::data(
                place,
                format!(
                    "two series in one folder: `{known_name}` and `{name}` are not of the same"
                ),
                "give each series a folder of its own",
            ));
        }
        if (known.rows, known.columns, known.samples) != (form.rows, form.columns, form.samples) {
            return Err(DataError::data(
                name,
                format!(
                    "{} × {} pixels, while `{known_name}` has {} × {}",
                    form.rows, form.columns, known.rows, known.columns
                ),
                "give each series a folder of its own (localizers often lie beside it)",
            ));
        }
        too_many(place, [files.len(), form.rows, form.columns], form.samples)?;
        let Some(plane) = Plane::of(&elements, 0) else {
            return Err(DataError::data(
                name,
                "the slice does not say where it lies (position, orientation, pixel spacing)",
                "leave it out, or convert the series to NIfTI with the right order",
            ));
        };
        slices.push(series::Slice {
            values: pixels::values(&name, &elements, &form)?,
            plane,
            name,
        });
    }
    let Some((form, ..)) = first else {
        return Err(DataError::data(place, "no slices", "remove the folder"));
    };
    let spatial = [slices.len(), form.rows, form.columns];
    let stack = series::stack(place, slices)?;
    assembled(place, spatial, form.samples, stack.values, stack.space)
}

/// The DICOM files directly in a folder, in order of their names; `DICOMDIR` and hidden files are no slices.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let io = |e: std::io::Error| DataError::io(folder, &e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        if !name.starts_with('.') && name != "DICOMDIR" && is_file(&path)? {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file has DICOM's mark, or at least calls itself DICOM.
pub(super) fn is_file(path: &Path) -> Result<bool, DataError> {
    use std::io::Read;
    let named = path.extension().and_then(|e| e.to_str()).is_some_and(|e| {
        ["dcm", "dicom", "ima"]
            .iter()
            .any(|known| e.eq_ignore_ascii_case(known))
    });
    if named {
        return Ok(path.is_file());
    }
    // Files without an ending, or with numbers for one, as scanners write them.
    let plain = path.extension().is_none_or(|e| {
        e.to_str()
            .is_some_and(|e| e.bytes().all(|b| b.is_ascii_digit()))
    });
    if !plain || !path.is_file() {
        return Ok(false);
    }
    let mut head = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(132).read_to_end(&mut head))
        .map_err(|e| DataError::io(path, &e))?;
    Ok(recognises(&head))
}

/// Whether a folder holds DICOM files.
pub(super) fn is_series(folder: &Path) -> Result<bool, DataError> {
    Ok(!files(folder)?.is_empty())
}

/// The patient a DICOM file or folder names, if it names one.
pub(super) fn patient(path: &Path) -> Option<String> {
    use std::io::Read;
    let file = if path.is_dir() {
        files(path).ok()?.into_iter().next()?
    } else {
        path.to_path_buf()
    };
    let mut bytes = Vec::new();
    std::fs::File::open(&file)
        .ok()?
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut bytes)
        .ok()?;
    let place = file.display().to_string();
    Elements::parse(&place, bytes, Some((0x0010, 0x0021)))
        .ok()?
        .text(PATIENT)
}
