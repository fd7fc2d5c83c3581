//! Norm, ReLU and a 1×1 convolution in one pass over the pixels, with the result's statistics.

use std::ops::Range;

use super::{CHUNK, Normal, Places, normalise, prefetch};
use crate::{
    KernelError, Panels, Raster,
    conv::scratch_pitch,
    error::{at_least, exactly},
    isa::dispatch,
    norm::{self, Affine},
    parallel::{MAX_TASKS, Shared, border, evenly, for_each, with_scratch},
    simd::Simd,
    tile::{self, Pixels, Tile},
};

/// `output = relu(scale·x + shift) · weight` for every pixel, and the mean and variance of every output channel, summed
/// while a chunk of it is in the cache.
pub struct PointwiseForward<'a> {
    /// The map x.
    pub input: (&'a [f32], Raster),
    /// The folded norm.
    pub affine: Affine<'a>,
    /// The weight, packed for the convolution itself.
    pub weights: &'a Panels,
}

impl PointwiseForward<'_> {
    /// Elements of scratch memory for the statistics.
    pub fn partial_sums(c_out: usize, pixels: usize) -> usize {
        tasks(pixels) * 2 * c_out
    }

    /// Runs the pass: `output`, and its mean and biased variance per channel.
    ///
    /// # Numerics
    /// Every output is one chain of multiply-adds in f32; the sums are f64 over fixed runs of pixels, added in order.
    /// Bit-identical at any thread count.
    ///
    /// # Errors
    /// A buffer or channel count does not fit; `partials` needs [`PointwiseForward::partial_sums`] elements.
    pub fn run(
        &self,
        (output, raster): (&mut [f32], &Raster),
        [mean, variance]: [&mut [f64]; 2],
        partials: &mut [f64],
    ) -> Result<(), KernelError> {
        const OP: &str = "pointwise forward";
        let (c_in, c_out) = (self.weights.k(), self.weights.columns());
        let (data, input) = &self.input;
        let pixels = raster.pixels();
        self.affine.check(OP, c_in)?;
        at_least(OP, "input", input.len(), data.len())?;
        at_least(
            OP,
            "channels of the input",
            input.offset + c_in,
            input.stride,
        )?;
        at_least(OP, "output", raster.len(), output.len())?;
        let end = raster.offset + c_out;
        at_least(OP, "channels of the output", end, raster.stride)?;
        exactly(OP, "pixels of the output", input.pixels(), pixels)?;
        exactly(OP, "mean", c_out, mean.len())?;
        exactly(OP, "variance", c_out, variance.len())?;
        let needed = Self::partial_sums(c_out, pixels);
        at_least(OP, "partial sums", needed, partials.len())?;
        let tasks = tasks(pixels);
        let panels = self.weights.count();
        let pass = Pass {
            forward: self,
            raster,
            output: Shared::new(output),
            sums: Shared::new(partials),
        };
        // Small maps are also cut along the output's channels, so that several threads have work.
        let groups = 8usize.div_ceil(tasks).min(panels).max(1);
        let chunks = pixels.div_ceil(CHUNK);
        for_each(tasks * groups, |t| {
            let (task, group) = (t / groups, t % groups);
            let edge = |g: usize| border(panels, groups, g);
            let chunks = border(chunks, tasks, task)..border(chunks, tasks, task + 1);
            pass.task(task, chunks, edge(group)..edge(group + 1));
        });
        norm::reduce(partials, tasks, c_out, [&mut *mean, &mut *variance]);
        let count = pixels.max(1) as f64;
        for (m, v) in mean.iter_mut().zip(variance) {
            *m /= count;
            *v = (*v / count - *m * *m).max(0.0);
        }
        Ok(())
    }
}

/// Runs of pixels with sums of their own.
fn tasks(pixels: usize) -> usize {
    pixels.div_ceil(CHUNK).clamp(1, MAX_TASKS)
}

/// A pass under way.
struct Pass<'a> {
    forward: &'a PointwiseForward<'a>,
    raster: &'a Raster,
    output: Shared<f32>,
    sums: Shared<f64>,
}

