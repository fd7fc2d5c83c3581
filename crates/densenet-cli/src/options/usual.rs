//! Input sizes: the usual one, and the largest that is computed with.

use densenet_spec::Architecture;

use crate::failure::{Failure, LIMIT};

/// The size people feed such a network: 224 with a pooling stem (96 in 3-D), 32 without; never below the smallest
/// that works.
pub fn input(architecture: &Architecture) -> [usize; 3] {
    let config = architecture.config();
    let halvings = config.stem.pool || config.stem.stride[2] > 1;
    let side = match (halvings, config.spatial_dims) {
        (false, _) => 32,
        (true, 2) => 224,
        (true, _) => 96,
    };
    let mut input = architecture.min_input().map(|min| min.max(side));
    if config.spatial_dims == 2 {
        input[0] = 1;
    }
    input
}

/// Refuses inputs so large that their sizes would leave the range of the numbers.
///
/// # Errors
/// More pixels in a batch than any machine holds (exit code 7).
pub fn within_limits(spatial: [usize; 3], batch: usize) -> Result<(), Failure> {
    let pixels = spatial
        .iter()
        .try_fold(batch, |product, &side| product.checked_mul(side));
    if pixels.is_some_and(|pixels| pixels <= MOST_PIXELS) {
        return Ok(());
    }
    Err(Failure::new(
        LIMIT,
        format_args!(
            "--input: a batch of {batch} has more than {MOST_PIXELS} pixels — give a smaller --input or --batch"
        ),
    ))
}

/// 16 GiB for a single channel in f32.
const MOST_PIXELS: usize = 1 << 32;
