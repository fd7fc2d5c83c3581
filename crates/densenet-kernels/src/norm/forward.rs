//! Statistics of a batch, and normalise + rectify from one raster into another.

use super::{
    Affine,
    rows::{check_pair, for_rows, partial_sums, reduce, row_tasks, sum_over_rows},
};
use crate::{
    Isa, KernelError, Raster,
    error::{at_least, exactly},
    isa::dispatch,
    parallel::Shared,
    simd::{InSteps, Round, Simd, fma, load_some, relu},
};

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

/// Pixels on their way into a product: `max(scale[c]·input[places[r] + c] + shift[c], floor[c])`, or the input itself.
pub(crate) struct Rows<'a> {
    pub input: &'a [f32],
    pub places: &'a [usize],
    pub channels: usize,
    pub affine: Option<Affine<'a>>,
    /// Behind an affine map; zeros where there is none.
    pub floor: Option<&'a [f32]>,
    /// Round to bf16, two to an element; an odd last channel gets a zero beside it.
    pub bf16: bool,
}

impl Rows<'_> {
    /// Writes the pixels to `output`, `pitch` elements apart.
    pub(crate) fn write(&self, isa: Isa, output: &mut [f32], pitch: usize) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        fn native(rows: &Rows<'_>, output: &mut [f32], pitch: usize) {
            rows_body::<crate::simd::Avx512, crate::simd::Native>(rows, output, pitch);
        }
        #[cfg(target_arch = "x86_64")]
        if self.bf16 && isa.has_bf16() {
            // SAFETY: the processor has these features, as `has_bf16` detected.
            return unsafe { native(self, output, pitch) };
        }
        write_rows(isa, self, output, pitch);
    }
}

dispatch! {
    fn write_rows(rows: &Rows<'_>, output: &mut [f32], pitch: usize) = write_rows_body
}

#[inline(always)]
fn write_rows_body<S: Simd>(rows: &Rows<'_>, output: &mut [f32], pitch: usize) {
    rows_body::<S, InSteps>(rows, output, pitch);
}

/// Pixels that pass by together, so that the affine map is loaded once for all of them.
const TOGETHER: usize = 4;

#[inline(always)]
fn rows_body<S: Simd, R: Round<S>>(rows: &Rows<'_>, output: &mut [f32], pitch: usize) {
    match (rows.affine.is_some(), rows.bf16) {
        (false, false) => rows_of_kind::<S, R, false, false>(rows, output, pitch),
        (false, true) => rows_of_kind::<S, R, false, true>(rows, output, pitch),
        (true, false) => rows_of_kind::<S, R, true, false>(rows, output, pitch),
        (true, true) => rows_of_kind::<S, R, true, true>(rows, output, pitch),
    }
}

#[inline(always)]
fn rows_of_kind<S: Simd, R: Round<S>, const AFFINE: bool, const BF16: bool>(
    rows: &Rows<'_>,
    output: &mut [f32],
    pitch: usize,
) {
    let n = rows.channels;
    let len = if BF16 { n.div_ceil(2) } else { n };
    let (scale, shift) = rows
        .affine
        .map_or((&[][..], &[][..]), |a| (a.scale, a.shift));
    assert!(!AFFINE || scale.len() == n && shift.len() == n);
    assert!(rows.floor.is_none_or(|floor| floor.len() == n));
    assert!(len <= pitch && rows.places.len() * pitch <= output.len());
    let mut first = 0;
    while first < rows.places.len() {
        let count = TOGETHER.min(rows.places.len() - first);
        // The last pixel again in place of those that are missing.
        let pair: [_; TOGETHER] = std::array::from_fn(|i| {
            let row = first + i.min(count - 1);
            let x = rows.input[rows.places[row]..][..n].as_ptr();
            (x, output[row * pitch..][..len].as_mut_ptr())
        });
        let mut c = 0;
        while BF16 && c + 2 * S::LANES <= n {
            // SAFETY: as below.
            unsafe {
                let (mut a, mut b, mut least) = ([S::zero(); 2], [S::zero(); 2], [S::zero(); 2]);
                if AFFINE {
                    for i in 0..2 {
                        a[i] = S::load(scale.as_ptr().add(c + i * S::LANES));
                        b[i] = S::load(shift.as_ptr().add(c + i * S::LANES));
                        if let Some(floor) = rows.floor {
                            least[i] = S::load(floor.as_ptr().add(c + i * S::LANES));
                        }
                    }
                }
                for (x, y) in pair {
                    let mut v = [S::load(x.add(c)), S::load(x.add(c + S::LANES))];
                    if AFFINE {
                        for i in 0..2 {
                            v[i] = S::at_least(least[i], S::fma(a[i], v[i], b[i]));
                        }
                    }
                    R::store_both(y.cast::<u16>().add(c), v[0], v[1]);
                }
            }
            c += 2 * S::LANES;
        }
        while c < n {
            let many = S::LANES.min(n - c);
            // SAFETY: the pixels, the affine map and the rows hold `n` elements, as sliced and asserted above; the shell
            // around us has the instruction set.
            unsafe {
                let (mut a, mut b, mut least) = (S::zero(), S::zero(), S::zero());
                if AFFINE {
                    a = load_some::<S>(scale.as_ptr().add(c), many);
                    b = load_some::<S>(shift.as_ptr().add(c), many);
                    if let Some(floor) = rows.floor {
                        least = load_some::<S>(floor.as_ptr().add(c), many);
                    }
                }
                for (x, y) in pair {
                    let mut v = load_some::<S>(x.add(c), many);
                    if AFFINE {
                        v = S::at_least(least, S::fma(a, v, b));
                    }
                    if BF16 {
                        R::store(y.cast::<u16>().add(c), v, many);
                    } else if many == S::LANES {
                        S::store(y.add(c), v);
                    } else {
                        S::store_first(y.add(c), v, many);
                    }
                }
            }
            c += S::LANES;
        }
        if BF16 && n % 2 == 1 {
            for (_, y) in pair {
                // SAFETY: the row holds a whole pair for the last channel.
                unsafe { y.cast::<u16>().add(n).write(0) };
            }
        }
        first += count;
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
/// Sums in f64 over at most 64 fixed runs of rows, combined in order: bit-identical at any thread count; relative error
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
