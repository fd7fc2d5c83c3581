//! Sensible preprocessing for a data set, where the user did not say.

use super::{Preprocessing, Resize};
use crate::dataset::Dataset;
use crate::split::Split;

/// How many picture files are looked at to guess what the rest are like.
const PEEK: usize = 32;
/// Pictures of one size are taken as they are up to this many pixels a side.
const LARGEST_NATIVE: usize = 256;

impl Preprocessing {
    /// Preprocessing for `dataset`; mean 0 and standard deviation 1 until they are measured ([`check`](crate::check())).
    ///
    /// `channels`: 1 if the packed samples, or the first pictures, are grey, else 3. `size` = `[height, width]`:
    /// - given, and all samples have one size: resized to exactly `size`;
    /// - given, and they differ: the shorter side to 8/7 of the longer of `size`, then the middle cut out;
    /// - not given: the samples' own size where they share one of at most 256 a side, else shorter side 256 and
    ///   the middle 224×224, as for ImageNet.
    ///
    /// Pictures that cannot be read are passed over here; the check names them.
    pub fn suggest(
        dataset: &Dataset,
        channels: Option<usize>,
        size: Option<[usize; 2]>,
    ) -> Preprocessing {
        let (native, own_channels) = match dataset.uniform_shape() {
            Some(([_, height, width], channels)) => (Some([height, width]), channels),
            None => peek(dataset),
        };
        let plain = Preprocessing::plain(channels.unwrap_or(if own_channels < 3 { 1 } else { 3 }));
        match (size, native) {
            (Some(size), Some(_)) => Preprocessing {
                resize: Some(Resize::Exact(size)),
                ..plain
            },
            (Some(size), None) => {
                let side = (size[0].max(size[1]) * 8).div_ceil(7);
                Preprocessing {
                    resize: Some(Resize::ShorterSide(side)),
                    crop: Some(size),
                    ..plain
                }
            }
            (None, Some(size)) if size.iter().all(|&n| n <= LARGEST_NATIVE) => Preprocessing {
                resize: Some(Resize::Exact(size)),
                ..plain
            },
            (None, _) => Preprocessing {
                resize: Some(Resize::ShorterSide(256)),
                crop: Some([224, 224]),
                ..plain
            },
        }
    }
}

/// The size that the first pictures share, if they do, and the most channels any of them has.
fn peek(dataset: &Dataset) -> (Option<[usize; 2]>, usize) {
    let train = dataset.indices(Split::Train);
    let all: Vec<usize> = if train.is_empty() {
        (0..dataset.len()).collect()
    } else {
        train.to_vec()
    };
    // Spread over the set, since pictures of one class and source lie together.
    let step = all.len().div_ceil(PEEK).max(1);
    let mut size = None;
    let mut same = true;
    let mut channels = 1;
    for &index in all.iter().step_by(step) {
        let Ok(image) = dataset.decode(index) else {
            continue;
        };
        let [_, height, width] = image.spatial();
        same &= size.is_none_or(|s| s == [height, width]);
        size = Some([height, width]);
        channels = channels.max(image.channels());
    }
    (size.filter(|_| same), channels)
}
