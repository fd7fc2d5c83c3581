//! The pixels of a DICOM file as values: uncompressed, run-length encoded, and grey JPEG.

use jpeg_decoder::PixelFormat;

use super::elements::{Elements, Pixels, Tag, broken};
use crate::error::DataError;
use crate::volume::too_many;

const SAMPLES: Tag = (0x0028, 0x0002);
const PHOTOMETRIC: Tag = (0x0028, 0x0004);
const PLANAR: Tag = (0x0028, 0x0006);
const FRAMES: Tag = (0x0028, 0x0008);
const ROWS: Tag = (0x0028, 0x0010);
const COLUMNS: Tag = (0x0028, 0x0011);
const ALLOCATED: Tag = (0x0028, 0x0100);
const STORED: Tag = (0x0028, 0x0101);
const HIGH_BIT: Tag = (0x0028, 0x0102);
const SIGNED: Tag = (0x0028, 0x0103);
const INTERCEPT: Tag = (0x0028, 0x1052);
const SLOPE: Tag = (0x0028, 0x1053);

/// The most pixels one file may announce.
const MAX_PIXELS: usize = 1 << 28;

/// How a file's pixels are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Form {
    pub rows: usize,
    pub columns: usize,
    /// 1 grey, 3 RGB.
    pub samples: usize,
    pub frames: usize,
    /// Bytes a sample: 1, 2 or 4.
    size: usize,
    stored: u32,
    /// Bits below the lowest that counts.
    shift: u32,
    signed: bool,
    planar: bool,
    inverted: bool,
}

impl Form {
    pub(super) fn of(place: &str, elements: &Elements) -> Result<Form, DataError> {
        let need = |tag: Tag, name: &str| {
            elements.number(tag).map(usize::from).ok_or_else(|| {
                DataError::data(
                    place,
                    format!("no picture in it: {name} is missing"),
                    "leave it out: reports, plans and directories have no voxels",
                )
            })
        };
        let (rows, columns) = (need(ROWS, "Rows")?, need(COLUMNS, "Columns")?);
        let allocated = need(ALLOCATED, "BitsAllocated")?;
        let samples = elements.number(SAMPLES).map_or(1, usize::from);
        let frames = match elements.text(FRAMES) {
            None => 1,
            Some(text) => text
                .parse()
                .map_err(|_| broken(place, &format!("`{text}` frames")))?,
        };
        let photometric = elements.text(PHOTOMETRIC).unwrap_or_default();
        let refused = |what: String| {
            Err(DataError::data(
                place,
                what,
                "convert it to MONOCHROME2 or RGB",
            ))
        };
        match (photometric.as_str(), samples) {
            ("MONOCHROME1" | "MONOCHROME2", 1) | ("RGB", 3) => {}
            (other, n) => return refused(format!("{n} samples a pixel of the kind `{other}`")),
        }
        if !matches!(allocated, 8 | 16 | 32) {
            return refused(format!("{allocated} bits a sample; 8, 16 and 32 are read"));
        }
        let stored = elements.number(STORED).map_or(allocated, usize::from);
        let high = elements
            .number(HIGH_BIT)
            .map_or(stored.saturating_sub(1), usize::from);
        if stored == 0 || stored > allocated || high + 1 < stored || high >= allocated {
            return Err(broken(
                place,
                &format!("{stored} bits up to bit {high} in {allocated} bits"),
            ));
        }
        if rows == 0 || columns == 0 || frames == 0 {
            return Err(broken(
                place,
                &format!("{frames} frames of {rows} × {columns} pixels"),
            ));
        }
        if too_many(place, [frames, rows, columns], samples)? > MAX_PIXELS {
            return Err(DataError::limit(
                place,
                format!("{frames} frames of {rows} × {columns} pixels"),
                "divide it",
            ));
        }
        Ok(Form {
            rows,
            columns,
            samples,
            frames,
            size: allocated / 8,
            stored: stored as u32,
            shift: (high + 1 - stored) as u32,
            signed: elements.number(SIGNED) == Some(1),
            planar: samples > 1 && elements.number(PLANAR) == Some(1),
            inverted: photometric == "MONOCHROME1",
        })
    }

    fn frame_samples(&self) -> usize {
        self.rows * self.columns * self.samples
    }

    /// The number in a sample's bits: what is stored, mirrored within its range for MONOCHROME1.
    fn number(&self, bits: u32) -> i64 {
        let mask = u32::MAX >> (32 - self.stored);
        let mut bits = (bits >> self.shift) & mask;
        if self.inverted {
            bits = !bits & mask;
        }
        if self.signed && bits >> (self.stored - 1) == 1 {
            i64::from(bits) - (1i64 << self.stored)
        } else {
            i64::from(bits)
        }
    }
}

