//! Looking at a whole gradient: its norm, and whether it is finite.

use rayon::prelude::*;

use crate::optimizer::Segment;

/// Elements summed by one task; fixed, because the borders decide the rounding.
const CHUNK: usize = 1 << 14;

/// The Euclidean norm of the learned part of `gradients`.
///
/// NaN or infinite where an element is, which makes it the check for finite gradients as well: squares of finite f32
/// cannot overflow an f64 sum.
///
/// # Numerics
/// Squares and sums in f64; chunks of fixed borders, added in their order: the same bits for any number of threads.
pub fn norm(gradients: &[f32], segments: &[Segment]) -> f64 {
    let sums: Vec<f64> = segments
        .par_iter()
        .flat_map_iter(|segment| {
            gradients
                .get(segment.range.clone())
                .unwrap_or_default()
                .chunks(CHUNK)
        })
        .map(|chunk| chunk.iter().map(|&g| f64::from(g) * f64::from(g)).sum())
        .collect();
    sums.iter().sum::<f64>().sqrt()
}

/// The factor that brings a gradient of norm `norm` down to `max_norm`.
///
/// # Source
/// PyTorch's `torch.nn.utils.clip_grad_norm_`, whose 1e-6 in the denominator is kept.
pub fn clip_factor(norm: f64, max_norm: Option<f64>) -> f64 {
    max_norm.map_or(1.0, |max| (max / (norm + 1e-6)).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(range: std::ops::Range<usize>) -> Segment {
        Segment { range, decay: true }
    }

    #[test]
    fn the_norm_sees_the_learned_part_only() {
        let g = [3.0, f32::NAN, 4.0];
        assert_eq!(norm(&g, &[segment(0..1), segment(2..3)]), 5.0);
        assert!(norm(&g, &[segment(0..3)]).is_nan());
        assert_eq!(
            norm(&[f32::MAX; 4], &[segment(0..4)]),
            2.0 * f64::from(f32::MAX)
        );
        assert!(norm(&[1.0, f32::NEG_INFINITY], &[segment(0..2)]).is_infinite());
        assert_eq!(norm(&[], &[]), 0.0);
    }

    #[test]
    fn the_norm_has_the_same_bits_for_any_number_of_threads() {
        let g: Vec<f32> = (0..100_003)
            .map(|i| ((i * 7919) % 1013) as f32 * 0.37 - 180.0)
            .collect();
        let segments = [segment(3..40_000), segment(40_001..100_003)];
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| norm(&g, &segments))
        };
        let one = with(1);
        for threads in [2, 3, 8] {
            assert_eq!(with(threads).to_bits(), one.to_bits());
        }
        let naive = g
            .iter()
            .enumerate()
            .filter(|(i, _)| *i >= 3 && *i != 40_000);
        let naive = naive
            .map(|(_, &v)| f64::from(v).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!((one - naive).abs() <= 1e-12 * naive);
    }

    #[test]
    fn clipping_agrees_with_pytorch() {
        let golden = crate::golden::golden().clip;
        let g = crate::golden::values(5, 24, 1.0);
        let norm = norm(&g, &[segment(0..24)]);
        assert!((norm - golden.norm).abs() < 1e-6);
        let factor = clip_factor(norm, Some(1.0));
        for (g, e) in g.iter().zip(golden.clipped) {
            assert!((f64::from(*g) * factor - f64::from(e)).abs() < 1e-7);
        }
    }

    #[test]
    fn clipping_scales_down_and_never_up() {
        assert_eq!(clip_factor(10.0, None), 1.0);
        assert_eq!(clip_factor(0.5, Some(1.0)), 1.0);
        assert!((clip_factor(10.0, Some(1.0)) - 1.0 / 10.000001).abs() < 1e-15);
        assert_eq!(clip_factor(0.0, Some(1.0)), 1.0);
    }
}
