//! Convolutions, forward and with respect to their input, over channels-last maps.

mod paired;

use std::ops::Range;

use densenet_spec::Window;

use crate::{
    Isa, KernelError, Panels, Raster,
    error::{at_least, exactly},
    norm::{self, Affine, Centred, NormBackward},
    panels::Element,
    parallel::{MAX_TASKS, Shared, Tapered, border, evenly, for_each, with_scratch},
    tile::{self, MAX_TILE, Pixels, Product, Tile},
};
pub use paired::Paired;

/// What a convolution reads.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// The map itself, in a raster whose halo (of zeros) is at least the window's padding.
    Map(&'a [f32], Raster),
    /// `relu(scale · x + shift)` of a map, computed as it is loaded. Only for 1×1 windows.
    NormRelu(&'a [f32], Raster, Affine<'a>),
    /// The same less a constant: see [`Centred`].
    Centred(&'a [f32], Raster, Centred<'a>),
    /// A map of bf16, two to an element, as [`Store::AffineBf16`] left it: raster and channels count pairs.
    Bf16(&'a [f32], Raster),
}

/// What happens to a product on its way to memory.
pub enum Store<'a> {
    /// `output = product`
    Overwrite,
    /// `output = scale[c] · product + shift[c]`, rectified if asked for: the norm after a convolution, or its bias.
    Affine {
        /// One value per output channel.
        affine: Affine<'a>,
        /// Whether to take `max(·, 0)`.
        relu: bool,
    },
    /// [`Store::Affine`], rectified and rounded to bf16: two channels to an element, so raster and places count pairs.
    AffineBf16(Affine<'a>),
    /// The product is the gradient at a norm + ReLU's output: see [`NormBackward`]. `output` is the gradient at the
    /// norm's input and is added to.
    NormBackward(NormBackward<'a>),
}

/// A convolution without bias: `output[p, o] = Σ_tap Σ_c input[p·stride + tap, c] · weight[tap, c, o]`.
///
/// # Layout
/// Input and output are rasters of their own strides, so that a layer reads the first channels of a dense block's
/// buffer and writes right behind them. A kernel wider than one pixel needs an input whose pixels are `c_in` apart.
///
/// # Numerics
/// Every output is one chain of multiply-adds in f32, ascending over taps and channels: bit-identical for any thread
/// count, batch and tiling. With a weight in bf16, all sources but maps of bf16 are rounded to bf16 as they are loaded;
/// products are exact and sums stay f32.
///
/// # Source
/// Georganas et al., *Anatomy of high-performance deep learning convolutions*, arXiv:1808.05567 (direct convolution as
/// small products); Dukhan, *The indirect convolution algorithm*, arXiv:1907.02129 (rows gathered where a tile wraps).
pub struct Conv<'a> {
    /// Kernel, stride and padding.
    pub window: Window,
    /// Channels read.
    pub c_in: usize,
    /// Where they are read from.
    pub source: Source<'a>,
    /// The packed weight.
    pub weights: &'a Panels,
}

/// Pixels a task handles at a time: a multiple of most tiles' rows (14, 12, 6, 4), small enough that 84 rows of 1,024
/// channels stay in a 1 MiB second-level cache.
const CHUNK: usize = 84;

/// How many tasks a convolution with this output is cut into along its pixels; the number of partial sums that
/// [`Store::NormBackward`] needs.
pub fn tasks(output: &Raster) -> usize {
    output.pixels().div_ceil(CHUNK).clamp(1, MAX_TASKS)
}

impl Conv<'_> {
    /// Computes the convolution into `output`, whose pixels lie where `raster` says.
    ///
    /// # Errors
    /// A buffer, halo or channel count does not fit.
    pub fn run(
        &self,
        output: &mut [f32],
        raster: &Raster,
        mut store: Store<'_>,
    ) -> Result<(), KernelError> {
        self.check(output, raster, &store)?;
        if raster.pixels() == 0 {
            return Ok(());
        }
        let (panels, pixels) = (self.weights.count(), raster.pixels());
        let threads = rayon::current_num_threads();
        let free = match store {
            // Partial sums ask for the same cut for any number of threads.
            Store::NormBackward(_) => None,
            // One chunk is left whole where the threads can share the panels.
            _ if pixels <= CHUNK && panels >= threads => None,
            _ => {
                let rows = self.weights.shape().widest_rows(self.weights.columns());
                Some(Tapered::new(pixels, (CHUNK / rows * rows, rows)))
            }
        };
        let pixel_tasks = free.map_or(tasks(raster), |cut| cut.parts());
        // Small maps are also cut along the output channels, so that every thread has work, though each cut loads the pixels
        // anew.
        let groups = (2 * threads).div_ceil(pixel_tasks).min(panels);
        let shared = Shared::new(output);
        let sums = match &mut store {
            Store::NormBackward(n) => Some(Shared::new(n.sums)),
            _ => None,
        };
        let plan = Plan {
            conv: self,
            taps: self.taps(),
            raster,
            store: &store,
            output: shared,
            sums,
        };
        for_each(pixel_tasks * groups, |task| {
            let (t, g) = (task / groups, task % groups);
            let panels = border(panels, groups, g)..border(panels, groups, g + 1);
            if let Some(cut) = free {
                return plan.chunk(t, cut.part(t), panels);
            }
            let chunks = pixels.div_ceil(CHUNK);
            for chunk in border(chunks, pixel_tasks, t)..border(chunks, pixel_tasks, t + 1) {
                let chunk = chunk * CHUNK..((chunk + 1) * CHUNK).min(pixels);
                plan.chunk(t, chunk, panels.clone());
            }
        });
        Ok(())
    }

    /// The kernel's id in logs and benchmarks: `op.pass.dtype.tile.fusion.isa`.
    pub fn id(&self, store: &Store<'_>) -> String {
        let [_, height, width] = self.window.kernel;
        let op = match self.window.kernel[0] {
            1 => format!("conv{height}x{width}"),
            depth => format!("conv{depth}x{height}x{width}"),
        };
        let dtype = match self.weights.element() {
            Element::F32 => "f32",
            Element::Bf16Pair => "bf16",
        };
        let load = match self.source {
            Source::NormRelu(..) | Source::Centred(..) => "norm_relu+",
            _ => "",
        };
        let fusion = match store {
            Store::Overwrite => "store",
            Store::Affine { relu: false, .. } => "affine",
            Store::Affine { .. } | Store::AffineBf16(_) => "affine_relu",
            Store::NormBackward(_) => "norm_backward",
        };
        let tile = self.weights.shape().name(self.weights.columns());
        let isa = self.weights.isa().name();
        format!("{op}.forward.{dtype}.{tile}.{load}{fusion}.{isa}")
    }

    /// Offsets of the kernel's rows from a pixel's first tap. The taps along the width are contiguous in memory.
    fn taps(&self) -> Taps {
        let raster = self.input_raster();
        let [kd, kh, _] = self.window.kernel;
        let mut taps = Taps {
            few: [0; FEW_TAPS],
            many: Vec::new(),
            count: kd * kh,
        };
        if taps.count > FEW_TAPS {
            taps.many.resize(taps.count, 0);
        }
        for (i, tap) in taps.as_mut_slice().iter_mut().enumerate() {
            *tap = i / kh * raster.plane_pitch() + i % kh * raster.row_pitch();
        }
        taps
    }

    fn input_raster(&self) -> Raster {
        match self.source {
            Source::Map(_, raster)
            | Source::NormRelu(_, raster, _)
            | Source::Centred(_, raster, _)
            | Source::Bf16(_, raster) => raster,
        }
    }

    fn check(&self, output: &[f32], raster: &Raster, store: &Store<'_>) -> Result<(), KernelError> {
        const OP: &str = "convolution";
        let input = self.input_raster();
        let bf16 = self.weights.element() == Element::Bf16Pair;
        let mut rows = self.window.taps() * self.c_in;
        let data = match self.source {
            Source::Map(data, _) => {
                if bf16 {
                    exactly(OP, "kernel over f32 in bf16", 1, self.window.taps())?;
                    rows = rows.div_ceil(2);
                }
                data
            }
            Source::Bf16(data, _) => {
                exactly(OP, "weight in bf16", 1, usize::from(bf16))?;
                data
            }
            Source::NormRelu(data, _, affine)
            | Source::Centred(data, _, Centred { affine, .. }) => {
                exactly(OP, "kernel of a normalised source", 1, self.window.taps())?;
                affine.check(OP, self.c_in)?;
                if let Source::Centred(_, _, Centred { floor, .. }) = self.source {
                    exactly(OP, "floor", self.c_in, floor.len())?;
                }
                if bf16 {
                    rows = rows.div_ceil(2);
                }
                data
            }
        };
        check_source(OP, &self.window, self.c_in, data, &input)?;
        let spatial = self.window.output(input.spatial).unwrap_or([0; 3]);
        exactly(OP, "batch of the output", input.batch, raster.batch)?;
        for (needed, found) in spatial.into_iter().zip(raster.spatial) {
            exactly(OP, "size of the output", needed, found)?;
        }
        at_least(OP, "output", raster.len(), output.len())?;
        let c_out = self.weights.columns();
        let elements = match store {
            Store::AffineBf16(_) => c_out.div_ceil(2),
            _ => c_out,
        };
        let channels = raster.offset + elements;
        at_least(OP, "channels of the output", channels, raster.stride)?;
        exactly(OP, "rows of the weight", rows, self.weights.k())?;
        match store {
            Store::Overwrite => Ok(()),
            Store::Affine { affine, .. } => affine.check(OP, c_out),
            Store::AffineBf16(affine) => {
                exactly(OP, "odd channels of pairs", 0, c_out % 2)?;
                affine.check(OP, c_out)
            }
            Store::NormBackward(n) => {
                exactly(OP, "gradient in bf16", 0, usize::from(bf16))?;
                n.check(OP, raster, c_out)
            }
        }
    }
}

