//! Clocks, numbers to compute with, and the memory used.

use std::time::Instant;

/// How long each run took, in milliseconds, in ascending order.
pub struct Times(Vec<f64>);

impl Times {
    /// Runs `work` `warmup` times and then `iterations` times against the clock.
    ///
    /// # Errors
    /// The first failure of `work`.
    pub fn of<E>(
        warmup: usize,
        iterations: usize,
        mut work: impl FnMut() -> Result<(), E>,
    ) -> Result<Self, E> {
        for _ in 0..warmup {
            work()?;
        }
        let mut times = Vec::with_capacity(iterations);
        for _ in 0..iterations {
            let start = Instant::now();
            work()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(Times::from(times))
    }

    /// All of them, shortest first.
    pub fn sorted(&self) -> &[f64] {
        &self.0
    }

    /// The middle one; of an even number, the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let at = |index: usize| self.0.get(index).copied().unwrap_or(0.0);
        let half = self.0.len() / 2;
        match self.0.len() % 2 {
            1 => at(half),
            _ => (at(half.saturating_sub(1)) + at(half)) / 2.0,
        }
    }

    /// The shortest.
    pub fn min(&self) -> f64 {
        self.0.first().copied().unwrap_or(0.0)
    }
}

impl From<Vec<f64>> for Times {
    fn from(mut milliseconds: Vec<f64>) -> Self {
        milliseconds.sort_by(f64::total_cmp);
        Times(milliseconds)
    }
}

/// Numbers in −2…2 like a normalised image's: the same on every run, hardly ever zero.
pub fn noise(count: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u32 << 22) as f32 - 2.0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Times::from(vec![9.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(Times::from(vec![4.0, 1.0, 2.0, 9.0]).median(), 3.0);
        assert_eq!(Times::from(vec![5.0]).median(), 5.0);
        assert_eq!(Times::from(vec![2.0, 1.0]).min(), 1.0);
    }

    #[test]
    fn noise_is_bounded_and_varied() {
        let numbers = noise(1000);
        assert!(numbers.iter().all(|x| x.abs() <= 2.0));
        let mean = numbers.iter().sum::<f32>() / 1000.0;
        assert!(mean.abs() < 0.2, "{mean}");
    }
}
