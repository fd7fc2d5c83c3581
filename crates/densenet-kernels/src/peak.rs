//! What this machine could do at most.

use std::time::{Duration, Instant};

use crate::{
    Buffer, Isa, Panels,
    parallel::for_each,
    tile::{self, Pixels, Tile},
};

/// GFLOP/s of this pool's threads together on register tiles whose operands stay in the first-level cache: the
/// multiply-add rate that a convolution could reach. In bf16 the dot products'.
///
/// Takes about 50 ms. The fastest of many short rounds counts, as others may use the machine meanwhile.
pub fn peak_gflops(isa: Isa, bf16: bool) -> f64 {
    const K: usize = 64;
    const ROUNDS: usize = 200;
    let threads = rayon::current_num_threads();
    let weight = vec![0.5; 2 * K * 32];
    let panels = if bf16 {
        Panels::packed_bf16(isa, &weight, [1, 2 * K, 32])
    } else {
        Panels::packed(isa, &weight[..K * 32], [1, K, 32], crate::Operand::Forward)
    };
    let Ok(panels) = panels else {
        return 0.0;
    };
    let Some((_, vectors, panel)) = panels.iter().next() else {
        return 0.0;
    };
    let shape = panels.shape();
    let (rows, width) = (shape.mr(vectors), vectors * shape.lanes);
    let places: Vec<usize> = (0..rows).map(|r| r * width).collect();
    let round = || {
        for_each(threads, |_| {
            let (a, mut output) = (Buffer::zeroed(rows * K), Buffer::zeroed(rows * width));
            let start = output.as_mut_ptr();
            for _ in 0..ROUNDS {
                let tile = Tile {
                    a: a.as_ptr(),
                    a_row: K,
                    a_k: 1,
                    taps: &[0],
                    b: panel.as_ptr(),
                    b_tap: 0,
                    b_k: width,
                    k: K,
                    rows,
                    vectors,
                };
                let pixels = Pixels {
                    output: start,
                    places: &places,
                    columns: width,
                    affine: None,
                    relu: false,
                    bf16: false,
                };
                // SAFETY: `a` holds `rows` rows of K, the panel K rows of its registers, the output `rows` rows.
                unsafe {
                    match bf16 {
                        true => tile::compute_pixels_bf16(isa, &tile, &pixels),
                        false => tile::compute_pixels(isa, &tile, &pixels),
                    }
                }
            }
        });
    };
    let (begin, mut best) = (Instant::now(), f64::MAX);
    while begin.elapsed() < Duration::from_millis(50) {
        let start = Instant::now();
        round();
        best = best.min(start.elapsed().as_secs_f64());
    }
    let operations = 2 * rows * width * K * ROUNDS * threads * if bf16 { 2 } else { 1 };
    operations as f64 / best / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_has_a_peak() {
        for isa in Isa::available() {
            for bf16 in [false, true] {
                let peak = peak_gflops(*isa, bf16);
                assert!(peak.is_finite() && peak > 0.1, "{}: {peak}", isa.name());
            }
        }
    }
}
