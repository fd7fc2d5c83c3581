//! The backward pass of norm + ReLU: shares on store, the rest once. The module above has the formula.

use super::{
    Affine, Statistics,
    rows::{check_pair, for_rows, partial_sums, reduce, row_tasks, sum_over_rows},
};
use crate::{
    Isa, KernelError, Raster,
    error::{at_least, exactly},
    isa::dispatch,
    parallel::Shared,
    simd::{Simd, fma, load_some, store_some},
};

/// How a gradient at a norm + ReLU's output reaches the norm's input buffer; see the module's formula.
pub struct NormBackward<'a> {
    /// The norm's input, in the raster of the gradient buffer.
    pub input: &'a [f32],
    /// The folded norm: gives the ReLU's mask and γ·s.
    pub affine: Affine<'a>,
    /// μ and s, for x̂.
    pub statistics: Statistics<'a>,
    /// Partial sums `[task][Σ g, Σ g·x̂][channel]`, zeroed by the caller; [`crate::conv::tasks`] says how many tasks.
    pub sums: &'a mut [f64],
}

/// A tile of products and where its rows belong.
pub(crate) struct ProductRows<'a> {
    /// `[row][width]`
    pub product: &'a [f32],
    pub width: usize,
    /// The first column's channel.
    pub start: usize,
    /// Each row's pixel.
    pub places: &'a [usize],
}

impl NormBackward<'_> {
    pub(crate) fn check(
        &self,
        operation: &'static str,
        raster: &Raster,
        channels: usize,
    ) -> Result<(), KernelError> {
        self.affine.check(operation, channels)?;
        exactly(operation, "mean", channels, self.statistics.mean.len())?;
        exactly(
            operation,
            "inverse deviation",
            channels,
            self.statistics.inv_std.len(),
        )?;
        at_least(operation, "norm's input", raster.len(), self.input.len())?;
        let sums = crate::conv::tasks(raster) * 2 * channels;
        at_least(operation, "partial sums", sums, self.sums.len())
    }

    /// Masks a tile of products, adds them scaled to the gradient buffer and to the sums.
    ///
    /// # Safety
    /// No other task touches these pixels' columns of `grad`.
    pub(crate) unsafe fn tile(
        &self,
        isa: Isa,
        rows: &ProductRows<'_>,
        grad: &Shared<f32>,
        [sum_g, sum_gx]: [&mut [f64]; 2],
    ) {
        let columns = sum_g.len();
        let channels = rows.start..rows.start + columns;
        let norm = Channels {
            scale: &self.affine.scale[channels.clone()],
            shift: &self.affine.shift[channels.clone()],
            mean: &self.statistics.mean[channels.clone()],
            inv_std: &self.statistics.inv_std[channels],
        };
        backward_rows(isa, rows, self.input, &norm, grad, [sum_g, sum_gx]);
    }
}

/// A norm's per-channel values for the columns at hand.
struct Channels<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
    mean: &'a [f32],
    inv_std: &'a [f32],
}

dispatch! {
    /// The rows of [`NormBackward::tile`], whose caller guarantees that nobody else touches them.
    fn backward_rows(
        rows: &ProductRows<'_>,
        input: &[f32],
        norm: &Channels<'_>,
        grad: &Shared<f32>,
        sums: [&mut [f64]; 2],
    ) = backward_rows_body
}

#[inline(always)]
fn backward_rows_body<S: Simd>(
    rows: &ProductRows<'_>,
    input: &[f32],
    norm: &Channels<'_>,
    grad: &Shared<f32>,
    [sum_g, sum_gx]: [&mut [f64]; 2],
) {
    // Columns in groups of a width that the compiler knows, so that a group's sums stay in registers.
    let columns = norm.scale.len();
    let mut first = 0;
    while first < columns {
        let sums = [&mut sum_g[first..], &mut sum_gx[first..]];
        first += match columns - first {
            16.. => backward_columns::<S, 16>(rows, first, input, norm, (grad, sums)),
            4.. => backward_columns::<S, 4>(rows, first, input, norm, (grad, sums)),
            _ => backward_columns::<S, 1>(rows, first, input, norm, (grad, sums)),
        };
    }
}

/// `grad += scale·g`, and the sums of g and g·x̂ (in f32 over a tile's rows), for `N` columns from `first` on.
#[inline(always)]
fn backward_columns<S: Simd, const N: usize>(
    rows: &ProductRows<'_>,
    first: usize,
    input: &[f32],
    norm: &Channels<'_>,
    (grad, [sum_g, sum_gx]): (&Shared<f32>, [&mut [f64]; 2]),
) -> usize {
    let values = |from: &[f32]| -> [f32; N] { std::array::from_fn(|c| from[first + c]) };
    let (scale, shift) = (values(norm.scale), values(norm.shift));
    let (mean, inv_std) = (values(norm.mean), values(norm.inv_std));
    let (mut g_sum, mut gx_sum) = ([0.0f32; N], [0.0f32; N]);
    for (product, place) in rows.product.chunks_exact(rows.width).zip(rows.places) {
        let place = place + rows.start + first;
        let (product, x) = (&product[first..first + N], &input[place..place + N]);
        // SAFETY: the caller of `NormBackward::tile` guarantees that no other task touches these columns.
        let grad = unsafe { grad.slice(place, N) };
        for c in 0..N {
            let active = fma::<S>(scale[c], x[c], shift[c]) > 0.0;
            let g = if active { product[c] } else { 0.0 };
            grad[c] = fma::<S>(scale[c], g, grad[c]);
            g_sum[c] += g;
            gx_sum[c] = fma::<S>(g, (x[c] - mean[c]) * inv_std[c], gx_sum[c]);
        }
    }
    for c in 0..N {
        sum_g[c] += f64::from(g_sum[c]);
        sum_gx[c] += f64::from(gx_sum[c]);
    }
    N
}

