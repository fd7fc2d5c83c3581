//! Average pooling: the transitions' and the last one over the whole map.

use densenet_spec::Window;

use super::{PooledNorm, check, coordinates, inside};
use crate::{
    Isa, KernelError, Raster,
    error::{at_least, exactly},
    isa::dispatch,
    norm::{self, Affine},
    parallel::{Shared, border, for_each},
    simd::{Simd, fma, relu},
};

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

/// The first share of the gradient at the input of norm–ReLU–average-pool: overwrites `grad_input` with γ·s·g (0 where
/// no window reaches) and gives Σ g and Σ g·x̂, as [`crate::norm`] explains; the norm's input lies in the raster of `grad_input`. Without a norm the gradient itself, and no
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
        n.check(OP, from, channels)?;
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
