//! Max-pooling, and the way back through it and the norm + ReLU before it.

use std::ops::Range;

use densenet_spec::Window;

use super::{PooledNorm, check, coordinates, inside};
use crate::{
    Isa, KernelError, Raster,
    error::{at_least, exactly},
    isa::dispatch,
    norm::{self, Affine, Combination},
    parallel::{Shared, for_each, with_scratch},
    simd::{Simd, fma, relu},
};

const OP_BACKWARD: &str = "max-pool backward";

/// `output[p] = max over the window of relu(scale · x + shift)`, or of `x` itself without a norm. The border counts as
/// −∞. NaN wins, as in PyTorch.
///
/// With `winners` (`[pixel][channel]`), also which tap won, the first of equals, for [`MaxPoolBackward`].
///
/// # Errors
/// A buffer does not fit; the window has more than 256 taps.
pub fn max_pool(
    isa: Isa,
    window: &Window,
    (input, from, affine): (&[f32], &Raster, Option<Affine<'_>>),
    (output, to): (&mut [f32], &Raster),
    channels: usize,
    winners: &mut [u8],
) -> Result<(), KernelError> {
    const OP: &str = "max-pool";
    check(
        OP,
        window,
        (input.len(), from),
        (output.len(), to),
        channels,
    )?;
    at_least(OP, "room for the taps in a byte", window.taps(), 256)?;
    if let Some(a) = &affine {
        a.check(OP, channels)?;
    }
    if !winners.is_empty() {
        at_least(OP, "winners", to.pixels() * channels, winners.len())?;
    }
    if winners.is_empty() && affine.is_none() {
        let whole = Planes {
            data: input,
            raster: *from,
            first: 0,
            depth: from.spatial[0],
        };
        return max_pool_planes(isa, window, whole, (output, to), 0..to.spatial[0], channels);
    }
    let (shared, won) = (Shared::new(output), Shared::new(winners));
    let recorded = !winners.is_empty();
    for_each(to.rows(), |row| {
        let [n, z, y] = coordinates(to, row);
        let mut ignored = vec![0; if recorded { 0 } else { channels }];
        for x in 0..to.spatial[2] {
            // SAFETY: every row of the output belongs to one task; both buffers were checked to hold all rows.
            let best = unsafe { shared.slice(to.row(row) + x * to.stride, channels) };
            let winner = if recorded {
                // SAFETY: as above.
                unsafe { won.slice((row * to.spatial[2] + x) * channels, channels) }
            } else {
                &mut ignored[..]
            };
            best.fill(f32::NEG_INFINITY);
            for (kz, iz) in inside(window, from, 0, z) {
                for (ky, iy) in inside(window, from, 1, y) {
                    let line = from.row((n * from.spatial[0] + iz) * from.spatial[1] + iy);
                    for (kx, ix) in inside(window, from, 2, x) {
                        let place = line + ix * from.stride;
                        let tap = (kz * window.kernel[1] + ky) * window.kernel[2] + kx;
                        let values = &input[place..place + channels];
                        match affine {
                            Some(a) => {
                                max_norm(isa, values, a.scale, a.shift, tap as u8, best, winner)
                            }
                            None => max_plain(isa, values, tap as u8, best, winner),
                        }
                    }
                }
            }
        }
    });
    Ok(())
}

/// The planes `first..` of a map, of which it has `depth` altogether.
#[derive(Clone, Copy)]
pub struct Planes<'a> {
    /// Their values.
    pub data: &'a [f32],
    /// Where they lie: as deep as there are planes.
    pub raster: Raster,
    /// The map's plane that comes first.
    pub first: usize,
    /// All of the map's planes.
    pub depth: usize,
}

