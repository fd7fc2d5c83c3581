//! From a file to a [`DecodedImage`]: the one door through which pictures enter.
//!
//! PNG, JPEG, WebP, BMP and TIFF, recognised by their first bytes, whatever the name says. Palettes are expanded,
//! CMYK JPEGs become RGB, samples of 1, 2 and 4 bits are spread over 0 to 255, 16-bit samples stay 16-bit, EXIF
//! (and TIFF) orientation is applied. Of an animation or a multi-page TIFF the first picture is taken.
//!
//! # Limits
//! A file of at most 512 MiB, whose header announces at most 2²⁶ pixels that decode to at most 512 MiB. The
//! header is looked at before anything is allocated for its pixels.

mod container;

use std::fs;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::error::ImageError;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use crate::decoded::{DecodedImage, Samples};
use crate::error::DataError;

/// The most pixels an image may announce.
pub const MAX_PIXELS: u64 = 1 << 26;
/// The most bytes an image file may have, and the most its pixels may take once decoded.
pub const MAX_IMAGE_BYTES: u64 = 512 << 20;

/// File name endings that mean an image, in lower case.
pub const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "jpe", "webp", "bmp", "tif", "tiff"];

/// Whether the file's name ends like an image's.
pub fn has_image_extension(path: &Path) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| EXTENSIONS.iter().any(|known| e.eq_ignore_ascii_case(known)))
}

/// Read and decode one image file.
///
/// # Errors
/// Names the file: unreadable (input/output), not an image or broken (data), too large (limit).
pub fn decode_file(path: &Path) -> Result<DecodedImage, DataError> {
    let bytes = read_bounded(path, MAX_IMAGE_BYTES)?;
    decode_bytes(&path.display().to_string(), &bytes)
}

/// The content of a regular file of at most `max_bytes`.
///
/// A pipe or device is refused rather than waited for.
pub(crate) fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>, DataError> {
    let metadata = fs::metadata(path).map_err(|e| DataError::io(path, &e))?;
    if !metadata.is_file() {
        return Err(DataError::data(
            path.display().to_string(),
            "not a regular file",
            "leave it out",
        ));
    }
    let file = fs::File::open(path).map_err(|e| DataError::io(path, &e))?;
    let too_large = |found: u64| {
        DataError::limit(
            path.display().to_string(),
            format!("{found} bytes, more than the {max_bytes} this kind of file may have"),
            "make it smaller or leave it out",
        )
    };
    if metadata.len() > max_bytes {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(max_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| DataError::io(path, &e))?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Decode an image that is already in memory; `place` names it in messages.
///
/// # Errors
/// As [`decode_file`].
pub fn decode_bytes(place: &str, bytes: &[u8]) -> Result<DecodedImage, DataError> {
    if bytes.is_empty() {
        return Err(DataError::data(
            place,
            "the file is empty (0 bytes)",
            "replace it or remove it",
        ));
    }
    let format = recognise(place, bytes)?;
    let bytes = match format {
        ImageFormat::Jpeg => container::complete_jpeg(bytes),
        ImageFormat::WebP => container::complete_webp(bytes),
        _ => Ok(bytes),
    }
    .map_err(|why| broken(place, name_of(format), why))?;
    // The decoders are other people's code that reads hostile bytes: should one of them panic after all, one file
    // is bad, not the whole run.
    match catch_unwind(AssertUnwindSafe(|| decode_known(place, bytes, format))) {
        Ok(result) => result,
        Err(_) => Err(broken(place, name_of(format), "the decoder gave up on it")),
    }
}

fn decode_known(place: &str, bytes: &[u8], format: ImageFormat) -> Result<DecodedImage, DataError> {
    let failed = |error: ImageError| match error {
        ImageError::Limits(_) => too_many_pixels(place, "it would take too much memory to decode"),
        other => broken(place, name_of(format), &other.to_string()),
    };
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(MAX_IMAGE_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS || decoder.total_bytes() > MAX_IMAGE_BYTES
    {
        return Err(too_many_pixels(
            place,
            &format!("{width} × {height} pixels, more than the 2^26 allowed"),
        ));
    }
    // A damaged EXIF block is no reason to refuse a sound picture.
    let orientation = decoder
        .orientation()
        .unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(failed)?;
    picture.apply_orientation(orientation);
    let spatial = [1, picture.height() as usize, picture.width() as usize];
    let (channels, samples) = match picture {
        DynamicImage::ImageLuma8(b) => (1, Samples::U8(b.into_raw())),
        DynamicImage::ImageLumaA8(b) => (2, Samples::U8(b.into_raw())),
        DynamicImage::ImageRgb8(b) => (3, Samples::U8(b.into_raw())),
        DynamicImage::ImageRgba8(b) => (4, Samples::U8(b.into_raw())),
        DynamicImage::ImageLuma16(b) => (1, Samples::U16(b.into_raw())),
        DynamicImage::ImageLumaA16(b) => (2, Samples::U16(b.into_raw())),
        DynamicImage::ImageRgb16(b) => (3, Samples::U16(b.into_raw())),
        DynamicImage::ImageRgba16(b) => (4, Samples::U16(b.into_raw())),
        DynamicImage::ImageRgb32F(b) => (3, Samples::F32(b.into_raw())),
        DynamicImage::ImageRgba32F(b) => (4, Samples::F32(b.into_raw())),
        other => {
            return Err(broken(
                place,
                name_of(format),
                &format!("pixels of type {:?}", other.color()),
            ));
        }
    };
    if let Samples::F32(values) = &samples
        && !values.iter().all(|v| v.is_finite())
    {
        return Err(broken(
            place,
            name_of(format),
            "some of its values are infinite or not numbers",
        ));
    }
    DecodedImage::new(place, spatial, channels, samples)
}

fn recognise(place: &str, bytes: &[u8]) -> Result<ImageFormat, DataError> {
    match image::guess_format(bytes) {
        Ok(
            format @ (ImageFormat::Png
            | ImageFormat::Jpeg
            | ImageFormat::WebP
            | ImageFormat::Bmp
            | ImageFormat::Tiff),
        ) => Ok(format),
        Ok(other) => Err(DataError::data(
            place,
            format!("a {} file, which is not read here", name_of(other)),
            "convert it to PNG, JPEG, WebP, BMP or TIFF",
        )),
        Err(_) => Err(DataError::data(
            place,
            "not an image: its first bytes are those of no known format",
            "replace it or remove it (PNG, JPEG, WebP, BMP and TIFF are read)",
        )),
    }
}

fn name_of(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::Gif => "GIF",
        ImageFormat::Avif => "AVIF",
        ImageFormat::Ico => "ICO",
        ImageFormat::Hdr => "HDR",
        ImageFormat::OpenExr => "OpenEXR",
        ImageFormat::Pnm => "PNM",
        ImageFormat::Qoi => "QOI",
        ImageFormat::Dds => "DDS",
        ImageFormat::Farbfeld => "farbfeld",
        _ => "non-image",
    }
}

fn broken(place: &str, format: &str, why: &str) -> DataError {
    DataError::data(
        place,
        format!("broken {format} file ({why})"),
        "replace it or remove it",
    )
}

fn too_many_pixels(place: &str, why: &str) -> DataError {
    DataError::limit(place, why, "scale it down before training")
}