/// All frames' values behind each other, channels last, rescaled.
pub(super) fn values(place: &str, elements: &Elements, form: &Form) -> Result<Vec<f32>, DataError> {
    let per_frame = form.frame_samples();
    let mut out = Vec::new();
    match &elements.pixels {
        None => {
            return Err(DataError::data(
                place,
                "no pixels in it",
                "leave it out: reports, plans and directories have no voxels",
            ));
        }
        Some(Pixels::Native(range)) => {
            let mut swapped = Vec::new();
            let mut bytes = elements.bytes(range);
            if form.size == 1 && elements.big_endian && elements.words {
                swapped.extend(bytes.chunks_exact(2).flat_map(|pair| pair.iter().rev()));
                bytes = &swapped;
            }
            let needed = per_frame * form.frames * form.size;
            let Some(bytes) = bytes.get(..needed) else {
                return Err(broken(
                    place,
                    &format!(
                        "{} frames of {} × {} pixels take {needed} bytes, it has {}",
                        form.frames,
                        form.rows,
                        form.columns,
                        bytes.len()
                    ),
                ));
            };
            out.reserve_exact(per_frame * form.frames);
            for (frame, bytes) in bytes.chunks_exact(per_frame * form.size).enumerate() {
                let numbers = whole(bytes, form.size, elements.big_endian);
                rescaled(place, elements, form, frame, numbers, &mut out)?;
            }
        }
        Some(Pixels::Pieces(pieces)) => {
            for frame in 0..form.frames {
                let packed = frame_bytes(place, elements, pieces, form.frames, frame)?;
                let numbers = match elements.syntax.as_str() {
                    "1.2.840.10008.1.2.5" => run_lengths(place, &packed, form)?,
                    "1.2.840.10008.1.2.4.50"
                    | "1.2.840.10008.1.2.4.51"
                    | "1.2.840.10008.1.2.4.57"
                    | "1.2.840.10008.1.2.4.70" => jpeg(place, &packed, form)?,
                    other => return Err(unknown(place, other)),
                };
                rescaled(place, elements, form, frame, numbers, &mut out)?;
            }
        }
    }
    Ok(out)
}

fn unknown(place: &str, syntax: &str) -> DataError {
    let name = match syntax {
        "1.2.840.10008.1.2.4.80" | "1.2.840.10008.1.2.4.81" => "JPEG-LS",
        s if s.starts_with("1.2.840.10008.1.2.4.9") => "JPEG 2000",
        s if s.starts_with("1.2.840.10008.1.2.4.2") => "High-Throughput JPEG 2000",
        s if s.starts_with("1.2.840.10008.1.2.4.11") => "JPEG XL",
        other => other,
    };
    DataError::data(
        place,
        format!("pixels compressed with {name}"),
        "decompress it (`gdcmconv --raw` or `dcmdjpeg` do)",
    )
}

/// The pieces of one frame, joined.
fn frame_bytes(
    place: &str,
    elements: &Elements,
    pieces: &[std::ops::Range<usize>],
    frames: usize,
    frame: usize,
) -> Result<Vec<u8>, DataError> {
    // The first piece is the table of offsets, which is often empty.
    let (table, pieces) = match pieces.split_first() {
        Some((table, pieces)) if !pieces.is_empty() => (elements.bytes(table), pieces),
        _ => return Err(broken(place, "no compressed pixels")),
    };
    let join = |pieces: &[std::ops::Range<usize>]| {
        pieces
            .iter()
            .flat_map(|p| elements.bytes(p))
            .copied()
            .collect()
    };
    if frames == 1 {
        return Ok(join(pieces));
    }
    if pieces.len() == frames {
        return Ok(join(pieces.get(frame..=frame).unwrap_or(&[])));
    }
    let (offsets, _) = table.as_chunks::<4>();
    let origin = pieces.first().map_or(0, |p| p.start);
    let begin_of = |frame: usize| {
        let offset = u32::from_le_bytes(*offsets.get(frame)?) as usize;
        // An offset is that of a piece's head, 8 bytes before its content.
        pieces.iter().position(|p| p.start - origin == offset)
    };
    match (begin_of(frame), begin_of(frame + 1)) {
        (Some(begin), Some(end)) if begin < end => Ok(join(&pieces[begin..end])),
        (Some(begin), None) if frame + 1 == frames => Ok(join(&pieces[begin..])),
        _ => Err(broken(
            place,
            &format!("{} pieces for {frames} frames", pieces.len()),
        )),
    }
}

/// Samples of 1, 2 or 4 bytes.
fn whole(bytes: &[u8], size: usize, big_endian: bool) -> Vec<u32> {
    bytes
        .chunks_exact(size)
        .map(|sample| {
            let add = |sum: u32, &byte: &u8| sum << 8 | u32::from(byte);
            if big_endian {
                sample.iter().fold(0, add)
            } else {
                sample.iter().rev().fold(0, add)
            }
        })
        .collect()
}