impl Pass<'_> {
    /// The chunks `chunks` for the output's channels in the panels `panels`.
    fn task(&self, task: usize, chunks: Range<usize>, panels: Range<usize>) {
        let f = self.forward;
        let (isa, shape) = (f.weights.isa(), f.weights.shape());
        let (c_in, c_out) = (f.weights.k(), f.weights.columns());
        let edge = |panel: usize| shape.panels(c_out).nth(panel).map_or(c_out, |p| p.0);
        let channels = edge(panels.start)..edge(panels.end);
        // SAFETY: the sums of this task's channels belong to it alone.
        let [sum, square] = [0, 1].map(|k| unsafe {
            let place = (task * 2 + k) * c_out + channels.start;
            let sums = self.sums.slice(place, channels.len());
            sums.fill(0.0);
            sums
        });
        let (data, input) = f.input;
        let all = self.raster.pixels();
        let pitch = scratch_pitch(c_in);
        with_scratch(CHUNK * pitch, |normal| {
            let mut places: [Places; 3] = [[0; CHUNK]; 3];
            let [from, to, ahead] = &mut places;
            for chunk in chunks.clone() {
                let start = chunk * CHUNK;
                let count = CHUNK.min(all - start);
                let next = match chunk + 1 < chunks.end {
                    true => CHUNK.min(all - start - count),
                    false => 0,
                };
                input.places(start, &mut from[..count]);
                input.places(start + count, &mut ahead[..next]);
                self.raster.places(start, &mut to[..count]);
                let rows = Normal {
                    input: data,
                    places: &from[..count],
                    start: 0,
                    scale: f.affine.scale,
                    shift: f.affine.shift,
                };
                normalise(isa, &rows, normal, pitch);
                let many = count * panels.len();
                let mut done = 0;
                for (start, vectors, panel) in
                    f.weights.iter().skip(panels.start).take(panels.len())
                {
                    let width = vectors * shape.lanes;
                    let columns = width.min(c_out - start);
                    for rows in evenly(0..count, shape.mr(vectors)) {
                        let fetched = next * done / many..next * (done + rows.len()) / many;
                        done += rows.len();
                        prefetch(isa, data, &ahead[fetched], c_in);
                        assert!(rows.end * pitch <= normal.len() && c_in * width <= panel.len());
                        let tile = Tile {
                            a: normal[rows.start * pitch..].as_ptr(),
                            a_row: pitch,
                            a_k: 1,
                            taps: &[0],
                            b: panel.as_ptr(),
                            b_tap: 0,
                            b_k: width,
                            k: c_in,
                            rows: rows.len(),
                            vectors,
                        };
                        let last = to[rows.end - 1];
                        let pixels = Pixels {
                            output: self
                                .output
                                .pointer(last + start, columns)
                                .wrapping_sub(last),
                            places: &to[rows],
                            columns,
                            affine: None,
                            relu: false,
                            bf16: false,
                        };
                        // SAFETY: the assertion bounds both operands; places ascend and the last one is in bounds; every
                        // pixel and every column belongs to one task.
                        unsafe { tile::compute_pixels(isa, &tile, &pixels) };
                    }
                }
                let last = to[count - 1] + channels.start;
                let rows = Written {
                    output: self
                        .output
                        .pointer(last, channels.len())
                        .wrapping_sub(last - channels.start),
                    places: &to[..count],
                };
                add_powers(isa, &rows, &mut *sum, &mut *square);
            }
        });
    }
}

/// Pixels that were just written: as many channels from `output + place` on as there are sums.
pub(crate) struct Written<'a> {
    pub output: *const f32,
    pub places: &'a [usize],
}

dispatch! {
    /// Adds Σ y and Σ y² per channel.
    pub(crate) fn add_powers(rows: &Written<'_>, sum: &mut [f64], square: &mut [f64]) = add_powers_body
}

#[inline(always)]
fn add_powers_body<S: Simd>(rows: &Written<'_>, sum: &mut [f64], square: &mut [f64]) {
    const WIDTH: usize = 16;
    let mut first = 0;
    for (sum, square) in sum.chunks_mut(WIDTH).zip(square.chunks_mut(WIDTH)) {
        let n = sum.len().min(square.len());
        let (mut s, mut q) = ([0.0f64; WIDTH], [0.0f64; WIDTH]);
        for place in rows.places {
            // SAFETY: whoever made the rows guarantees these channels of every pixel, which no other task touches.
            let pixel = unsafe { std::slice::from_raw_parts(rows.output.add(place + first), n) };
            if let Ok(pixel) = <&[f32; WIDTH]>::try_from(pixel) {
                for c in 0..WIDTH {
                    let y = f64::from(pixel[c]);
                    s[c] += y;
                    q[c] += y * y;
                }
            } else {
                for (c, y) in pixel.iter().enumerate() {
                    let y = f64::from(*y);
                    s[c] += y;
                    q[c] += y * y;
                }
            }
        }
        sum.iter_mut().zip(s).for_each(|(t, v)| *t += v);
        square.iter_mut().zip(q).for_each(|(t, v)| *t += v);
        first += WIDTH;
    }
}
