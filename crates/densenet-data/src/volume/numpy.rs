//! `.npy` arrays as volumes: `[depth, height, width]`, or with up to four channels last.

use super::space::Space;
use super::stored::Stored;
use super::{assembled, too_many};
use crate::decoded::DecodedImage;
use crate::error::DataError;
use crate::npy::RawArray;

/// The most bytes a `.npy` volume may have: 2²⁸ f64 and a header.
const MAX_BYTES: u64 = (8 << 28) + (1 << 16);

pub(super) fn recognises(head: &[u8]) -> bool {
    head.starts_with(b"\x93NUMPY")
}

pub(super) fn read(stored: Stored<'_>) -> Result<DecodedImage, DataError> {
    let place = stored.place();
    let array = RawArray::parse(place, &stored.read_all(MAX_BYTES)?)?;
    let (spatial, channels) = match *array.shape.as_slice() {
        [d, h, w] => ([d, h, w], 1),
        [d, h, w, c @ 1..=4] => ([d, h, w], c),
        _ => {
            return Err(DataError::data(
                place,
                format!("an array of shape {:?}", array.shape),
                "save a volume as [depth, height, width], or with up to 4 channels last",
            ));
        }
    };
    too_many(place, spatial, channels)?;
    assembled(place, spatial, channels, array.to_f32(), Space::UNKNOWN)
}
