//! Seeded values, the same bits in Rust and in Python.
//!
//! Element `i` of the tensor called `name` under `seed`:
//!
//! ```text
//! mix(z)    = SplitMix64's finaliser
//! key       = mix(fnv1a(name) xor mix(seed))
//! bits(i)   = mix(key + i · 0x9E3779B97F4A7C15)                  (mod 2⁶⁴)
//! unit(i)   = (2 · (bits(i) >> 40) + 1 − 2²⁴) · 2⁻²⁴             in (−1, 1), symmetric, never 0, exact in f32
//! value(i)  = f32(center + half_width · unit(i))                 computed in f64, rounded once
//! ```
//!
//! Multiplication, addition, square root and conversion are all correctly rounded by IEEE 754, so that any language
//! with f64 gets the same bits. `tools/golden/generator.py` is the other implementation; the golden index carries
//! samples of it that a test here compares bit by bit.
//!
//! # Source
//! Steele, Lea, Flood: *Fast Splittable Pseudorandom Number Generators*, OOPSLA 2014 (SplitMix64). Fowler, Noll, Vo:
//! FNV-1a, 64 bits.

use densenet_spec::{Architecture, ParameterKind};

/// A uniform distribution over `center ± half_width`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distribution {
    /// Middle of the interval.
    pub center: f64,
    /// Half its length.
    pub half_width: f64,
}

impl Distribution {
    /// Mean 0, variance 1: half-width √3.
    pub fn standard() -> Self {
        Distribution {
            center: 0.0,
            half_width: 3f64.sqrt(),
        }
    }

    /// What a parameter of this kind and shape is drawn from.
    ///
    /// Convolutions get kaiming's variance 2/fan_in (half-width √(6/fan_in)), the classifier 1/(16 · fan_in), so that
    /// logits come out of order 1 in every preset. Norms get γ and running variance in 1 ± ½, β and running mean in 0 ± ½, the classifier a
    /// bias in 0 ± ½: never the defaults 0 and 1, which would hide a parameter that was not loaded.
    pub fn of_parameter(kind: ParameterKind, shape: &[usize]) -> Self {
        let fan_in: usize = shape.iter().skip(1).product();
        let (center, half_width) = match kind {
            ParameterKind::ConvWeight => (0.0, (6.0 / fan_in as f64).sqrt()),
            ParameterKind::LinearWeight => (0.0, (0.1875 / fan_in as f64).sqrt()),
            ParameterKind::NormWeight | ParameterKind::RunningVar => (1.0, 0.5),
            ParameterKind::NormBias | ParameterKind::RunningMean | ParameterKind::LinearBias => {
                (0.0, 0.5)
            }
        };
        Distribution { center, half_width }
    }
}

/// A generated tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// torchvision's path.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// What it is for.
    pub kind: ParameterKind,
    /// The values, in PyTorch's order.
    pub data: Vec<f32>,
}

/// `len` values of the tensor called `name`.
pub fn fill(name: &str, len: usize, seed: u64, distribution: Distribution) -> Vec<f32> {
    let key = key(name, seed);
    (0..len as u64)
        .map(|i| {
            let bits = element(key, i) >> 40;
            let unit = (2 * bits as i64 + 1 - (1 << 24)) as f64 / (1u64 << 24) as f64;
            (distribution.center + distribution.half_width * unit) as f32
        })
        .collect()
}

/// Every parameter and running statistic of the network, in the order of its state dict.
pub fn generate_parameters(architecture: &Architecture, seed: u64) -> Vec<Generated> {
    architecture
        .parameters()
        .iter()
        .map(|p| {
            let distribution = Distribution::of_parameter(p.kind, &p.shape);
            Generated {
                name: p.name.clone(),
                shape: p.shape.clone(),
                kind: p.kind,
                data: fill(&p.name, p.len(), seed, distribution),
            }
        })
        .collect()
}

/// The input of batch number `step`: mean 0, variance 1, in PyTorch's order (`NCHW` or `NCDHW`) of `shape`.
///
/// It is the tensor called `input.<step>`. [`crate::channels_last`] brings it into the CPU engine's order.
pub fn generate_input(shape: &[usize], seed: u64, step: usize) -> Vec<f32> {
    let len = shape.iter().product();
    fill(
        &format!("input.{step}"),
        len,
        seed,
        Distribution::standard(),
    )
}

/// The labels of batch number `step`, from the tensor called `labels.<step>`: `(bits(i) >> 32) mod num_classes`.
///
/// # Panics
/// `num_classes` is 0.
pub fn generate_labels(batch: usize, num_classes: usize, seed: u64, step: usize) -> Vec<usize> {
    let key = key(&format!("labels.{step}"), seed);
    (0..batch as u64)
        .map(|i| ((element(key, i) >> 32) % num_classes as u64) as usize)
        .collect()
}

fn key(name: &str, seed: u64) -> u64 {
    let fnv1a = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv1a ^ mix(seed))
}

fn element(key: u64, index: u64) -> u64 {
    mix(key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_spread_evenly_and_never_at_the_center() {
        let values = fill("x", 100_000, 1, Distribution::standard());
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| v as f64).sum::<f64>() / n;
        let variance = values.iter().map(|&v| (v as f64).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 1.0).abs() < 0.01, "{variance}");
        assert!(values.iter().all(|&v| v != 0.0 && v.abs() < 1.7320509));
    }

    #[test]
    fn name_seed_and_index_all_matter() {
        let d = Distribution::standard();
        let base = fill("a", 4, 1, d);
        assert_ne!(base, fill("b", 4, 1, d));
        assert_ne!(base, fill("a", 4, 2, d));
        assert_eq!(base, fill("a", 8, 1, d)[..4]);
        assert_ne!(base[0], base[1]);
    }

    #[test]
    fn no_parameter_is_a_default() {
        let config = densenet_spec::preset("densenet-40-12")
            .unwrap()
            .config(2)
            .unwrap();
        let parameters = generate_parameters(&Architecture::new(&config).unwrap(), 3);
        for p in &parameters {
            assert_eq!(
                p.data.len(),
                p.shape.iter().product::<usize>(),
                "{}",
                p.name
            );
            assert!(p.data.iter().all(|&v| v != 0.0 && v != 1.0), "{}", p.name);
        }
    }

    #[test]
    fn labels_cover_the_classes() {
        let labels = generate_labels(200, 5, 9, 0);
        assert!((0..5).all(|class| labels.contains(&class)));
        assert!(labels.iter().all(|&l| l < 5));
    }
}
