//! Batch norm: statistics once per channel, normalise + rectify, and the backward pass in one sweep.
//!
//! Every layer of a dense block normalises the same channels with the same batch statistics; only γ and β differ. So
//! the mean μ and the inverse deviation s of a channel are computed once, when the channel is written, and the gradient
//! of a channel splits into parts. With x̂ = (x − μ)·s and g_l the gradient at layer l's norm output (ReLU mask applied),
//!
//! ```text
//! ∂L/∂x = Σ_l γ_l s (g_l − mean(g_l) − x̂ · mean(g_l x̂))
//!       = Σ_l γ_l s g_l  −  s (B + x̂ Q)          B = Σ_l γ_l mean(g_l),  Q = Σ_l γ_l mean(g_l x̂)
//! ```
//!
//! [`NormBackward`] adds γ_l s g_l to the gradient buffer and Σ g_l, Σ g_l x̂ to sums, as the input-gradient product is
//! stored; [`combine`] applies the second term once, when the channel's producer is reached.
//!
//! # Source
//! Ioffe & Szegedy, arXiv:1502.03167, algorithm 1; Pleiss et al., arXiv:1707.06990 (shared storage, recomputation).

use crate::{
    Isa, KernelError, Raster,
    error::{at_least, exactly},
    isa::dispatch,
    parallel::{MAX_TASKS, Shared, border, for_each},
    simd::{Simd, fma, relu},
};

/// A norm folded into one multiply-add per element: `scale · x + shift`.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// γ·s per channel.
    pub scale: &'a [f32],
    /// β − γ·s·μ per channel.
    pub shift: &'a [f32],
}

impl Affine<'_> {
    pub(crate) fn check(
        &self,
        operation: &'static str,
        channels: usize,
    ) -> Result<(), KernelError> {
        exactly(operation, "scale", channels, self.scale.len())?;
        exactly(operation, "shift", channels, self.shift.len())
    }
}

/// A channel's batch statistics as the passes use them.
#[derive(Debug, Clone, Copy)]
pub struct Statistics<'a> {
    /// μ per channel.
    pub mean: &'a [f32],
    /// s = 1/√(variance + eps) per channel.
    pub inv_std: &'a [f32],
}

// ---------------------------------------------------------------------------------------------------------------------
// Forward

dispatch! {
    /// `output[c] = relu(scale[c]·input[c] + shift[c])` for one pixel.
    pub(crate) fn affine_relu(input: &[f32], scale: &[f32], shift: &[f32], output: &mut [f32]) = affine_relu_body
}

#[inline(always)]
fn affine_relu_body<S: Simd>(input: &[f32], scale: &[f32], shift: &[f32], output: &mut [f32]) {
    for (((o, x), a), b) in output.iter_mut().zip(input).zip(scale).zip(shift) {
        *o = relu(fma::<S>(*a, *x, *b));
    }
}

dispatch! {
    /// `output[c] = scale[c]·input[c] + shift[c]` for one pixel.
    pub(crate) fn affine(input: &[f32], scale: &[f32], shift: &[f32], output: &mut [f32]) = affine_body
}

#[inline(always)]
fn affine_body<S: Simd>(input: &[f32], scale: &[f32], shift: &[f32], output: &mut [f32]) {
    for (((o, x), a), b) in output.iter_mut().zip(input).zip(scale).zip(shift) {
        *o = fma::<S>(*a, *x, *b);
    }
}

/// Writes `relu(scale · x + shift)` of the first `channels` channels of a map into another raster of the same size;
/// its halo is left alone.
///
/// # Errors
/// Sizes differ or a buffer is too small.
pub fn normalise_relu(
    isa: Isa,
    (input, from): (&[f32], &Raster),
    affine: Affine<'_>,
    (output, to): (&mut [f32], &Raster),
) -> Result<(), KernelError> {
    const OP: &str = "normalise";
    let channels = affine.scale.len();
    affine.check(OP, channels)?;
    check_pair(OP, (input.len(), from), (output.len(), to), channels)?;
    let width = from.spatial[2];
    let shared = Shared::new(output);
    for_rows(from, |row| {
        let (mut x, mut y) = (from.row(row), to.row(row));
        for _ in 0..width {
            // SAFETY: rows do not overlap, and each row belongs to one task; the buffer was checked to hold the raster.
            let pixel = unsafe { shared.slice(y, channels) };
            affine_relu(
                isa,
                &input[x..x + channels],
                affine.scale,
                affine.shift,
                pixel,
            );
            (x, y) = (x + from.stride, y + to.stride);
        }
    });
    Ok(())
}

