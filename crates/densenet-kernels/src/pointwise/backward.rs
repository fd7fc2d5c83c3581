//! Back through norm, ReLU and a 1×1 convolution in one pass over the pixels.
//!
//! A dense layer's first half reads a map x that is wide and gives a bottleneck that is not. With the gradient g at the
//! bottleneck, its weight needs `relu(norm(x))ᵀ · g`, the map's gradient `g · weightᵀ` with the ReLU's mask, and the norm
//! two sums over the masked product. All of it reads x, so all of it is done for a chunk of pixels while that is in the
//! cache:
//!
//! ```text
//! g  = of_grad·g + of_input·(b − μ_b) + constant        where norm2's own backward is still due (b: its input)
//! n  = relu(scale·x + shift)
//! grad_weight += nᵀ·g
//! m  = (scale·x + shift > 0) ? g·weightᵀ : 0
//! grad_input += scale·m,  Σ m,  Σ m·(x − μ)·s
//! ```
//!
//! [`crate::norm`] derives the last line.

use std::ops::Range;

use super::{
    CHUNK, Normal, Places,
    masked::{Masked, fetch_gradient, store_masked},
    normalise, prefetch,
};
use crate::{
    Isa, KernelError, Panels, Raster,
    conv::scratch_pitch,
    error::{at_least, exactly},
    isa::dispatch,
    norm::{self, Affine, Combination, Statistics},
    parallel::{Shared, border, evenly, for_each, with_scratch},
    simd::{Simd, load_some, store_some},
    tile::{self, MAX_TILE, Product, Tile, TileShape},
};

/// The gradient at a convolution's output.
#[derive(Clone, Copy)]
pub struct OutputGradient<'a> {
    /// The gradient, or what it is computed from.
    pub grad: (&'a [f32], Raster),
    /// What a norm behind the convolution still has to do to it, and that norm's input.
    pub rest: Option<(Combination<'a>, &'a [f32], Raster)>,
}

/// What the backward pass of norm, ReLU and 1×1 convolution reads; the module has the formula.
pub struct PointwiseBackward<'a> {
    /// The norm's input, in the raster of the gradient that is added to.
    pub input: (&'a [f32], Raster),
    /// The folded norm.
    pub affine: Affine<'a>,
    /// μ and s of the input.
    pub statistics: Statistics<'a>,
    /// The gradient at the convolution's output.
    pub grad_output: OutputGradient<'a>,
    /// The weight, packed for the input gradient.
    pub weights: &'a Panels,
}

/// What it writes.
pub struct PointwiseTargets<'a> {
    /// The gradient at the norm's input, added to.
    pub grad_input: &'a mut [f32],
    /// The gradient of the weight, `[c_in][c_out]`, added to, with scratch memory of [`PointwiseBackward::partials`]
    /// elements; `None` where the weight is not trained.
    pub grad_weight: Option<(&'a mut [f32], &'a mut [f32])>,
    /// Σ m and Σ m·x̂ per channel of the input.
    pub sums: [&'a mut [f64]; 2],
    /// Scratch memory of [`PointwiseBackward::partial_sums`] elements.
    pub partial_sums: &'a mut [f64],
}

/// Pixels that each partial gradient of the weight must cover: it costs as much as four of them to clear and add one.
const SPLIT: usize = 4 * CHUNK;

/// Tasks worth having.
const TASKS: usize = 16;

/// How the work is cut, by its shape alone: pixels into `splits`, the input's channels into `groups` of panels.
#[derive(Clone, Copy)]
struct Cut {
    splits: usize,
    groups: usize,
}

impl Cut {
    fn new(pixels: usize, panels: usize) -> Self {
        let splits = (pixels / SPLIT).clamp(1, TASKS);
        Cut {
            splits,
            groups: TASKS.div_ceil(splits).min(panels).max(1),
        }
    }
}