/// Checks that every tap of `window` over `raster` lies in `data`.
pub(crate) fn check_source(
    operation: &'static str,
    window: &Window,
    c_in: usize,
    data: &[f32],
    raster: &Raster,
) -> Result<(), KernelError> {
    at_least(operation, "input", raster.len(), data.len())?;
    at_least(
        operation,
        "channels of the input",
        raster.offset + c_in,
        raster.stride,
    )?;
    for axis in 0..3 {
        at_least(
            operation,
            "halo of the input",
            window.padding[axis],
            raster.halo[axis],
        )?;
        at_least(operation, "stride", 1, window.stride[axis])?;
    }
    if window.kernel[2] > 1 {
        exactly(operation, "pixel stride of the input", c_in, raster.stride)?;
    }
    Ok(())
}

/// The place of the first tap of the output pixel whose input pixel (before padding) is `(row, x)` of `raster`.
pub(crate) fn origins(
    window: &Window,
    input: &Raster,
    output: &Raster,
    first: usize,
    places: &mut [usize],
) {
    let [depth, height, width] = output.spatial;
    let (mut x, row) = (first % width.max(1), first / width.max(1));
    let (mut y, plane) = (row % height.max(1), row / height.max(1));
    let (mut z, mut n) = (plane % depth.max(1), plane / depth.max(1));
    let shifted = |axis: usize| input.halo[axis] - window.padding[axis];
    let row = |n: usize, z: usize, y: usize| {
        n * input.sample_pitch()
            + (z * window.stride[0] + shifted(0)) * input.plane_pitch()
            + (y * window.stride[1] + shifted(1)) * input.row_pitch()
            + shifted(2) * input.stride
            + input.offset
    };
    let step = window.stride[2] * input.stride;
    let mut at = row(n, z, y) + x * step;
    for place in places {
        *place = at;
        (x, at) = (x + 1, at + step);
        if x == width {
            (x, y) = (0, y + 1);
            if y == height {
                (y, z) = (0, z + 1);
                if z == depth {
                    (z, n) = (0, n + 1);
                }
            }
            at = row(n, z, y);
        }
    }
}

