//! Poolings, forward and backward, with the norm and ReLU before them applied on load.

use std::ops::Range;

use densenet_spec::Window;

use crate::{
    Isa, KernelError, Raster,
    error::{at_least, exactly},
    isa::dispatch,
    norm::{self, Affine, Statistics},
    parallel::{Shared, border, for_each},
    simd::{Simd, fma, relu},
};

/// Checks that `output` is what `window` makes of `input` and that both buffers hold their rasters.
fn check(
    operation: &'static str,
    window: &Window,
    (input_len, input): (usize, &Raster),
    (output_len, output): (usize, &Raster),
    channels: usize,
) -> Result<(), KernelError> {
    let spatial = window.output(input.spatial).unwrap_or([0; 3]);
    exactly(operation, "batch", input.batch, output.batch)?;
    for (needed, found) in spatial.into_iter().zip(output.spatial) {
        exactly(operation, "size of the output", needed, found)?;
    }
    at_least(operation, "input", input.len(), input_len)?;
    at_least(operation, "output", output.len(), output_len)?;
    at_least(
        operation,
        "channels of the input",
        input.offset + channels,
        input.stride,
    )?;
    at_least(
        operation,
        "channels of the output",
        output.offset + channels,
        output.stride,
    )
}

/// `[n, z, y]` of a row.
fn coordinates(raster: &Raster, row: usize) -> [usize; 3] {
    let [depth, height, _] = raster.spatial;
    [row / (depth * height), row / height % depth, row % height]
}

/// The taps of `window` that lie inside `input` for output position `at` along `axis`: `(tap, input position)`.
fn inside(
    window: &Window,
    input: &Raster,
    axis: usize,
    at: usize,
) -> impl Iterator<Item = (usize, usize)> + Clone {
    let size = input.spatial[axis];
    let (stride, padding) = (window.stride[axis], window.padding[axis]);
    (0..window.kernel[axis])
        .filter_map(move |tap| (at * stride + tap).checked_sub(padding).map(|i| (tap, i)))
        .filter(move |(_, i)| *i < size)
}

// ---------------------------------------------------------------------------------------------------------------------
// Max-pool

/// `output[p] = max over the window of relu(scale · x + shift)`, or of `x` itself without a norm. The border counts as
/// −∞. NaN wins, as in PyTorch.
///
/// With `winners` (`[pixel][channel]`), also which tap won, the first of equals, for [`max_pool_backward`].
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