/// The planes `planes` of a max-pool's output, for inference, out of those of the input that they need.
///
/// # Errors
/// A buffer does not fit, or a plane is missing.
pub fn max_pool_planes(
    isa: Isa,
    window: &Window,
    input: Planes<'_>,
    (output, to): (&mut [f32], &Raster),
    planes: Range<usize>,
    channels: usize,
) -> Result<(), KernelError> {
    const OP: &str = "max-pool";
    let whole = Raster {
        spatial: [
            input.depth,
            input.raster.spatial[1],
            input.raster.spatial[2],
        ],
        ..input.raster
    };
    let sizes = (whole.len(), &whole);
    check(OP, window, sizes, (output.len(), to), channels)?;
    at_least(OP, "input", input.raster.len(), input.data.len())?;
    at_least(OP, "room for the taps in a byte", window.taps(), 256)?;
    at_least(OP, "planes", planes.end, to.spatial[0])?;
    for z in planes.clone() {
        for (_, iz) in inside(window, &whole, 0, z) {
            let there = input.first..input.first + input.raster.spatial[0];
            exactly(
                OP,
                "plane of the input",
                1,
                usize::from(there.contains(&iz)),
            )?;
        }
    }
    let shared = Shared::new(output);
    let [_, height, width] = to.spatial;
    for_each(to.batch * planes.len() * height, |task| {
        let (y, plane) = (task % height, task / height);
        let (n, z) = (plane / planes.len(), planes.start + plane % planes.len());
        // The taps' rows inside the map.
        let mut lines = [0; 256];
        let mut rows = 0;
        for (_, iz) in inside(window, &whole, 0, z) {
            for (_, iy) in inside(window, &whole, 1, y) {
                let plane = n * input.raster.spatial[0] + iz - input.first;
                lines[rows] = input.raster.row(plane * whole.spatial[1] + iy);
                rows += 1;
            }
        }
        let start = to.row((n * to.spatial[0] + z) * height + y);
        for x in 0..width {
            // SAFETY: every row of the output belongs to one task; the buffer was checked to hold all rows.
            let best = unsafe { shared.slice(start + x * to.stride, channels) };
            let mut columns = inside(window, &whole, 2, x).map(|(_, ix)| ix);
            let first = columns.next().unwrap_or(0);
            let count = 1 + columns.count();
            let stride = input.raster.stride;
            let run = first * stride..(first + count - 1) * stride + channels;
            max_rows(isa, input.data, (&lines[..rows], run), stride, best);
        }
    });
    Ok(())
}

dispatch! {
    /// `best[c]` = the maximum over the pixels, `stride` apart, that each line has in `run`.
    fn max_rows(input: &[f32], taps: (&[usize], Range<usize>), stride: usize, best: &mut [f32]) = max_rows_body
}

#[inline(always)]
fn max_rows_body<S: Simd>(
    input: &[f32],
    (lines, run): (&[usize], Range<usize>),
    stride: usize,
    best: &mut [f32],
) {
    let channels = best.len();
    let mut c = 0;
    while c < channels {
        let many = S::LANES.min(channels - c);
        // SAFETY: every run is sliced, so it lies in the input, and its last pixel has `channels` elements; the shell
        // around us has the instruction set.
        unsafe {
            let mut most = S::set(f32::NEG_INFINITY);
            for line in lines {
                let pixels = &input[line + run.start..line + run.end];
                for x in (0..=pixels.len() - channels).step_by(stride) {
                    let place = pixels.as_ptr().add(x + c);
                    let v = if many == S::LANES {
                        S::load(place)
                    } else {
                        S::load_first(place, many)
                    };
                    most = S::max(most, v);
                }
            }
            if many == S::LANES {
                S::store(best.as_mut_ptr().add(c), most);
            } else {
                S::store_first(best.as_mut_ptr().add(c), most, many);
            }
        }
        c += S::LANES;
    }
}

dispatch! {
    fn max_plain(values: &[f32], tap: u8, best: &mut [f32], winner: &mut [u8]) = max_plain_body
}

#[inline(always)]
fn max_plain_body<S: Simd>(values: &[f32], tap: u8, best: &mut [f32], winner: &mut [u8]) {
    for ((v, b), w) in values.iter().zip(best).zip(winner) {
        let wins = *v > *b || v.is_nan();
        *b = if wins { *v } else { *b };
        *w = if wins { tap } else { *w };
    }
}

dispatch! {
    fn max_norm(values: &[f32], scale: &[f32], shift: &[f32], tap: u8, best: &mut [f32], winner: &mut [u8])
        = max_norm_body
}

#[inline(always)]
fn max_norm_body<S: Simd>(
    values: &[f32],
    scale: &[f32],
    shift: &[f32],
    tap: u8,
    best: &mut [f32],
    winner: &mut [u8],
) {
    for ((((x, a), s), b), w) in values.iter().zip(scale).zip(shift).zip(best).zip(winner) {
        let v = relu(fma::<S>(*a, *x, *s));
        let wins = v > *b || v.is_nan();
        *b = if wins { v } else { *b };
        *w = if wins { tap } else { *w };
    }
}

