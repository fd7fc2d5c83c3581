//! How the simple layers hand a gradient on, over channels-last maps.

use densenet_spec::{ConcatOrder, Window};
use rayon::prelude::*;

/// Elements a task handles at a time.
const CHUNK: usize = 1 << 14;

/// Pixels of `channels` elements that make about a chunk.
fn chunk(channels: usize) -> usize {
    (CHUNK / channels.max(1)).max(1)
}

/// Through the classifier: `[batch][c_out]` to `[batch][c_in]` by the weight `[c_out][c_in]`. Sums in f64.
pub(super) fn linear(grad: &[f32], weight: &[f32], [c_in, c_out]: [usize; 2]) -> Vec<f32> {
    let mut out = Vec::with_capacity(grad.len() / c_out.max(1) * c_in);
    for sample in grad.chunks_exact(c_out.max(1)) {
        let mut sums = vec![0.0f64; c_in];
        for (&g, row) in sample.iter().zip(weight.chunks_exact(c_in.max(1))) {
            if g != 0.0 {
                let products = sums.iter_mut().zip(row);
                products.for_each(|(sum, &w)| *sum += f64::from(g) * f64::from(w));
            }
        }
        out.extend(sums.iter().map(|&s| s as f32));
    }
    out
}

/// Through the global mean: every pixel gets its share.
pub(super) fn mean(grad: &[f32], pixels: usize, channels: usize) -> Vec<f32> {
    let share = 1.0 / pixels.max(1) as f32;
    let mut out = Vec::with_capacity(grad.len() * pixels);
    for sample in grad.chunks_exact(channels.max(1)) {
        for _ in 0..pixels {
            out.extend(sample.iter().map(|g| g * share));
        }
    }
    out
}

/// What decides where a ReLU lets the gradient through: its output, or its norm's input with the norm.
#[derive(Clone, Copy)]
pub(super) struct Mask<'a> {
    pub data: &'a [f32],
    /// Channels of a pixel of `data`, and the first one that counts.
    pub stride: usize,
    pub first: usize,
    /// Scale and shift.
    pub norm: Option<(&'a [f32], &'a [f32])>,
}

/// Through a ReLU: zero where its output is.
pub(super) fn mask(grad: &mut [f32], mask: Mask<'_>, channels: usize) {
    let (pixels, channels) = (chunk(channels), channels.max(1));
    grad.par_chunks_mut(pixels * channels)
        .enumerate()
        .for_each(|(i, part)| {
            let data = &mask.data[i * pixels * mask.stride..];
            for (grad, pixel) in part
                .chunks_exact_mut(channels)
                .zip(data.chunks_exact(mask.stride.max(1)))
            {
                let seen = &pixel[mask.first..mask.first + channels];
                match mask.norm {
                    None => {
                        for (g, &x) in grad.iter_mut().zip(seen) {
                            *g = if x > 0.0 { *g } else { 0.0 };
                        }
                    }
                    Some((scale, shift)) => {
                        let norm = scale.iter().zip(shift);
                        for ((g, &x), (scale, shift)) in grad.iter_mut().zip(seen).zip(norm) {
                            *g = if scale * x + shift > 0.0 { *g } else { 0.0 };
                        }
                    }
                }
            }
        });
}

/// Through a norm with fixed statistics.
pub(super) fn scale(grad: &mut [f32], scale: &[f32]) {
    let channels = scale.len().max(1);
    grad.par_chunks_mut(chunk(channels) * channels)
        .for_each(|part| {
            for pixel in part.chunks_exact_mut(channels) {
                pixel.iter_mut().zip(scale).for_each(|(g, s)| *g *= s);
            }
        });
}

