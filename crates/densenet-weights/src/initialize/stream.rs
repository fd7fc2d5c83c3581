//! A stream of random numbers of its own for every named tensor.

use densenet_spec::philox4x32;

/// The numbers of one named tensor under one seed.
pub(super) struct Stream {
    key: [u32; 2],
    name: [u32; 2],
}

impl Stream {
    pub(super) fn new(seed: u64, name: &str) -> Self {
        Stream {
            key: halves(seed),
            name: halves(fnv1a(name.as_bytes())),
        }
    }

    /// Uniform numbers `2 · pair` and `2 · pair + 1`, strictly between 0 and 1, with 52 random bits each.
    pub(super) fn uniform_pair(&self, pair: u64) -> [f64; 2] {
        let [low, high] = halves(pair);
        let words = philox4x32(self.key, [low, high, self.name[0], self.name[1]]);
        [uniform(words[0], words[1]), uniform(words[2], words[3])]
    }
}

/// (n + ½) / 2⁵² for the upper 52 bits n: exact in f64 and never 0 or 1.
fn uniform(low: u32, high: u32) -> f64 {
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 12;
    (bits as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
}

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_numbers_stay_inside() {
        assert_eq!(uniform(0, 0), 0.5 / (1u64 << 52) as f64);
        assert!(uniform(u32::MAX, u32::MAX) < 1.0);
    }

    #[test]
    fn the_name_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