/// A max-pool on the way back: every output's gradient goes to the tap that won.
pub struct MaxPoolBackward<'a> {
    /// The pooling's window.
    pub window: Window,
    /// Which tap won, as [`max_pool`] left it.
    pub winners: &'a [u8],
    /// The gradient at its output.
    pub grad_output: (&'a [f32], Raster),
    /// Channels of both sides.
    pub channels: usize,
}

impl MaxPoolBackward<'_> {
    /// The gradient at the pooling's input.
    ///
    /// # Errors
    /// A buffer does not fit.
    pub fn run(
        &self,
        isa: Isa,
        (grad_input, from): (&mut [f32], &Raster),
    ) -> Result<(), KernelError> {
        self.check((grad_input.len(), from))?;
        let shared = Shared::new(grad_input);
        for_each(from.rows(), |row| {
            for x in 0..from.spatial[2] {
                // SAFETY: every row of the input belongs to one task; the buffer was checked to hold all rows.
                let sum = unsafe { shared.slice(from.row(row) + x * from.stride, self.channels) };
                self.gather(isa, from, (row, x), sum);
            }
        });
        Ok(())
    }

    /// Σ g and Σ g·x̂ of the norm + ReLU before the pooling, whose input lies where `from` says.
    ///
    /// # Numerics
    /// The sums are f64 over fixed runs of rows, added in order: bit-identical at any thread count.
    ///
    /// # Errors
    /// A buffer does not fit.
    pub fn norm_sums(
        &self,
        isa: Isa,
        (norm, from): (PooledNorm<'_>, &Raster),
        (sums, partials): ([&mut [f64]; 2], &mut [f64]),
    ) -> Result<(), KernelError> {
        let n = self.channels;
        self.check((norm.input.len(), from))?;
        norm.check(OP_BACKWARD, from, n)?;
        exactly(OP_BACKWARD, "sums", n, sums[0].len())?;
        exactly(OP_BACKWARD, "sums", n, sums[1].len())?;
        let needed = norm::partial_sums(from, n);
        at_least(OP_BACKWARD, "partial sums", needed, partials.len())?;
        norm::sum_over_rows(from, n, partials, |row, [sum_g, sum_gx]| {
            with_scratch(n, |grad| {
                for x in 0..from.spatial[2] {
                    self.gather(isa, from, (row, x), grad);
                    let input = &norm.input[from.row(row) + x * from.stride..][..n];
                    add_masked(isa, input, &norm, grad, [&mut *sum_g, &mut *sum_gx]);
                }
            });
        });
        norm::reduce(partials, norm::row_tasks(from), n, sums);
        Ok(())
    }

    /// The gradient at the input of the norm + ReLU before the pooling, in place of that input, which nobody else reads.
    ///
    /// # Errors
    /// A buffer does not fit.
    pub fn through_norm(
        &self,
        isa: Isa,
        (affine, combination): (Affine<'_>, Combination<'_>),
        (map, from): (&mut [f32], &Raster),
    ) -> Result<(), KernelError> {
        let n = self.channels;
        self.check((map.len(), from))?;
        affine.check(OP_BACKWARD, n)?;
        exactly(
            OP_BACKWARD,
            "coefficients",
            n,
            combination.check(OP_BACKWARD)?,
        )?;
        let shared = Shared::new(map);
        for_each(from.rows(), |row| {
            with_scratch(n, |grad| {
                for x in 0..from.spatial[2] {
                    self.gather(isa, from, (row, x), grad);
                    // SAFETY: every row of the map belongs to one task; the buffer was checked to hold all rows.
                    let pixel = unsafe { shared.slice(from.row(row) + x * from.stride, n) };
                    combine_masked(isa, grad, &affine, &combination, pixel);
                }
            });
        });
        Ok(())
    }

    fn check(&self, input: (usize, &Raster)) -> Result<(), KernelError> {
        let (grad, to) = &self.grad_output;
        let output = (grad.len(), to);
        check(OP_BACKWARD, &self.window, input, output, self.channels)?;
        let needed = to.pixels() * self.channels;
        at_least(OP_BACKWARD, "winners", needed, self.winners.len())
    }

    /// The gradient at pixel `x` of a row of the pooling's input.
    fn gather(&self, isa: Isa, from: &Raster, (row, x): (usize, usize), sum: &mut [f32]) {
        let (window, channels) = (&self.window, self.channels);
        let (grad_output, to) = &self.grad_output;
        // The windows that reach an input position: position + padding = output · stride + tap.
        let reaching = |axis: usize, at: usize| {
            let (stride, size) = (window.stride[axis], to.spatial[axis]);
            let padded = at + window.padding[axis];
            (0..window.kernel[axis])
                .filter(move |tap| *tap <= padded && (padded - tap).is_multiple_of(stride))
                .map(move |tap| (tap, (padded - tap) / stride))
                .filter(move |(_, o)| *o < size)
        };
        let [n, z, y] = coordinates(from, row);
        sum.fill(0.0);
        for (kz, oz) in reaching(0, z) {
            for (ky, oy) in reaching(1, y) {
                for (kx, ox) in reaching(2, x) {
                    let tap = ((kz * window.kernel[1] + ky) * window.kernel[2] + kx) as u8;
                    let out_row = (n * to.spatial[0] + oz) * to.spatial[1] + oy;
                    let place = to.row(out_row) + ox * to.stride;
                    let winner =
                        &self.winners[(out_row * to.spatial[2] + ox) * channels..][..channels];
                    let grad = &grad_output[place..place + channels];
                    add_where_won(isa, sum, grad, winner, tap);
                }
            }
        }
    }
}