/// Applies a norm's ReLU mask to the gradient at its output, in place, and sums Σ g and Σ g·x̂ per channel.
///
/// The input and the gradient lie in rasters of their own. For norm2, whose input no other layer reads.
///
/// # Errors
/// Sizes differ or a buffer is too small.
pub fn mask_and_sum(
    isa: Isa,
    (input, from): (&[f32], &Raster),
    (affine, statistics): (Affine<'_>, Statistics<'_>),
    (grad, to): (&mut [f32], &Raster),
    ([sum_g, sum_gx], partials): ([&mut [f64]; 2], &mut [f64]),
) -> Result<(), KernelError> {
    const OP: &str = "norm backward";
    let channels = affine.scale.len();
    affine.check(OP, channels)?;
    exactly(OP, "mean", channels, statistics.mean.len())?;
    exactly(OP, "sums", channels, sum_g.len())?;
    check_pair(OP, (input.len(), from), (grad.len(), to), channels)?;
    at_least(
        OP,
        "partial sums",
        partial_sums(from, channels),
        partials.len(),
    )?;
    let norm = Channels {
        scale: affine.scale,
        shift: affine.shift,
        mean: statistics.mean,
        inv_std: statistics.inv_std,
    };
    let shared = Shared::new(grad);
    sum_over_rows(from, channels, partials, |row, [g, gx]| {
        let (mut x, mut y) = (from.row(row), to.row(row));
        for _ in 0..from.spatial[2] {
            // SAFETY: rows do not overlap, and each row belongs to one task; the buffer was checked to hold the raster.
            let grad = unsafe { shared.slice(y, channels) };
            mask_pixel(
                isa,
                &input[x..x + channels],
                &norm,
                grad,
                [&mut *g, &mut *gx],
            );
            (x, y) = (x + from.stride, y + to.stride);
        }
    });
    reduce(partials, row_tasks(from), channels, [sum_g, sum_gx]);
    Ok(())
}

dispatch! {
    fn mask_pixel(input: &[f32], norm: &Channels<'_>, grad: &mut [f32], sums: [&mut [f64]; 2]) = mask_pixel_body
}

#[inline(always)]
fn mask_pixel_body<S: Simd>(
    input: &[f32],
    norm: &Channels<'_>,
    grad: &mut [f32],
    [sum_g, sum_gx]: [&mut [f64]; 2],
) {
    let n = grad.len();
    let input = &input[..n];
    let (scale, shift) = (&norm.scale[..n], &norm.shift[..n]);
    let (mean, inv_std) = (&norm.mean[..n], &norm.inv_std[..n]);
    let (sum_g, sum_gx) = (&mut sum_g[..n], &mut sum_gx[..n]);
    for c in 0..n {
        let x = input[c];
        let g = if fma::<S>(scale[c], x, shift[c]) > 0.0 {
            grad[c]
        } else {
            0.0
        };
        grad[c] = g;
        sum_g[c] += f64::from(g);
        sum_gx[c] += f64::from(g * ((x - mean[c]) * inv_std[c]));
    }
}

/// The last term of a norm's backward: `output = a·g + b·(x − μ) + c`, per channel.
#[derive(Debug, Clone, Copy)]
pub struct Combination<'a> {
    /// a: γ·s for a norm of its own, 1 for a channel whose layers' shares were scaled as they came.
    pub of_grad: &'a [f32],
    /// b: −s²·Q, where Q = Σ γ·mean(g·x̂).
    pub of_input: &'a [f32],
    /// c: −s·B, where B = Σ γ·mean(g).
    pub constant: &'a [f32],
    /// μ
    pub mean: &'a [f32],
}

