//! Sensible preprocessing for a data set, where the user did not say.

use super::{Normalize, Preprocessing, Resize, Scale, VolumeSize, VolumeSteps};
use crate::dataset::Dataset;
use crate::split::Split;
use crate::volume::Orientation;

/// How many picture files are looked at to guess what the rest are like.
const PEEK: usize = 32;
/// Pictures of one size are taken as they are up to this many pixels a side.
const LARGEST_NATIVE: usize = 256;

/// How many volumes are looked at: they take longer than pictures.
const PEEK_VOLUMES: usize = 4;
/// Volumes of one size are taken as they are up to this many voxels a side; others are brought to it.
const LARGEST_NATIVE_VOLUME: usize = 96;

impl Preprocessing {
    /// Preprocessing for a data set of volumes, with `steps` where they are given.
    ///
    /// Where nothing is said: turned to RAS; packed 8- and 16-bit samples scaled to 0..1, others to mean 0 and standard
    /// deviation 1 each; their own size where the first ones share one of at most 96 a side, else resized to 96 a side at
    /// most, in proportion to the first.
    pub fn suggest_volume(
        dataset: &Dataset,
        channels: Option<usize>,
        steps: Option<VolumeSteps>,
    ) -> Preprocessing {
        let mut first: Option<([usize; 3], usize)> = None;
        let mut same = true;
        let packed = dataset.uniform_shape().is_some();
        let given = steps.is_some();
        let mut steps = steps.unwrap_or_else(|| VolumeSteps {
            orientation: Some(Orientation::RAS),
            normalize: if packed {
                Normalize::None
            } else {
                Normalize::Zscore
            },
            ..VolumeSteps::default()
        });
        let all: Vec<usize> = (0..dataset.len()).collect();
        for &index in all.iter().step_by(all.len().div_ceil(PEEK_VOLUMES).max(1)) {
            let Ok(volume) = dataset.decode(index) else {
                continue;
            };
            let seen = Preprocessing {
                volume: Some(VolumeSteps {
                    size: None,
                    ..steps.clone()
                }),
                ..Preprocessing::plain(volume.channels())
            };
            let Ok(fitted) = seen.fit(&volume) else {
                continue;
            };
            same &= first.is_none_or(|(size, _)| size == fitted.spatial());
            first.get_or_insert((fitted.spatial(), fitted.channels()));
        }
        if steps.size.is_none()
            && let Some((size, _)) = first
        {
            let longest = size.into_iter().max().unwrap_or(1);
            if !same || longest > LARGEST_NATIVE_VOLUME {
                let longest = longest.max(1);
                let part = |n: usize| (n * LARGEST_NATIVE_VOLUME).div_ceil(longest).max(1);
                let side = longest.min(LARGEST_NATIVE_VOLUME);
                steps.size = Some(VolumeSize::Resize(if longest > side {
                    size.map(part)
                } else {
                    size
                }));
            } else if !given {
                steps.size = Some(VolumeSize::Resize(size));
            }
        }
        Preprocessing {
            volume: Some(steps),
            scale: if packed { Scale::Unit } else { Scale::None },
            ..Preprocessing::plain(channels.or(first.map(|(_, c)| c)).unwrap_or(1))
        }
    }

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