/// Through a concatenation: the old channels' part and the new ones'.
pub(super) fn split(
    grad: &[f32],
    channels: usize,
    growth_rate: usize,
    order: ConcatOrder,
) -> (Vec<f32>, Vec<f32>) {
    let pixels = grad.len() / channels.max(1);
    let mut old = Vec::with_capacity(pixels * (channels - growth_rate));
    let mut new = Vec::with_capacity(pixels * growth_rate);
    for pixel in grad.chunks_exact(channels.max(1)) {
        match order {
            ConcatOrder::OldNew => {
                let (first, second) = pixel.split_at(channels - growth_rate);
                old.extend_from_slice(first);
                new.extend_from_slice(second);
            }
            ConcatOrder::NewOld => {
                let (first, second) = pixel.split_at(growth_rate);
                new.extend_from_slice(first);
                old.extend_from_slice(second);
            }
        }
    }
    (old, new)
}

/// Calls `fill(sample and position [z, y, x], pixel)` for every pixel of a map.
fn fill_pixels(
    (batch, channels): (usize, usize),
    spatial: [usize; 3],
    fill: impl Fn(usize, [usize; 3], &mut [f32]) + Sync,
) -> Vec<f32> {
    let [depth, height, width] = spatial;
    let row = width * channels;
    let mut out = vec![0.0; batch * depth * height * row];
    out.par_chunks_mut(row.max(1))
        .enumerate()
        .for_each(|(r, row)| {
            let (y, plane) = (r % height, r / height);
            let (z, n) = (plane % depth, plane / depth);
            for (x, pixel) in row.chunks_exact_mut(channels.max(1)).enumerate() {
                fill(n, [z, y, x], pixel);
            }
        });
    out
}

/// Through an average pooling whose windows do not overlap: pixels that no window reaches get nothing.
pub(super) fn average(
    grad: &[f32],
    window: &Window,
    (batch, channels): (usize, usize),
    [from, to]: [[usize; 3]; 2],
) -> Vec<f32> {
    let share = 1.0 / window.taps() as f32;
    fill_pixels((batch, channels), from, |n, at, pixel| {
        let o: [usize; 3] = std::array::from_fn(|axis| at[axis] / window.stride[axis]);
        if (0..3).all(|axis| o[axis] < to[axis]) {
            let place = (((n * to[0] + o[0]) * to[1] + o[1]) * to[2] + o[2]) * channels;
            let from = &grad[place..place + channels];
            pixel.iter_mut().zip(from).for_each(|(p, g)| *p = g * share);
        }
    })
}

/// Through a convolution of any stride and padding, whose kernel is `[c_in][tap][c_out]`: the stem.
pub(super) fn strided(
    grad: &[f32],
    kernel: &[f32],
    (window, [batch, c_in, c_out]): (&Window, [usize; 3]),
    [from, to]: [[usize; 3]; 2],
) -> Vec<f32> {
    let taps = window.taps();
    // Taps and output positions along an axis that see input position `at`.
    let seen = |axis: usize, at: usize| {
        let (stride, size) = (window.stride[axis], to[axis]);
        let padded = at + window.padding[axis];
        (0..window.kernel[axis])
            .filter(move |tap| *tap <= padded && (padded - tap).is_multiple_of(stride))
            .map(move |tap| (tap, (padded - tap) / stride))
            .filter(move |(_, o)| *o < size)
    };
    fill_pixels((batch, c_in), from, |n, at, pixel| {
        for (kz, oz) in seen(0, at[0]) {
            for (ky, oy) in seen(1, at[1]) {
                for (kx, ox) in seen(2, at[2]) {
                    let tap = (kz * window.kernel[1] + ky) * window.kernel[2] + kx;
                    let place = (((n * to[0] + oz) * to[1] + oy) * to[2] + ox) * c_out;
                    let grad = &grad[place..place + c_out];
                    for (c, p) in pixel.iter_mut().enumerate() {
                        *p += dot(grad, &kernel[(c * taps + tap) * c_out..][..c_out]);
                    }
                }
            }
        }
    })
}

/// Σ a·b in sixteen lanes.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (a, rest_a) = a.as_chunks::<16>();
    let (b, rest_b) = b.as_chunks::<16>();
    for (a, b) in a.iter().zip(b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}