impl PointwiseBackward<'_> {
    /// Elements of scratch memory for the weight's gradient.
    pub fn partials(isa: Isa, [c_in, c_out]: [usize; 2], pixels: usize) -> usize {
        let shape = TileShape::of(isa);
        Cut::new(pixels, shape.count(c_in)).splits * c_in * shape.padded(c_out)
    }

    /// Elements of scratch memory for the sums.
    pub fn partial_sums(isa: Isa, c_in: usize, pixels: usize) -> usize {
        let panels = TileShape::of(isa).count(c_in);
        Cut::new(pixels, panels).splits * 2 * c_in
    }

    /// Runs the pass.
    ///
    /// # Errors
    /// A buffer or channel count does not fit.
    ///
    /// # Numerics
    /// f32. The weight's gradient is one chain of multiply-adds per run of pixels, the runs added in order; sums are f32
    /// over 84 pixels, then f64. The cut depends on the shape and the instruction set alone: bit-identical at any
    /// thread count.
    pub fn run(&self, targets: PointwiseTargets<'_>) -> Result<(), KernelError> {
        self.check(&targets)?;
        let (c_in, c_out) = (self.weights.columns(), self.weights.k());
        let [sum_m, sum_mx] = targets.sums;
        let pixels = self.input.1.pixels();
        if pixels == 0 || c_in == 0 {
            sum_m.fill(0.0);
            sum_mx.fill(0.0);
            return Ok(());
        }
        let shape = self.weights.shape();
        let cut = Cut::new(pixels, self.weights.count());
        let pitch = shape.padded(c_out);
        // A single run needs no partial gradient.
        let direct = cut.splits == 1 && pitch == c_out;
        let (mut grad_weight, partials) = targets.grad_weight.unzip();
        let weight = match (&mut grad_weight, partials) {
            (Some(weight), _) if direct => Some(Shared::new(weight)),
            (_, partials) => partials.map(Shared::new),
        };
        let pass = Pass {
            backward: self,
            grad_input: Shared::new(targets.grad_input),
            weight,
            add: direct,
            pitch,
            sums: Shared::new(targets.partial_sums),
        };
        let chunks = pixels.div_ceil(CHUNK);
        for_each(cut.splits * cut.groups, |task| {
            let (split, group) = (task / cut.groups, task % cut.groups);
            let edge = |g: usize| border(self.weights.count(), cut.groups, g);
            let chunks = border(chunks, cut.splits, split)..border(chunks, cut.splits, split + 1);
            pass.task(split, chunks, edge(group)..edge(group + 1));
        });
        norm::reduce(
            targets.partial_sums,
            cut.splits,
            c_in,
            [&mut *sum_m, &mut *sum_mx],
        );
        for (sum, s) in sum_mx.iter_mut().zip(self.statistics.inv_std) {
            *sum *= f64::from(*s);
        }
        if let (Some(grad), Some(partials), false) = (grad_weight, weight, direct) {
            add_partials(grad, partials, cut.splits, [c_in, c_out, pitch]);
        }
        Ok(())
    }

    fn check(&self, targets: &PointwiseTargets<'_>) -> Result<(), KernelError> {
        const OP: &str = "pointwise backward";
        let (c_in, c_out) = (self.weights.columns(), self.weights.k());
        let (input, raster) = &self.input;
        let (grad, at) = &self.grad_output.grad;
        at_least(OP, "input", raster.len(), input.len())?;
        at_least(
            OP,
            "channels of the input",
            raster.offset + c_in,
            raster.stride,
        )?;
        at_least(
            OP,
            "gradient of the input",
            raster.len(),
            targets.grad_input.len(),
        )?;
        at_least(OP, "gradient", at.len(), grad.len())?;
        at_least(OP, "channels of the gradient", at.offset + c_out, at.stride)?;
        exactly(OP, "pixels of the gradient", raster.pixels(), at.pixels())?;
        self.affine.check(OP, c_in)?;
        exactly(OP, "mean", c_in, self.statistics.mean.len())?;
        exactly(OP, "inverse deviation", c_in, self.statistics.inv_std.len())?;
        if let Some((combination, map, from)) = &self.grad_output.rest {
            exactly(OP, "coefficients", c_out, combination.check(OP)?)?;
            at_least(OP, "input of the norm behind", from.len(), map.len())?;
            at_least(OP, "channels of that", from.offset + c_out, from.stride)?;
            exactly(OP, "pixels of that", raster.pixels(), from.pixels())?;
        }
        let isa = self.weights.isa();
        if let Some((weight, partials)) = &targets.grad_weight {
            exactly(OP, "weight", c_in * c_out, weight.len())?;
            let needed = Self::partials(isa, [c_in, c_out], raster.pixels());
            at_least(OP, "scratch", needed, partials.len())?;
        }
        exactly(OP, "sums", c_in, targets.sums[0].len())?;
        exactly(OP, "sums", c_in, targets.sums[1].len())?;
        let needed = Self::partial_sums(isa, c_in, raster.pixels());
        at_least(OP, "partial sums", needed, targets.partial_sums.len())
    }
}