/// The gradient at a max-pool's input: every output's gradient goes to the tap that won.
///
/// # Errors
/// A buffer does not fit.
pub fn max_pool_backward(
    window: &Window,
    winners: &[u8],
    (grad_output, to): (&[f32], &Raster),
    (grad_input, from): (&mut [f32], &Raster),
    channels: usize,
) -> Result<(), KernelError> {
    const OP: &str = "max-pool backward";
    check(
        OP,
        window,
        (grad_input.len(), from),
        (grad_output.len(), to),
        channels,
    )?;
    at_least(OP, "winners", to.pixels() * channels, winners.len())?;
    // Additions alone: the same bits whatever the instruction set.
    let isa = Isa::active().unwrap_or(Isa::PORTABLE);
    let shared = Shared::new(grad_input);
    // The windows that reach an input position: position + padding = output · stride + tap.
    let reaching = |axis: usize, at: usize| {
        let (stride, size) = (window.stride[axis], to.spatial[axis]);
        let padded = at + window.padding[axis];
        (0..window.kernel[axis])
            .filter(move |tap| *tap <= padded && (padded - tap).is_multiple_of(stride))
            .map(move |tap| (tap, (padded - tap) / stride))
            .filter(move |(_, o)| *o < size)
    };
    for_each(from.rows(), |row| {
        let [n, z, y] = coordinates(from, row);
        for x in 0..from.spatial[2] {
            // SAFETY: every row of the input belongs to one task; the buffer was checked to hold all rows.
            let sum = unsafe { shared.slice(from.row(row) + x * from.stride, channels) };
            sum.fill(0.0);
            for (kz, oz) in reaching(0, z) {
                for (ky, oy) in reaching(1, y) {
                    for (kx, ox) in reaching(2, x) {
                        let tap = ((kz * window.kernel[1] + ky) * window.kernel[2] + kx) as u8;
                        let out_row = (n * to.spatial[0] + oz) * to.spatial[1] + oy;
                        let place = to.row(out_row) + ox * to.stride;
                        let winner =
                            &winners[(out_row * to.spatial[2] + ox) * channels..][..channels];
                        let grad = &grad_output[place..place + channels];
                        add_where_won(isa, sum, grad, winner, tap);
                    }
                }
            }
        }
    });
    Ok(())
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

// ---------------------------------------------------------------------------------------------------------------------
// Average pool

/// `output[p] = mean over the window of relu(scale · x + shift)`, or of `x` itself without a norm.
///
/// The transitions' norm–ReLU–pool, before their 1×1 convolution: averaging and a 1×1 convolution commute, and pooling
/// first leaves a quarter (2-D) or an eighth (3-D) of the multiply-adds. With a window as large as the map, the global
/// average pooling before the classifier.
///
/// # Errors
/// A buffer does not fit.
pub fn average_pool(
    isa: Isa,
    window: &Window,
    (input, from, affine): (&[f32], &Raster, Option<Affine<'_>>),
    (output, to): (&mut [f32], &Raster),
    channels: usize,
) -> Result<(), KernelError> {
    const OP: &str = "average pool";
    check(
        OP,
        window,
        (input.len(), from),
        (output.len(), to),
        channels,
    )?;
    if let Some(a) = &affine {
        a.check(OP, channels)?;
    }
    let shared = Shared::new(output);
    // A row of the output is a task; a single pixel over a whole map is cut along its channels instead.
    let parts = if to.rows() == 1 {
        channels.div_ceil(256)
    } else {
        1
    };
    for_each(to.rows() * parts, |task| {
        let (row, part) = (task / parts, task % parts);
        let channels = border(channels, parts, part)..border(channels, parts, part + 1);
        let affine = affine.map(|a| (&a.scale[channels.clone()], &a.shift[channels.clone()]));
        let [n, z, y] = coordinates(to, row);
        for x in 0..to.spatial[2] {
            let place = to.row(row) + x * to.stride + channels.start;
            // SAFETY: every row of the output, or every part of one, belongs to one task; the buffer was checked to hold
            // all rows.
            let mean = unsafe { shared.slice(place, channels.len()) };
            mean.fill(0.0);
            for (_, iz) in inside(window, from, 0, z) {
                for (_, iy) in inside(window, from, 1, y) {
                    let line = from.row((n * from.spatial[0] + iz) * from.spatial[1] + iy);
                    for (_, ix) in inside(window, from, 2, x) {
                        let place = line + ix * from.stride + channels.start;
                        add_activation(isa, &input[place..place + channels.len()], affine, mean);
                    }
                }
            }
            let share = 1.0 / window.taps() as f32;
            mean.iter_mut().for_each(|m| *m *= share);
        }
    });
    Ok(())
}

dispatch! {
    fn add_activation(input: &[f32], affine: Option<(&[f32], &[f32])>, sum: &mut [f32]) = add_activation_body
}

#[inline(always)]
fn add_activation_body<S: Simd>(input: &[f32], affine: Option<(&[f32], &[f32])>, sum: &mut [f32]) {
    match affine {
        Some((scale, shift)) => {
            for (((s, x), scale), shift) in sum.iter_mut().zip(input).zip(scale).zip(shift) {
                *s += relu(fma::<S>(*scale, *x, *shift));
            }
        }
        None => sum.iter_mut().zip(input).for_each(|(s, x)| *s += x),
    }
}

/// What [`average_pool_backward`] needs of the norm before the pooling.
#[derive(Clone, Copy)]
pub struct PooledNorm<'a> {
    /// The norm's input, in the raster of the gradient buffer.
    pub input: &'a [f32],
    /// The folded norm.
    pub affine: Affine<'a>,
    /// μ and s.
    pub statistics: Statistics<'a>,
}

/// The first share of the gradient at the input of norm–ReLU–average-pool: overwrites `grad_input` with γ·s·g (0 where
/// no window reaches) and gives Σ g and Σ g·x̂, as [`crate::norm`] explains. Without a norm the gradient itself, and no
/// sums. Windows must not overlap.
///
/// # Errors
/// A buffer does not fit.
pub fn average_pool_backward(
    isa: Isa,
    window: &Window,
    (grad_output, to): (&[f32], &Raster),
    (grad_input, from): (&mut [f32], &Raster),
    norm: Option<PooledNorm<'_>>,
    (sums, partials, channels): ([&mut [f64]; 2], &mut [f64], usize),
) -> Result<(), KernelError> {
    const OP: &str = "average pool backward";
    check(
        OP,
        window,
        (grad_input.len(), from),
        (grad_output.len(), to),
        channels,
    )?;
    at_least(
        OP,
        "partial sums",
        norm::partial_sums(from, channels),
        partials.len(),
    )?;
    exactly(OP, "sums", channels, sums[0].len())?;
    exactly(OP, "sums", channels, sums[1].len())?;
    for axis in 0..3 {
        exactly(
            OP,
            "stride of windows that do not overlap",
            window.kernel[axis],
            window.stride[axis],
        )?;
    }
    if let Some(n) = &norm {
        n.affine.check(OP, channels)?;
        exactly(OP, "mean", channels, n.statistics.mean.len())?;
        exactly(
            OP,
            "inverse deviation",
            channels,
            n.statistics.inv_std.len(),
        )?;
        at_least(OP, "norm's input", from.len(), n.input.len())?;
    }
    let share = 1.0 / window.taps() as f32;
    let shared = Shared::new(grad_input);
    norm::sum_over_rows(from, channels, partials, |row, [sum_g, sum_gx]| {
        let [n, z, y] = coordinates(from, row);
        let (oz, oy) = (z / window.stride[0], y / window.stride[1]);
        let reached = oz < to.spatial[0] && oy < to.spatial[1];
        for x in 0..from.spatial[2] {
            let place = from.row(row) + x * from.stride;
            // SAFETY: every row of the input belongs to one task; the buffer was checked to hold all rows.
            let grad = unsafe { shared.slice(place, channels) };
            let ox = x / window.stride[2];
            if !reached || ox >= to.spatial[2] {
                grad.fill(0.0);
                continue;
            }
            let out = to.row((n * to.spatial[0] + oz) * to.spatial[1] + oy) + ox * to.stride;
            let pooled = &grad_output[out..out + channels];
            match &norm {
                Some(norm) => {
                    let input = &norm.input[place..place + channels];
                    spread(
                        isa,
                        (pooled, share),
                        input,
                        norm,
                        grad,
                        [&mut *sum_g, &mut *sum_gx],
                    );
                }
                None => grad
                    .iter_mut()
                    .zip(pooled)
                    .for_each(|(g, p)| *g = p * share),
            }
        }
    });
    norm::reduce(partials, norm::row_tasks(from), channels, sums);
    Ok(())
}

dispatch! {
    fn spread(
        pooled: (&[f32], f32),
        input: &[f32],
        norm: &PooledNorm<'_>,
        grad: &mut [f32],
        sums: [&mut [f64]; 2],
    ) = spread_body
}

#[inline(always)]
fn spread_body<S: Simd>(
    (pooled, share): (&[f32], f32),
    input: &[f32],
    norm: &PooledNorm<'_>,
    grad: &mut [f32],
    [sum_g, sum_gx]: [&mut [f64]; 2],
) {
    let n = grad.len();
    let (pooled, input) = (&pooled[..n], &input[..n]);
    let (scale, shift) = (&norm.affine.scale[..n], &norm.affine.shift[..n]);
    let (mean, inv_std) = (&norm.statistics.mean[..n], &norm.statistics.inv_std[..n]);
    let (sum_g, sum_gx) = (&mut sum_g[..n], &mut sum_gx[..n]);
    for c in 0..n {
        let x = input[c];
        let g = if fma::<S>(scale[c], x, shift[c]) > 0.0 {
            pooled[c] * share
        } else {
            0.0
        };
        grad[c] = scale[c] * g;
        sum_g[c] += f64::from(g);
        sum_gx[c] += f64::from(g * ((x - mean[c]) * inv_std[c]));
    }
}
