//! The embedded data set: 1,797 handwritten digits of 8×8 pixels.
//!
//! The test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine Learning
//! Repository, 1998, <https://doi.org/10.24432/C50P49>, CC BY 4.0), the set that scikit-learn ships. A pixel counts
//! the inked points, 0 to 16, of a 4×4 cell of a 32×32 scan; here 16 becomes 255. The order is fixed: 1,297 training
//! images, then 500 test images, stratified (`tools/data/digits.py` makes the files).

use super::assemble::{Draft, Found, assemble};
use super::idx;
use super::{Dataset, Format, OpenOptions, Source, Store};
use crate::decoded::Samples;
use crate::error::DataError;
use crate::split::Split;

const IMAGES: &[u8] = include_bytes!("../../../../assets/digits/images.idx3-ubyte.gz");
const LABELS: &[u8] = include_bytes!("../../../../assets/digits/labels.idx1-ubyte.gz");
const TRAIN: usize = 1297;

pub(super) fn open(options: &OpenOptions) -> Result<Dataset, DataError> {
    let images = idx::image_store("digits", idx::parse("digits", IMAGES)?)?;
    let labels = idx::parse("digits", LABELS)?;
    let Samples::U8(inked) = images.samples else {
        return Err(DataError::data(
            "digits",
            "the embedded images are not bytes",
            "build the program anew",
        ));
    };
    let samples = inked
        .into_iter()
        .map(|v| ((u16::from(v.min(16)) * 255 + 8) / 16) as u8)
        .collect();
    let drafts = labels
        .data
        .iter()
        .enumerate()
        .map(|(record, &label)| Draft {
            source: Source::Record { store: 0, record },
            class: usize::from(label),
            split: Some(if record < TRAIN {
                Split::Train
            } else {
                Split::Test
            }),
            group: None,
        })
        .collect();
    let found = Found {
        name: "digits".to_string(),
        format: Format::Digits,
        classes: (0..10).map(|i| i.to_string()).collect(),
        ordered: true,
        drafts,
        stores: vec![Store {
            samples: Samples::U8(samples),
            ..images
        }],
        notes: Vec::new(),
    };
    assemble(found, options)
}