/// Adds runs of a weight's gradient, `[run][row][pitch]`, in order.
fn add_partials(
    grad: &mut [f32],
    partials: Shared<f32>,
    splits: usize,
    [rows, columns, pitch]: [usize; 3],
) {
    let shared = Shared::new(grad);
    for_each(rows.div_ceil(16), |task| {
        for row in task * 16..((task + 1) * 16).min(rows) {
            // SAFETY: each row belongs to one task, and nobody writes the partial gradients any more.
            let sum = unsafe { shared.slice(row * columns, columns) };
            for split in 0..splits {
                // SAFETY: as above.
                let part = unsafe { partials.slice((split * rows + row) * pitch, columns) };
                sum.iter_mut().zip(part.iter()).for_each(|(s, p)| *s += p);
            }
        }
    });
}

/// A pass under way.
struct Pass<'a> {
    backward: &'a PointwiseBackward<'a>,
    grad_input: Shared<f32>,
    /// `[split][c_in][pitch]`, or the gradient itself.
    weight: Option<Shared<f32>>,
    /// Whether it holds something that is added to.
    add: bool,
    pitch: usize,
    sums: Shared<f64>,
}

impl Pass<'_> {
    /// The chunks `chunks` for the input's channels in the panels `panels`.
    fn task(&self, split: usize, chunks: Range<usize>, panels: Range<usize>) {
        let b = self.backward;
        let (isa, shape) = (b.weights.isa(), b.weights.shape());
        let (c_in, c_out) = (b.weights.columns(), b.weights.k());
        let first = shape.panels(c_in).nth(panels.start).map_or(0, |p| p.0);
        let end = shape.panels(c_in).nth(panels.end).map_or(c_in, |p| p.0);
        let (channels, n) = (first..end, end - first);
        let (data, raster) = b.input;
        let all = raster.pixels();
        // SAFETY: the sums of this split's and group's channels belong to this task alone.
        let [sum_m, sum_mx] = [0, 1].map(|k| unsafe {
            let sums = self.sums.slice((split * 2 + k) * c_in + first, n);
            sums.fill(0.0);
            sums
        });
        let mut weight = self.weight.as_ref().map(|weight| {
            // SAFETY: these rows of this split belong to this task alone.
            unsafe { weight.slice((split * c_in + first) * self.pitch, n * self.pitch) }
        });
        let (pitch_g, pitch_n) = (scratch_pitch(c_out), scratch_pitch(n));
        let padded = n.next_multiple_of(16);
        with_scratch(CHUNK * (pitch_g + pitch_n) + 2 * padded, |scratch| {
            let (grad, rest) = scratch.split_at_mut(CHUNK * pitch_g);
            let (normal, sums) = rest.split_at_mut(CHUNK * pitch_n);
            let (mut places, mut ahead): (Places, Places) = ([0; CHUNK], [0; CHUNK]);
            for chunk in chunks.clone() {
                let start = chunk * CHUNK;
                let count = CHUNK.min(all - start);
                raster.places(start, &mut places[..count]);
                let places = &places[..count];
                self.gradient(start, count, (&mut *grad, pitch_g));
                let rows = Normal {
                    input: data,
                    places,
                    start: first,
                    scale: &b.affine.scale[channels.clone()],
                    shift: &b.affine.shift[channels.clone()],
                };
                normalise(isa, &rows, normal, pitch_n);
                let next = match chunk + 1 < chunks.end {
                    true => CHUNK.min(all - (start + count)),
                    false => 0,
                };
                raster.places(start + count, &mut ahead[..next]);
                let (grad_source, at) = &b.grad_output.grad;
                let ahead = |share: Range<usize>, of: usize| {
                    let share = next * share.start / of..next * share.end / of;
                    prefetch(isa, &data[first..], &ahead[share.clone()], n);
                    // What the next chunk's gradient is made of: pixels side by side, mostly.
                    let pixel = |i: usize| start + count + i;
                    for i in share {
                        prefetch(isa, grad_source, &[at.pixel(pixel(i))], c_out);
                        if let Some((_, map, from)) = &b.grad_output.rest {
                            prefetch(isa, map, &[from.pixel(pixel(i))], c_out);
                        }
                    }
                };
                if let Some(weight) = &mut weight {
                    let factors = [(&*normal, pitch_n), (&*grad, pitch_g)];
                    let add = self.add || chunk > chunks.start;
                    self.weight(factors, (count, n), (weight, add), ahead);
                }
                sums.fill(0.0);
                let chunk = Chunk {
                    places,
                    grad: (grad, pitch_g),
                    first,
                };
                self.input(&chunk, panels.clone(), sums.split_at_mut(padded));
                for (total, part) in [(&mut *sum_m, &sums[..n]), (&mut *sum_mx, &sums[padded..])] {
                    for (t, p) in total.iter_mut().zip(part) {
                        *t += f64::from(*p);
                    }
                }
            }
        });
    }

    /// The gradient at the convolution's output for some pixels, rows of whole registers.
    fn gradient(&self, start: usize, count: usize, (rows, pitch): (&mut [f32], usize)) {
        let b = self.backward;
        let c_out = b.weights.k();
        let (grad, at) = &b.grad_output.grad;
        let (mut places, mut others): (Places, Places) = ([0; CHUNK], [0; CHUNK]);
        at.places(start, &mut places[..count]);
        match &b.grad_output.rest {
            None => {
                for (row, place) in rows.chunks_exact_mut(pitch).zip(&places[..count]) {
                    row[..c_out].copy_from_slice(&grad[*place..*place + c_out]);
                    row[c_out..].fill(0.0);
                }
            }
            Some((combination, map, from)) => {
                from.places(start, &mut others[..count]);
                let pixels = places[..count].iter().zip(&others[..count]);
                for (row, (g, x)) in rows.chunks_exact_mut(pitch).zip(pixels) {
                    let (g, x) = (&grad[*g..*g + c_out], &map[*x..*x + c_out]);
                    combine(b.weights.isa(), combination, g, x, &mut row[..c_out]);
                    row[c_out..].fill(0.0);
                }
            }
        }
    }

    /// `weight (+)= normalᵀ · grad` over a chunk of `count` pixels, `+` if asked for; fetches the next one's in passing.
    fn weight(
        &self,
        [(normal, pitch_n), (grad, pitch_g)]: [(&[f32], usize); 2],
        (count, n): (usize, usize),
        (weight, add): (&mut [f32], bool),
        ahead: impl Fn(Range<usize>, usize),
    ) {
        let b = self.backward;
        let (isa, shape, c_out) = (b.weights.isa(), b.weights.shape(), b.weights.k());
        assert!(count * pitch_n <= normal.len() && count * pitch_g <= grad.len());
        assert!(n <= pitch_n && self.pitch <= pitch_g && n * self.pitch <= weight.len());
        for (index, (column, vectors)) in shape.panels(c_out).enumerate() {
            for rows in evenly(0..n, shape.mr(vectors)) {
                if index == 0 {
                    ahead(rows.clone(), n);
                }
                let tile = Tile {
                    a: normal[rows.start..].as_ptr(),
                    a_row: 1,
                    a_k: pitch_n,
                    taps: &[0],
                    b: grad[column..].as_ptr(),
                    b_tap: 0,
                    b_k: pitch_g,
                    k: count,
                    rows: rows.len(),
                    vectors,
                };
                let product = Product {
                    start: weight[rows.start * self.pitch + column..].as_mut_ptr(),
                    row: self.pitch,
                    accumulate: add,
                };
                // SAFETY: both factors hold `count` rows of their pitch, and their columns fit it (asserted); the tile's
                // rows and whole registers lie in `weight`, which is borrowed mutably.
                unsafe { tile::compute(isa, &tile, &product) };
            }
        }
    }

    /// `grad · weightᵀ`, masked, into the input's gradient and the sums.
    fn input(&self, chunk: &Chunk<'_>, panels: Range<usize>, sums: (&mut [f32], &mut [f32])) {
        let b = self.backward;
        let (isa, shape, c_out) = (b.weights.isa(), b.weights.shape(), b.weights.k());
        let (grad, pitch) = chunk.grad;
        let mut product = Scratch([0.0; MAX_TILE]);
        for (start, vectors, panel) in b.weights.iter().skip(panels.start).take(panels.len()) {
            let width = vectors * shape.lanes;
            let columns = width.min(b.weights.columns() - start);
            let channels = start..start + columns;
            for rows in evenly(0..chunk.places.len(), shape.mr(vectors)) {
                let places = &chunk.places[rows.clone()];
                let (data, _) = b.input;
                let last = places.last().map_or(0, |p| p + start);
                assert!(last + columns <= data.len());
                assert!(rows.end * pitch <= grad.len() && c_out <= pitch);
                assert!(c_out * width <= panel.len() && rows.len() * width <= MAX_TILE);
                let tile = Tile {
                    a: grad[rows.start * pitch..].as_ptr(),
                    a_row: pitch,
                    a_k: 1,
                    taps: &[0],
                    b: panel.as_ptr(),
                    b_tap: 0,
                    b_k: width,
                    k: c_out,
                    rows: rows.len(),
                    vectors,
                };
                let masked = Masked {
                    product: product.0.as_mut_ptr(),
                    width,
                    places,
                    columns,
                    input: data[start..].as_ptr(),
                    // The last pixel is in bounds, and places ascend.
                    grad: self
                        .grad_input
                        .pointer(last, columns)
                        .wrapping_sub(last - start),
                    scale: b.affine.scale[channels.clone()].as_ptr(),
                    shift: b.affine.shift[channels.clone()].as_ptr(),
                    mean: b.statistics.mean[channels.clone()].as_ptr(),
                    sum_m: sums.0[start - chunk.first..][..width].as_mut_ptr(),
                    sum_mx: sums.1[start - chunk.first..][..width].as_mut_ptr(),
                };
                let target = Product {
                    start: masked.product,
                    row: width,
                    accumulate: false,
                };
                fetch_gradient(isa, &masked);
                // SAFETY: the assertions bound both operands and the product; the columns of these pixels belong to this
                // task alone, and `masked` holds slices of `columns` values or whole registers, checked as they were
                // taken.
                unsafe { tile::compute(isa, &tile, &target) };
                store_masked(isa, &masked);
            }
        }
    }
}