dispatch! {
    /// Adds g and g·x̂ of one pixel, where the ReLU is open.
    fn add_masked(input: &[f32], norm: &PooledNorm<'_>, grad: &[f32], sums: [&mut [f64]; 2]) = add_masked_body
}

#[inline(always)]
fn add_masked_body<S: Simd>(
    input: &[f32],
    norm: &PooledNorm<'_>,
    grad: &[f32],
    [sum_g, sum_gx]: [&mut [f64]; 2],
) {
    let n = grad.len();
    let input = &input[..n];
    let (scale, shift) = (&norm.affine.scale[..n], &norm.affine.shift[..n]);
    let (mean, inv_std) = (&norm.statistics.mean[..n], &norm.statistics.inv_std[..n]);
    let (sum_g, sum_gx) = (&mut sum_g[..n], &mut sum_gx[..n]);
    for c in 0..n {
        let x = input[c];
        let active = fma::<S>(scale[c], x, shift[c]) > 0.0;
        let g = if active { grad[c] } else { 0.0 };
        sum_g[c] += f64::from(g);
        sum_gx[c] += f64::from(g * ((x - mean[c]) * inv_std[c]));
    }
}

dispatch! {
    /// The [`Combination`] of one pixel's gradient, where the ReLU is open, and the norm's input, in place of the latter.
    fn combine_masked(grad: &[f32], affine: &Affine<'_>, combination: &Combination<'_>, pixel: &mut [f32])
        = combine_masked_body
}

#[inline(always)]
fn combine_masked_body<S: Simd>(
    grad: &[f32],
    affine: &Affine<'_>,
    combination: &Combination<'_>,
    pixel: &mut [f32],
) {
    let n = pixel.len();
    let grad = &grad[..n];
    let (scale, shift) = (&affine.scale[..n], &affine.shift[..n]);
    let (a, b) = (&combination.of_grad[..n], &combination.of_input[..n]);
    let (constant, mean) = (&combination.constant[..n], &combination.mean[..n]);
    for c in 0..n {
        let x = pixel[c];
        let active = fma::<S>(scale[c], x, shift[c]) > 0.0;
        let g = if active { grad[c] } else { 0.0 };
        pixel[c] = fma::<S>(a[c], g, fma::<S>(b[c], x - mean[c], constant[c]));
    }
}

dispatch! {
    /// `sum += grad` where `tap` was the largest.
    fn add_where_won(sum: &mut [f32], grad: &[f32], winner: &[u8], tap: u8) = add_where_won_body
}

#[inline(always)]
fn add_where_won_body<S: Simd>(sum: &mut [f32], grad: &[f32], winner: &[u8], tap: u8) {
    for ((s, g), w) in sum.iter_mut().zip(grad).zip(winner) {
        *s += if *w == tap { *g } else { 0.0 };
    }
}