/// One frame's numbers as values: interleaved, rescaled in f64, rounded to f32.
fn rescaled(
    place: &str,
    elements: &Elements,
    form: &Form,
    frame: usize,
    numbers: Vec<u32>,
    out: &mut Vec<f32>,
) -> Result<(), DataError> {
    if numbers.len() != form.frame_samples() {
        return Err(broken(
            place,
            &format!(
                "frame {frame} unpacks to {} samples, not {}",
                numbers.len(),
                form.frame_samples()
            ),
        ));
    }
    let one = |tag| elements.decimals::<1>(tag, frame).map(|[v]| v);
    let (slope, intercept) = (one(SLOPE).unwrap_or(1.0), one(INTERCEPT).unwrap_or(0.0));
    let value = |bits: u32| (form.number(bits) as f64 * slope + intercept) as f32;
    if form.planar {
        let plane = form.rows * form.columns;
        for i in 0..plane {
            out.extend(
                (0..form.samples)
                    .filter_map(|c| numbers.get(c * plane + i))
                    .map(|&b| value(b)),
            );
        }
    } else {
        out.extend(numbers.into_iter().map(value));
    }
    Ok(())
}

/// DICOM's run-length coding: a segment for each byte of each sample, the most significant first.
///
/// # Source
/// DICOM PS3.5, annex G.
fn run_lengths(place: &str, packed: &[u8], form: &Form) -> Result<Vec<u32>, DataError> {
    let wrong = || broken(place, "its run-length coded pixels are damaged");
    let word = |i: usize| -> Option<usize> {
        let bytes = packed.get(4 * i..4 * i + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let pixels = form.rows * form.columns;
    let segments = form.samples * form.size;
    if word(0) != Some(segments) {
        return Err(wrong());
    }
    let mut numbers = vec![0u32; pixels * form.samples];
    for segment in 0..segments {
        let begin = word(segment + 1).ok_or_else(wrong)?;
        let end = if segment + 1 < segments {
            word(segment + 2).ok_or_else(wrong)?
        } else {
            packed.len()
        };
        let mut rest = packed.get(begin..end).ok_or_else(wrong)?;
        let mut plane = Vec::with_capacity(pixels);
        while plane.len() < pixels {
            let (&control, after) = rest.split_first().ok_or_else(wrong)?;
            rest = match control {
                128 => after,
                0..128 => {
                    let n = usize::from(control) + 1;
                    plane.extend_from_slice(after.get(..n).ok_or_else(wrong)?);
                    &after[n..]
                }
                _ => {
                    let (&byte, after) = after.split_first().ok_or_else(wrong)?;
                    plane.extend(std::iter::repeat_n(byte, 257 - usize::from(control)));
                    after
                }
            };
        }
        let sample = segment / form.size;
        for (i, &byte) in plane.iter().take(pixels).enumerate() {
            // Where samples lie as planes, so do the segments' numbers.
            let at = if form.planar {
                sample * pixels + i
            } else {
                i * form.samples + sample
            };
            if let Some(number) = numbers.get_mut(at) {
                *number = *number << 8 | u32::from(byte);
            }
        }
    }
    Ok(numbers)
}

/// A grey JPEG, lossy or lossless.
fn jpeg(place: &str, packed: &[u8], form: &Form) -> Result<Vec<u32>, DataError> {
    if form.samples != 1 {
        return Err(DataError::data(
            place,
            "a JPEG in colour",
            "decompress it (`gdcmconv --raw` or `dcmdjpeg` do)",
        ));
    }
    let failed = |e: jpeg_decoder::Error| match e {
        jpeg_decoder::Error::Unsupported(what) => DataError::data(
            place,
            format!("pixels compressed with a kind of JPEG that is not read here ({what:?})"),
            "decompress it (`gdcmconv --raw` or `dcmdjpeg` do)",
        ),
        other => broken(place, &format!("its JPEG picture: {other}")),
    };
    let mut decoder = jpeg_decoder::Decoder::new(packed);
    decoder.set_max_decoding_buffer_size(4 * form.frame_samples().max(1 << 16));
    decoder.read_info().map_err(failed)?;
    let info = decoder
        .info()
        .ok_or_else(|| broken(place, "its JPEG picture has no header"))?;
    let size = (usize::from(info.height), usize::from(info.width));
    if size != (form.rows, form.columns) {
        return Err(broken(
            place,
            &format!(
                "{} × {} pixels in {} × {}",
                size.0, size.1, form.rows, form.columns
            ),
        ));
    }
    let bytes = decoder.decode().map_err(failed)?;
    match info.pixel_format {
        PixelFormat::L8 => Ok(bytes.into_iter().map(u32::from).collect()),
        PixelFormat::L16 => {
            let (numbers, _) = bytes.as_chunks::<2>();
            Ok(numbers
                .iter()
                .map(|&b| u32::from(u16::from_ne_bytes(b)))
                .collect())
        }
        _ => Err(broken(place, "its JPEG picture is in colour")),
    }
}