/// Rows of a kernel that need no memory of their own: those of 7×7×7.
const FEW_TAPS: usize = 49;

/// The places of a kernel's rows.
struct Taps {
    few: [usize; FEW_TAPS],
    /// Where there are more.
    many: Vec<usize>,
    count: usize,
}

impl Taps {
    fn as_slice(&self) -> &[usize] {
        if self.count <= FEW_TAPS {
            &self.few[..self.count]
        } else {
            &self.many
        }
    }

    fn as_mut_slice(&mut self) -> &mut [usize] {
        if self.count <= FEW_TAPS {
            &mut self.few[..self.count]
        } else {
            &mut self.many
        }
    }
}

/// A convolution under way.
struct Plan<'a> {
    conv: &'a Conv<'a>,
    taps: Taps,
    raster: &'a Raster,
    store: &'a Store<'a>,
    output: Shared<f32>,
    sums: Option<Shared<f64>>,
}

/// One chunk's pixels: where their first taps are read and where their outputs go.
struct Places {
    count: usize,
    input: [usize; CHUNK],
    output: [usize; CHUNK],
}

impl Plan<'_> {
    /// Handles the panels `panels` of one chunk of at most [`CHUNK`] pixels, as part of task `task`.
    fn chunk(&self, task: usize, pixels: Range<usize>, panels: Range<usize>) {
        let first = pixels.start;
        let mut places = Places {
            count: pixels.len(),
            input: [0; CHUNK],
            output: [0; CHUNK],
        };
        let n = places.count;
        origins(
            &self.conv.window,
            &self.conv.input_raster(),
            self.raster,
            first,
            &mut places.input[..n],
        );
        self.raster.places(first, &mut places.output[..n]);
        let bf16 = self.conv.weights.element() == Element::Bf16Pair;
        let (data, affine, floor) = match self.conv.source {
            Source::Bf16(data, _) => return self.map(task, data, &places, panels),
            Source::Map(data, _) if !bf16 => return self.map(task, data, &places, panels),
            Source::Map(data, _) => (data, None, None),
            Source::NormRelu(data, _, affine) => (data, Some(affine), None),
            Source::Centred(data, _, centred) => (data, Some(centred.affine), Some(centred.floor)),
        };
        // The pixels as the product takes them: normalised, rectified, rounded.
        let pitch = scratch_pitch(self.conv.weights.k());
        with_scratch(places.count * pitch, |scratch| {
            let rows = norm::Rows {
                input: data,
                places: &places.input[..n],
                channels: self.conv.c_in,
                affine,
                floor,
                bf16,
            };
            rows.write(self.isa(), scratch, pitch);
            for panel in self.panels(panels) {
                let a = Rows {
                    data: scratch,
                    pitch,
                    taps: &[0],
                    k: self.conv.weights.k(),
                };
                self.tiles(task, &places.output[..n], a, panel);
            }
        });
    }

    fn isa(&self) -> Isa {
        self.conv.weights.isa()
    }

    /// Multiplies the chunk's pixels, tile by tile.
    fn map(&self, task: usize, data: &[f32], places: &Places, panels: Range<usize>) {
        let width_k = match self.conv.window.taps() {
            1 => self.conv.weights.k(),
            _ => self.conv.window.kernel[2] * self.conv.c_in,
        };
        let shape = self.conv.weights.shape();
        let pixels = &places.input[..places.count];
        let runs = || Runs(pixels, 0);
        let count = runs().count();
        if count == 1 || count * SHORTEST_RUN <= places.count {
            // Panels outside: a panel stays in the cache while the chunk's pixels pass by.
            for panel in self.panels(panels.clone()) {
                for run in runs() {
                    let pitch = match pixels[run.clone()] {
                        [first, second, ..] => second - first,
                        _ => 0,
                    };
                    let a = Rows {
                        data: &data[pixels[run.start]..],
                        pitch,
                        taps: self.taps.as_slice(),
                        k: width_k,
                    };
                    self.tiles(task, &places.output[run], a, panel);
                }
            }
            return;
        }
        // Rows shorter than a tile are gathered, window by window; the panels share the copy.
        let taps = self.taps.as_slice();
        let window_k = width_k * taps.len();
        let most = shape.most_rows();
        with_scratch(most * window_k, |gathered| {
            for block in evenly(0..places.count, most) {
                for (row, place) in gathered
                    .chunks_exact_mut(window_k)
                    .zip(&pixels[block.clone()])
                {
                    for (part, tap) in row.chunks_exact_mut(width_k).zip(taps) {
                        part.copy_from_slice(&data[place + tap..][..width_k]);
                    }
                }
                for panel in self.panels(panels.clone()) {
                    let a = Rows {
                        data: gathered,
                        pitch: window_k,
                        taps: &[0],
                        k: window_k,
                    };
                    self.tiles(task, &places.output[block.clone()], a, panel);
                }
            }
        });
    }

    fn panels(&self, range: Range<usize>) -> impl Iterator<Item = Panel<'_>> {
        let panels = self.conv.weights.iter();
        let panels = panels.map(|(start, vectors, data)| Panel {
            start,
            vectors,
            data,
        });
        panels.skip(range.start).take(range.len())
    }

    /// Multiplies rows that lie evenly apart by one panel.
    fn tiles(&self, task: usize, places: &[usize], a: Rows<'_>, panel: Panel<'_>) {
        let width = panel.vectors * self.conv.weights.shape().lanes;
        let rows = places.len();
        let furthest = a.taps.last().map_or(0, |t| t + (rows - 1) * a.pitch + a.k);
        assert!(furthest <= a.data.len() && a.taps.len() * a.k * width <= panel.data.len());
        let columns = width.min(self.conv.weights.columns() - panel.start);
        let tile = Tile {
            a: a.data.as_ptr(),
            a_row: a.pitch,
            a_k: 1,
            taps: a.taps,
            b: panel.data.as_ptr(),
            b_tap: a.k * width,
            b_k: width,
            k: a.k,
            rows,
            vectors: panel.vectors,
        };
        let (affine, relu) = match self.store {
            Store::Overwrite => (None, false),
            Store::Affine { affine, relu } => {
                let channels = panel.start..panel.start + columns;
                let (scale, shift) = (&affine.scale[channels.clone()], &affine.shift[channels]);
                (Some((scale.as_ptr(), shift.as_ptr())), *relu)
            }
            Store::AffineBf16(affine) => {
                let channels = panel.start..panel.start + columns;
                let (scale, shift) = (&affine.scale[channels.clone()], &affine.shift[channels]);
                (Some((scale.as_ptr(), shift.as_ptr())), true)
            }
            Store::NormBackward(norm) => {
                // SAFETY: the assertion above bounds both operands (taps ascend).
                return unsafe { self.backward(task, places, &tile, (panel.start, columns), norm) };
            }
        };
        let last = places.last().copied().unwrap_or(0);
        // SAFETY: the assertion above bounds the last element read of both operands (taps ascend), places ascend and the
        // last one is in bounds, and every pixel belongs to one chunk, every column to one panel, each to one task.
        unsafe {
            let bf16 = matches!(self.store, Store::AffineBf16(_));
            let (start, len) = if bf16 {
                (panel.start / 2, columns.div_ceil(2))
            } else {
                (panel.start, columns)
            };
            let pixels = Pixels {
                output: self.output.pointer(last + start, len).sub(last),
                places,
                columns,
                affine,
                relu,
                bf16,
            };
            match self.conv.weights.element() {
                Element::F32 => tile::compute_pixels(self.isa(), &tile, &pixels),
                Element::Bf16Pair => tile::compute_pixels_bf16(self.isa(), &tile, &pixels),
            }
        }
    }

    /// Tiles of the gradient at a norm's output, on to the norm's input.
    ///
    /// # Safety
    /// The operands of `tiles` are in bounds.
    unsafe fn backward(
        &self,
        task: usize,
        places: &[usize],
        tiles: &Tile<'_>,
        (start, columns): (usize, usize),
        norm: &NormBackward<'_>,
    ) {
        let Some(sums) = self.sums else {
            return;
        };
        let shape = self.conv.weights.shape();
        let width = tiles.vectors * shape.lanes;
        let mut product = Scratch([0.0; MAX_TILE]);
        let all = self.conv.weights.columns();
        for rows in evenly(0..tiles.rows, shape.mr(tiles.vectors)) {
            // SAFETY: `product` holds a whole tile, whose operands are some rows of those of `tiles`. Each task has sums of
            // its own and each panel its own columns of them; every pixel belongs to one chunk, every column to one panel,
            // each to one task.
            unsafe {
                let tile = Tile {
                    a: tiles.a.add(rows.start * tiles.a_row),
                    rows: rows.len(),
                    ..*tiles
                };
                let target = Product {
                    start: product.0.as_mut_ptr(),
                    row: width,
                    accumulate: false,
                };
                tile::compute(self.isa(), &tile, &target);
                let sum_g = sums.slice(task * 2 * all + start, columns);
                let sum_gx = sums.slice((task * 2 + 1) * all + start, columns);
                let rows = norm::ProductRows {
                    product: &product.0[..tile.rows * width],
                    width,
                    start,
                    places: &places[rows],
                };
                norm.tile(self.isa(), &rows, &self.output, [sum_g, sum_gx]);
            }
        }
    }
}

