//! Counter-based randomness: a number is a pure function of what it is for.
//!
//! A sequential generator makes results depend on who drew before: on the number of loader threads, on where a
//! run was resumed. Here every random number is `philox(key, counter)`: the key is the user's seed, the counter
//! says *(epoch, sample, operation, draw)*. So any thread may compute any sample in any order, a run resumed in
//! the middle of an epoch sees the numbers it would have seen, and two operations never share a number.

use densenet_spec::philox4x32;

/// What a stream of random numbers is for. The discriminants are part of the format of a run: changing one
/// changes what a seed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Which samples go to which split.
    Split = 1,
    /// The order of samples within an epoch.
    Shuffle = 2,
    /// Random resized crop.
    ResizedCrop = 3,
    /// Padded crop.
    PaddedCrop = 4,
    /// Horizontal flip.
    HorizontalFlip = 5,
    /// Vertical flip.
    VerticalFlip = 6,
    /// Rotation.
    Rotation = 7,
    /// Brightness, contrast, saturation.
    Jitter = 8,
    /// Random erasing.
    Erasing = 9,
    /// Flip along the depth.
    DepthFlip = 10,
    /// Right-angle turns.
    QuarterTurns = 11,
    /// Scaling.
    Scaling = 12,
    /// Noise.
    Noise = 13,
    /// Gamma.
    Gamma = 14,
    /// The generated volumes.
    Shapes = 16,
}

/// The random numbers for one purpose, one epoch and one sample under one seed.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    /// Epoch, low and high half of the sample's index, then purpose (top 8 bits) and block number (24 bits).
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream for `purpose` of sample `index` in `epoch`.
    pub fn new(seed: u64, epoch: u32, index: u64, purpose: Purpose) -> Stream {
        Stream {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [
                epoch,
                index as u32,
                (index >> 32) as u32,
                (purpose as u32) << 24,
            ],
            block: [0; 4],
            used: 4,
        }
    }

    /// The next 32 random bits. A stream holds 2²⁶ of them, far more than any purpose draws per sample; the
    /// shuffle, which draws one per sample of an epoch, keys each draw by its position instead.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox4x32(self.key, self.counter);
            let [.., last] = &mut self.counter;
            *last = (*last & 0xFF00_0000) | (last.wrapping_add(1) & 0x00FF_FFFF);
            self.used = 0;
        }
        let bits = self.block.get(self.used).copied().unwrap_or(0);
        self.used += 1;
        bits
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | u64::from(self.next_u32()) << 32
    }

    /// A number in [0, 1), a multiple of 2⁻²⁴.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    /// A number in [low, high].
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// True with the given probability; never for 0, always for 1.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.uniform() < probability
    }

    /// A whole number below `n` (0 for `n = 0`): the high half of a 64 × 64-bit product.
    ///
    /// # Numerics
    /// Without Lemire's rejection step the bias is at most n / 2⁶⁴, which no data set is large enough to show;
    /// in return every call takes the same number of draws.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }
}

/// Shuffle `items` in place (Fisher–Yates); a pure function of seed, epoch and the number of items.
///
/// Draw `i` is keyed by position `i`, so no stream runs out however many items there are.
pub fn shuffle<T>(items: &mut [T], seed: u64, epoch: u32, purpose: Purpose) {
    for i in (1..items.len()).rev() {
        let j = Stream::new(seed, epoch, i as u64, purpose).below(i + 1);
        items.swap(i, j);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_every_part_of_their_key() {
        let first =
            |seed, epoch, index, purpose| Stream::new(seed, epoch, index, purpose).next_u64();
        let base = first(1, 2, 3, Purpose::Split);
        assert_eq!(base, first(1, 2, 3, Purpose::Split));
        assert_ne!(base, first(2, 2, 3, Purpose::Split));
        assert_ne!(base, first(1, 3, 3, Purpose::Split));
        assert_ne!(base, first(1, 2, 4, Purpose::Split));
        assert_ne!(base, first(1, 2, 3, Purpose::Shuffle));
        assert_ne!(base, first(1 << 32 | 1, 2, 3, Purpose::Split));
        assert_ne!(base, first(1, 2, 1 << 32 | 3, Purpose::Split));
    }

    #[test]
    fn numbers_stay_in_range_and_spread() {
        let mut stream = Stream::new(7, 0, 0, Purpose::Jitter);
        let mut counts = [0usize; 10];
        for _ in 0..10_000 {
            let u = stream.uniform();
            assert!((0.0..1.0).contains(&u));
            counts[stream.below(10)] += 1;
        }
        // Binomial(10000, 0.1): standard deviation 30; five of them.
        assert!(
            counts.iter().all(|&c| (850..1150).contains(&c)),
            "{counts:?}"
        );
        assert_eq!(stream.below(0), 0);
        assert_eq!(stream.below(1), 0);
        assert!(!stream.chance(0.0) && stream.chance(1.0));
    }

    #[test]
    fn shuffles_are_permutations_and_repeatable() {
        let shuffled = |epoch| {
            let mut items: Vec<usize> = (0..1000).collect();
            shuffle(&mut items, 42, epoch, Purpose::Shuffle);
            items
        };
        assert_eq!(shuffled(0), shuffled(0));
        assert_ne!(shuffled(0), shuffled(1));
        let mut back = shuffled(3);
        back.sort_unstable();
        assert!(back.into_iter().eq(0..1000));
    }
}