/// Computes a [`Combination`] of a gradient `g` and a norm's input `x` into a raster of the same size; its halo is left
/// alone.
///
/// # Errors
/// Sizes differ or a buffer is too small.
pub fn combine(
    isa: Isa,
    combination: Combination<'_>,
    (grad, at): (&[f32], &Raster),
    (input, from): (&[f32], &Raster),
    (output, to): (&mut [f32], &Raster),
) -> Result<(), KernelError> {
    const OP: &str = "norm backward";
    let channels = combination.check(OP)?;
    check_pair(OP, (grad.len(), at), (output.len(), to), channels)?;
    check_pair(OP, (input.len(), from), (output.len(), to), channels)?;
    let shared = Shared::new(output);
    for_rows(at, |row| {
        let width = at.spatial[2];
        if width == 0 {
            return;
        }
        let len = |raster: &Raster| (width - 1) * raster.stride + channels;
        // SAFETY: rows do not overlap, and each row belongs to one task; the buffer was checked to hold the raster.
        let output = unsafe { shared.slice(to.row(row), len(to)) };
        let pixels = RowPixels {
            grad: (&grad[at.row(row)..][..len(at)], at.stride),
            input: (&input[from.row(row)..][..len(from)], from.stride),
            count: width,
        };
        combine_row(isa, &combination, &pixels, output, to.stride);
    });
    Ok(())
}

/// [`combine`] where the gradient is overwritten by the result.
///
/// # Errors
/// Sizes differ or a buffer is too small.
pub fn combine_in_place(
    isa: Isa,
    combination: Combination<'_>,
    (input, from): (&[f32], &Raster),
    (grad, to): (&mut [f32], &Raster),
) -> Result<(), KernelError> {
    const OP: &str = "norm backward";
    let channels = combination.check(OP)?;
    check_pair(OP, (input.len(), from), (grad.len(), to), channels)?;
    let shared = Shared::new(grad);
    for_rows(from, |row| {
        let (mut x, mut y) = (from.row(row), to.row(row));
        for _ in 0..from.spatial[2] {
            // SAFETY: rows do not overlap, and each row belongs to one task; the buffer was checked to hold the raster.
            let grad = unsafe { shared.slice(y, channels) };
            combine_pixel(isa, &combination, &input[x..x + channels], grad);
            (x, y) = (x + from.stride, y + to.stride);
        }
    });
    Ok(())
}

impl Combination<'_> {
    pub(crate) fn check(&self, operation: &'static str) -> Result<usize, KernelError> {
        let channels = self.of_grad.len();
        exactly(
            operation,
            "coefficients of the input",
            channels,
            self.of_input.len(),
        )?;
        exactly(operation, "constants", channels, self.constant.len())?;
        exactly(operation, "mean", channels, self.mean.len())?;
        Ok(channels)
    }
}

/// A row of a gradient and of a norm's input, pixels of each their stride apart.
struct RowPixels<'a> {
    grad: (&'a [f32], usize),
    input: (&'a [f32], usize),
    count: usize,
}

/// Pixels that are asked for ahead: a few channels of each are a cache line or two of a page of their own.
const AHEAD: usize = 24;

dispatch! {
    /// [`combine`] of a row.
    fn combine_row(combination: &Combination<'_>, row: &RowPixels<'_>, output: &mut [f32], pitch: usize) = combine_row_body
}

#[inline(always)]
fn combine_row_body<S: Simd>(
    combination: &Combination<'_>,
    row: &RowPixels<'_>,
    output: &mut [f32],
    pitch: usize,
) {
    let n = combination.of_grad.len();
    let ((grad, step_g), (input, step_x)) = (row.grad, row.input);
    let last = row.count - 1;
    assert!(last * step_g + n <= grad.len() && last * step_x + n <= input.len());
    assert!(last * pitch + n <= output.len());
    for c in (0..n).step_by(S::LANES) {
        let many = S::LANES.min(n - c);
        // SAFETY: the assertions bound every pixel, and a combination has `n` values of each kind; any address may be
        // asked for. The shell around us has the instruction set.
        unsafe {
            let at = |from: &[f32]| load_some::<S>(from[c..].as_ptr(), many);
            let (a, b) = (at(combination.of_grad), at(combination.of_input));
            let (constant, mean) = (at(combination.constant), at(combination.mean));
            for p in 0..row.count {
                let (g, x) = (
                    grad.as_ptr().add(p * step_g + c),
                    input.as_ptr().add(p * step_x + c),
                );
                for next in [
                    g.wrapping_add(AHEAD * step_g),
                    x.wrapping_add(AHEAD * step_x),
                ] {
                    S::prefetch(next);
                    S::prefetch(next.wrapping_add(many - 1));
                }
                let rest = S::fma(b, S::sub(load_some::<S>(x, many), mean), constant);
                let v = S::fma(a, load_some::<S>(g, many), rest);
                store_some::<S>(output.as_mut_ptr().add(p * pitch + c), v, many);
            }
        }
    }
}

dispatch! {
    fn combine_pixel(combination: &Combination<'_>, input: &[f32], grad: &mut [f32]) = combine_pixel_body
}

#[inline(always)]
fn combine_pixel_body<S: Simd>(combination: &Combination<'_>, input: &[f32], grad: &mut [f32]) {
    let n = grad.len();
    let input = &input[..n];
    let (a, b) = (&combination.of_grad[..n], &combination.of_input[..n]);
    let (constant, mean) = (&combination.constant[..n], &combination.mean[..n]);
    for c in 0..n {
        grad[c] = fma::<S>(
            a[c],
            grad[c],
            fma::<S>(b[c], input[c] - mean[c], constant[c]),
        );
    }
}
