//! Prepared samples kept between epochs, as long as they fit.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::decoded::DecodedImage;
use crate::error::DataError;

/// One place per sample, filled first come first served until the budget is spent.
///
/// Which samples end up in it depends on the threads; what a sample is does not, so results stay the same.
pub(super) struct Cache {
    places: Vec<OnceLock<Arc<DecodedImage>>>,
    left_bytes: AtomicUsize,
}

impl Cache {
    pub(super) fn new(samples: usize, budget_bytes: usize) -> Cache {
        let places = if budget_bytes == 0 { 0 } else { samples };
        Cache {
            places: (0..places).map(|_| OnceLock::new()).collect(),
            left_bytes: AtomicUsize::new(budget_bytes),
        }
    }

    /// The kept sample, or the one that `make` gives, kept if there is room.
    pub(super) fn get(
        &self,
        index: usize,
        make: impl FnOnce() -> Result<DecodedImage, DataError>,
    ) -> Result<Arc<DecodedImage>, DataError> {
        let place = self.places.get(index);
        if let Some(kept) = place.and_then(OnceLock::get) {
            return Ok(kept.clone());
        }
        let made = Arc::new(make()?);
        if let Some(place) = place {
            let cost = made.samples().size_bytes() + std::mem::size_of::<DecodedImage>();
            let take = |left: usize| left.checked_sub(cost);
            if self
                .left_bytes
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok()
                && place.set(made.clone()).is_err()
            {
                // Another thread was faster with the same sample (possible when loaders share an epoch's end).
                self.left_bytes.fetch_add(cost, Ordering::Relaxed);
            }
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoded::Samples;

    fn image(n: usize) -> DecodedImage {
        DecodedImage::assembled([1, 1, n], 1, Samples::U8(vec![7; n]))
    }

    #[test]
    fn keeps_what_fits_and_only_that() {
        let cost = 100 + std::mem::size_of::<DecodedImage>();
        let cache = Cache::new(3, 2 * cost);
        for index in 0..3 {
            cache.get(index, || Ok(image(100))).unwrap();
        }
        let fault = || Err(DataError::data("", "made again", ""));
        assert!(cache.get(0, fault).is_ok() && cache.get(1, fault).is_ok());
        assert_eq!(cache.get(2, fault).unwrap_err().what(), "made again");
        assert!(cache.get(99, || Ok(image(1))).is_ok());
        assert!(Cache::new(3, 0).get(0, || Ok(image(1))).is_ok());
    }
}