/// Sets the border of a map to zero.
///
/// # Errors
/// The buffer is too small.
pub fn clear_halo(data: &mut [f32], raster: &Raster) -> Result<(), KernelError> {
    at_least("halo", "map", raster.len(), data.len())?;
    let [depth, height, width] = raster.spatial;
    let [hz, hy, hx] = raster.halo;
    let (plane, pitch, side) = (raster.plane_pitch(), raster.row_pitch(), hx * raster.stride);
    for sample in data[..raster.len()].chunks_exact_mut(raster.sample_pitch().max(1)) {
        sample[..hz * plane].fill(0.0);
        sample[(hz + depth) * plane..].fill(0.0);
        for map in sample[hz * plane..(hz + depth) * plane].chunks_exact_mut(plane) {
            map[..hy * pitch].fill(0.0);
            map[(hy + height) * pitch..].fill(0.0);
            for row in map[hy * pitch..(hy + height) * pitch].chunks_exact_mut(pitch) {
                row[..side].fill(0.0);
                row[side + width * raster.stride..].fill(0.0);
            }
        }
    }
    Ok(())
}

/// Copies the first `channels` channels of a map into another raster of the same size; its halo is left alone.
///
/// # Errors
/// Sizes differ or a buffer is too small.
pub fn copy(
    channels: usize,
    (input, from): (&[f32], &Raster),
    (output, to): (&mut [f32], &Raster),
) -> Result<(), KernelError> {
    check_pair("copy", (input.len(), from), (output.len(), to), channels)?;
    let width = from.spatial[2];
    // Whole rows where the pixels of both lie side by side.
    let (runs, run) = match from.stride == channels && to.stride == channels {
        true => (1, width * channels),
        false => (width, channels),
    };
    let shared = Shared::new(output);
    for_rows(from, |row| {
        let (mut x, mut y) = (from.row(row), to.row(row));
        for _ in 0..runs {
            // SAFETY: rows do not overlap, and each row belongs to one task; the buffer was checked to hold the raster.
            unsafe { shared.slice(y, run) }.copy_from_slice(&input[x..x + run]);
            (x, y) = (x + from.stride, y + to.stride);
        }
    });
    Ok(())
}

/// Mean and biased variance of each of the first `mean.len()` channels of a map.
///
/// # Numerics
/// Sums in f64 over at most 128 fixed runs of rows, combined in order: bit-identical at any thread count; relative error
/// about 1e-16 · (1 + mean²/variance).
///
/// # Errors
/// A buffer is too small; `partials` needs [`partial_sums`] elements.
pub fn moments(
    isa: Isa,
    (input, raster): (&[f32], &Raster),
    [mean, variance]: [&mut [f64]; 2],
    partials: &mut [f64],
) -> Result<(), KernelError> {
    const OP: &str = "moments";
    let channels = mean.len();
    exactly(OP, "variance", channels, variance.len())?;
    at_least(OP, "input", raster.len(), input.len())?;
    at_least(OP, "channels", raster.offset + channels, raster.stride)?;
    at_least(
        OP,
        "partial sums",
        partial_sums(raster, channels),
        partials.len(),
    )?;
    let tasks = row_tasks(raster);
    sum_over_rows(raster, channels, partials, |row, [sum, square]| {
        let mut x = raster.row(row);
        for _ in 0..raster.spatial[2] {
            add_powers(isa, &input[x..x + channels], sum, square);
            x += raster.stride;
        }
    });
    reduce(partials, tasks, channels, [&mut *mean, &mut *variance]);
    let count = raster.pixels().max(1) as f64;
    for (m, v) in mean.iter_mut().zip(variance) {
        *m /= count;
        *v = (*v / count - *m * *m).max(0.0);
    }
    Ok(())
}