/// A chunk on its way into the input's gradient.
struct Chunk<'a> {
    places: &'a [usize],
    grad: (&'a [f32], usize),
    /// The first channel of the task.
    first: usize,
}

/// A tile's product, aligned to a cache line.
#[repr(align(64))]
struct Scratch([f32; MAX_TILE]);

dispatch! {
    /// A [`Combination`] of one pixel's gradient and the norm's input.
    fn combine(combination: &Combination<'_>, grad: &[f32], input: &[f32], output: &mut [f32]) = combine_body
}

#[inline(always)]
fn combine_body<S: Simd>(
    combination: &Combination<'_>,
    grad: &[f32],
    input: &[f32],
    output: &mut [f32],
) {
    let n = output.len();
    let (grad, input) = (&grad[..n], &input[..n]);
    let (a, b) = (&combination.of_grad[..n], &combination.of_input[..n]);
    let (constant, mean) = (&combination.constant[..n], &combination.mean[..n]);
    for c in (0..n).step_by(S::LANES) {
        let many = S::LANES.min(n - c);
        // SAFETY: all hold `n` elements, as sliced above; the shell around us has the instruction set.
        unsafe {
            let at = |from: &[f32]| load_some::<S>(from.as_ptr().add(c), many);
            let v = S::fma(at(b), S::sub(at(input), at(mean)), at(constant));
            store_some::<S>(output.as_mut_ptr().add(c), S::fma(at(a), at(grad), v), many);
        }
    }
}