/// Runs of evenly spaced pixels that are shorter on average are gathered: a tile of so few rows would be bound by loading weights.
const SHORTEST_RUN: usize = 6;

/// A panel of a packed weight.
#[derive(Clone, Copy)]
struct Panel<'a> {
    start: usize,
    vectors: usize,
    data: &'a [f32],
}

/// Rows of the tile's left operand.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    pitch: usize,
    taps: &'a [usize],
    k: usize,
}

/// A tile's product, aligned to a cache line.
#[repr(align(64))]
struct Scratch([f32; MAX_TILE]);

/// The runs of evenly spaced places, from the second field on.
#[derive(Clone)]
struct Runs<'a>(&'a [usize], usize);

impl Iterator for Runs<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let (places, start) = (self.0, self.1);
        if start == places.len() {
            return None;
        }
        let distance = |i: usize| places[i + 1] - places[i];
        let mut end = (start + 2).min(places.len());
        while end < places.len() && distance(end - 1) == distance(start) {
            end += 1;
        }
        self.1 = end;
        Some(start..end)
    }
}

/// A row pitch for `channels` that is an odd number of cache lines, so that the rows of a tile do not fall into the same
/// set of the first-level cache.
pub(crate) fn scratch_pitch(channels: usize) -> usize {
    let lines = channels.div_ceil(16);
    (lines | 1) * 16
}