dispatch! {
    fn add_powers(input: &[f32], sum: &mut [f64], square: &mut [f64]) = add_powers_body
}

#[inline(always)]
fn add_powers_body<S: Simd>(input: &[f32], sum: &mut [f64], square: &mut [f64]) {
    for ((x, s), q) in input.iter().zip(sum).zip(square) {
        let x = f64::from(*x);
        *s += x;
        *q += x * x;
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Backward

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
        let (mut g, mut x, mut y) = (at.row(row), from.row(row), to.row(row));
        for _ in 0..at.spatial[2] {
            // SAFETY: rows do not overlap, and each row belongs to one task; the buffer was checked to hold the raster.
            let output = unsafe { shared.slice(y, channels) };
            output.copy_from_slice(&grad[g..g + channels]);
            combine_pixel(isa, &combination, &input[x..x + channels], output);
            (g, x, y) = (g + at.stride, x + from.stride, y + to.stride);
        }
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
    fn check(&self, operation: &'static str) -> Result<usize, KernelError> {
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

// ---------------------------------------------------------------------------------------------------------------------
// Rows and sums

fn check_pair(
    operation: &'static str,
    (input_len, from): (usize, &Raster),
    (output_len, to): (usize, &Raster),
    channels: usize,
) -> Result<(), KernelError> {
    exactly(operation, "batch", from.batch, to.batch)?;
    for axis in 0..3 {
        exactly(operation, "size", from.spatial[axis], to.spatial[axis])?;
    }
    at_least(operation, "input", from.len(), input_len)?;
    at_least(operation, "output", to.len(), output_len)?;
    at_least(
        operation,
        "channels of the input",
        from.offset + channels,
        from.stride,
    )?;
    at_least(
        operation,
        "channels of the output",
        to.offset + channels,
        to.stride,
    )
}

/// Tasks that sums over the rows of a map are cut into.
pub(crate) fn row_tasks(raster: &Raster) -> usize {
    raster.rows().clamp(1, MAX_TASKS)
}

/// `f64` elements that the sums of two values per channel over a map need.
pub fn partial_sums(raster: &Raster, channels: usize) -> usize {
    row_tasks(raster) * 2 * channels
}

fn for_rows(raster: &Raster, work: impl Fn(usize) + Sync + Send) {
    let (rows, tasks) = (raster.rows(), row_tasks(raster));
    for_each(tasks, |t| {
        (border(rows, tasks, t)..border(rows, tasks, t + 1)).for_each(&work);
    });
}

/// Runs `work(row, [sum, sum])` over all rows, with zeroed sums of its own for every task.
pub(crate) fn sum_over_rows(
    raster: &Raster,
    channels: usize,
    partials: &mut [f64],
    work: impl Fn(usize, [&mut [f64]; 2]) + Sync + Send,
) {
    let (rows, tasks) = (raster.rows(), row_tasks(raster));
    let shared = Shared::new(partials);
    for_each(tasks, |t| {
        // SAFETY: each task has sums of its own; callers checked that `partials` holds them all.
        let sums = unsafe { shared.slice(t * 2 * channels, 2 * channels) };
        sums.fill(0.0);
        let (a, b) = sums.split_at_mut(channels);
        for row in border(rows, tasks, t)..border(rows, tasks, t + 1) {
            work(row, [&mut *a, &mut *b]);
        }
    });
}

/// Adds the tasks' partial sums in order.
pub fn reduce(partials: &[f64], tasks: usize, channels: usize, [first, second]: [&mut [f64]; 2]) {
    first.fill(0.0);
    second.fill(0.0);
    for task in partials.chunks_exact(2 * channels.max(1)).take(tasks) {
        let (a, b) = task.split_at(channels);
        for (s, v) in first.iter_mut().zip(a) {
            *s += v;
        }
        for (s, v) in second.iter_mut().zip(b) {
            *s += v;
        }
    }
}
