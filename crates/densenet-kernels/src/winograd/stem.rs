//! The stem's 7×7 convolution of stride 2 as a Winograd convolution of stride 1.
//!
//! Space to depth: the four pixels of a 2×2 square become four channels of one, and a 7×7 kernel of stride 2 (its eighth
//! row and column zero) becomes a 4×4 kernel of stride 1, for which F(3×3, 4×4) needs 36 multiplications where 144
//! stood. Along the depth a 7×7×7 kernel stays as it is: the transformed pixels of all depths lie side by side, so that
//! the kernel's seven are one run of memory.
//!
//! ```text
//! out[z, y, x] = Σ_{dz, j, i, φy, φx, c} in[2z + dz − 3, 2(y + j) + φy − 3, 2(x + i) + φx − 3, c] · w[dz, 2j + φy, 2i + φx, c]
//! ```
//!
//! # Source
//! Lavin & Gray, arXiv:1509.09308; the points are those of F(4, 3), so Bᵀ is the same.

use std::ops::Range;
use std::ptr;

use densenet_spec::Window;

use super::transform::{self, COLUMNS, Column, Input, Output, Transform, transform_kernel};
use crate::{
    Buffer, Isa, KernelError, Raster,
    conv::check_source,
    error::{at_least, exactly},
    norm::Affine,
    parallel::{Shared, border, for_each, with_scratch},
    tile::{self, Product, Tile, TileShape},
};

/// Pixels of a transformed patch.
const POINTS: usize = 36;

/// Output pixels of a tile along height and width.
const TILE: usize = 3;

/// A stem's kernel, transformed and packed.
#[derive(Debug)]
pub struct StemWeights {
    isa: Isa,
    shape: TileShape,
    window: Window,
    c_in: usize,
    c_out: usize,
    /// `[point][panel][depth tap · 2 · 2 · c_in][register across]`
    data: Buffer,
}

impl StemWeights {
    /// Whether a convolution with this window can be computed this way: 7 wide and of stride 2 along height and width.
    pub fn fits(window: &Window) -> bool {
        (1..3).all(|axis| window.kernel[axis] == 7 && window.stride[axis] == 2)
    }

    /// Whether tiles are faster than the direct convolution for a sample's output of this size: from a few tiles on.
    pub fn pays(window: &Window, output: [usize; 3]) -> bool {
        Self::fits(window) && output[1] * output[2] >= 64
    }

    /// Transforms and packs `weight`, which is `[tap][c_in][c_out]`.
    ///
    /// # Errors
    /// The window does not fit, or `weight` has another length.
    pub fn packed(
        isa: Isa,
        weight: &[f32],
        window: &Window,
        [c_in, c_out]: [usize; 2],
    ) -> Result<Self, KernelError> {
        const OP: &str = "winograd stem";
        exactly(OP, "window", 1, usize::from(Self::fits(window)))?;
        exactly(OP, "weight", window.taps() * c_in * c_out, weight.len())?;
        let shape = TileShape::of(isa);
        let rows = window.kernel[0] * 4 * c_in;
        let pitch = rows * shape.padded(c_out);
        let mut data = Buffer::zeroed(POINTS * pitch);
        let shared = Shared::new(&mut data);
        // A row of the packed weight: depth tap, φy, φx, channel.
        let value = |row: usize, j: usize, i: usize, column: usize| {
            let (c, phase) = (row % c_in, row / c_in);
            let (x, y) = (2 * i + phase % 2, 2 * j + phase / 2 % 2);
            if x > 6 || y > 6 || column >= c_out {
                return 0.0;
            }
            let tap = (phase / 4 * 7 + y) * 7 + x;
            f64::from(weight[(tap * c_in + c) * c_out + column])
        };
        for_each(rows, |row| {
            let (mut pixels, mut spare) = (Vec::new(), Vec::new());
            for (start, vectors) in shape.panels(c_out) {
                let width = vectors * shape.lanes;
                for first in (0..width).step_by(COLUMNS.min(shape.lanes)) {
                    let many = COLUMNS.min(width - first);
                    pixels.clear();
                    pixels.extend((0..16).map(|p| -> Column {
                        std::array::from_fn(|k| value(row, p / 4, p % 4, start + first + k))
                    }));
                    transform_kernel(&[Transform::F3; 2], &mut pixels, &mut spare);
                    for (p, values) in pixels.iter().enumerate() {
                        let place = p * pitch + start * rows + row * width + first;
                        // SAFETY: every row of every panel belongs to one task.
                        let target = unsafe { shared.slice(place, many) };
                        for (t, v) in target.iter_mut().zip(values) {
                            *t = *v as f32;
                        }
                    }
                }
            }
        });
        Ok(StemWeights {
            isa,
            shape,
            window: *window,
            c_in,
            c_out,
            data,
        })
    }

    /// Elements of one packed row of all depth taps.
    fn rows(&self) -> usize {
        self.window.kernel[0] * 4 * self.c_in
    }
}

/// A stem's convolution by tiles, with the norm and ReLU behind it.
pub struct Stem<'a> {
    /// The image, in a raster whose halo (of zeros) is at least the window's padding.
    pub source: (&'a [f32], Raster),
    /// The transformed kernel.
    pub weights: &'a StemWeights,
    /// The norm and ReLU behind the convolution, where there is one.
    pub norm_relu: Option<Affine<'a>>,
}

impl Stem<'_> {
    /// Computes the convolution into `output`, whose pixels lie where `raster` says.
    ///
    /// # Errors
    /// A buffer, halo or channel count does not fit.
    pub fn run(&self, output: &mut [f32], raster: &Raster) -> Result<(), KernelError> {
        const OP: &str = "winograd stem";
        let (data, input) = self.source;
        let w = self.weights;
        check_source(OP, &w.window, w.c_in, data, &input)?;
        let spatial = w.window.output(input.spatial).unwrap_or([0; 3]);
        exactly(OP, "batch of the output", input.batch, raster.batch)?;
        for (needed, found) in spatial.into_iter().zip(raster.spatial) {
            exactly(OP, "size of the output", needed, found)?;
        }
        at_least(OP, "output", raster.len(), output.len())?;
        let channels = raster.offset + w.c_out;
        at_least(OP, "channels of the output", channels, raster.stride)?;
        if let Some(affine) = &self.norm_relu {
            affine.check(OP, w.c_out)?;
        }
        if raster.pixels() == 0 || w.c_out == 0 {
            return Ok(());
        }
        let tiles = [1, 2].map(|axis| raster.spatial[axis].div_ceil(TILE));
        let pass = Pass {
            stem: self,
            tiles,
            output: Shared::new(output),
            raster,
        };
        // A tile's result does not depend on its group.
        let total = raster.batch * tiles[0] * tiles[1];
        let groups = total.div_ceil(pass.together());
        for_each(groups, |group| {
            pass.group(border(total, groups, group)..border(total, groups, group + 1));
        });
        Ok(())
    }
}

impl Stem<'_> {
    /// The kernel's id in logs and benchmarks: `op.pass.dtype.tile.fusion.isa`.
    pub fn id(&self) -> String {
        let op = match self.weights.window.kernel[0] {
            1 => "conv7x7".to_string(),
            depth => format!("conv{depth}x7x7"),
        };
        let fusion = match self.norm_relu {
            Some(_) => "affine_relu",
            None => "store",
        };
        let isa = self.weights.isa.name();
        format!("{op}.forward.f32.winograd3x3.{fusion}.{isa}")
    }
}

/// A convolution under way.
struct Pass<'a> {
    stem: &'a Stem<'a>,
    /// Tiles along height and width.
    tiles: [usize; 2],
    output: Shared<f32>,
    raster: &'a Raster,
}

/// Rows of products at a time: 36 of them of 64 channels stay in a second-level cache of 1 MiB.
const ROWS: usize = 36;

impl Pass<'_> {
    /// Tiles handled at a time: one where its depths alone fill a register tile, so that they are the rows.
    fn together(&self) -> usize {
        if self.raster.spatial[0] == 1 { ROWS } else { 1 }
    }

    fn group(&self, tiles: Range<usize>) {
        let w = self.stem.weights;
        let input = &self.stem.source.1;
        let slices = input.spatial[0] + 2 * w.window.padding[0];
        let slice = 4 * w.c_in;
        let (count, width) = (tiles.len(), w.shape.padded(w.c_out));
        // Whole registers, and an odd number of cache lines so that points do not share sets of the cache.
        let line = (slices * slice).next_multiple_of(16);
        let point_pitch = count * line + 16;
        let depths = self.raster.spatial[0];
        let rows = if depths == 1 { count } else { depths.min(ROWS) };
        let product_pitch = rows * width + 16;
        let sizes = [POINTS * line, POINTS * point_pitch, POINTS * product_pitch];
        with_scratch(sizes.iter().sum(), |scratch| {
            let (gathered, rest) = scratch.split_at_mut(sizes[0]);
            let (patches, products) = rest.split_at_mut(sizes[1]);
            for (i, tile) in tiles.clone().enumerate() {
                self.gather(tile, gathered, line);
                let pixels: [*const f32; POINTS] =
                    std::array::from_fn(|p| gathered[p * line..].as_ptr());
                let patch = Input {
                    pixels: &pixels,
                    second: None,
                    ahead: [&[]; 2],
                    channels: line,
                    target: patches[i * line..].as_mut_ptr(),
                    pitch: point_pitch,
                };
                // SAFETY: every pixel has `line` elements, a multiple of every register's lanes, and so has every place.
                unsafe { transform::input(w.isa, Transform::F3, &patch) };
            }
            for first in (0..depths).step_by(ROWS) {
                let many = if depths == 1 {
                    count
                } else {
                    ROWS.min(depths - first)
                };
                // From one row to the next: the next tile, or the next depth of the same.
                let step = if depths == 1 {
                    line
                } else {
                    w.window.stride[0] * slice
                };
                let start = first * w.window.stride[0] * slice;
                for point in 0..POINTS {
                    let patch =
                        &patches[point * point_pitch + start..][..(many - 1) * step + w.rows()];
                    let product = &mut products[point * product_pitch..][..many * width];
                    self.multiply(point, (patch, step), product);
                }
                for row in 0..many {
                    let (tile, depth) = match depths {
                        1 => (tiles.start + row, 0),
                        _ => (tiles.start, first + row),
                    };
                    let pixels = self.outputs(tile, depth);
                    let tile = Output {
                        product: products[row * width..].as_ptr(),
                        pitch: product_pitch,
                        deep: false,
                        channels: w.c_out,
                        pixels: &pixels,
                        affine: self.stem.norm_relu.map(|a| (a.scale, a.shift)),
                        relu: self.stem.norm_relu.is_some(),
                    };
                    // SAFETY: a product's row has whole registers; `outputs` gives null or places with room for `c_out`,
                    // and every tile belongs to one group, each to one task.
                    unsafe { transform::output(w.isa, Transform::F3, &tile) };
                }
            }
        });
    }

    /// `[sample, height, width]` of a tile's first output pixel.
    fn place(&self, tile: usize) -> [usize; 3] {
        let [th, tw] = self.tiles;
        [tile / (th * tw), tile / tw % th * TILE, tile % tw * TILE]
    }

    /// Copies a tile's patch: `[height][width]` of squares, each `[depth][φy][φx][channel]`, zero outside the map.
    fn gather(&self, tile: usize, gathered: &mut [f32], line: usize) {
        let (data, input) = self.stem.source;
        let w = self.stem.weights;
        let [n, y, x] = self.place(tile);
        let pair = 2 * w.c_in;
        let shifted = |axis: usize| input.halo[axis] - w.window.padding[axis];
        let slices = input.spatial[0] + 2 * w.window.padding[0];
        let (height, width) = (
            input.spatial[1] + 2 * w.window.padding[1],
            input.spatial[2] + 2 * w.window.padding[2],
        );
        let origin = n * input.sample_pitch()
            + shifted(0) * input.plane_pitch()
            + shifted(1) * input.row_pitch()
            + shifted(2) * input.stride
            + input.offset;
        for (point, square) in gathered.chunks_exact_mut(line).enumerate() {
            let (row, column) = (2 * (y + point / 6), 2 * (x + point % 6));
            let rows = height.saturating_sub(row).min(2);
            let columns = width.saturating_sub(column).min(2) * w.c_in;
            if rows < 2 || columns < pair {
                square.fill(0.0);
            }
            if columns == 0 {
                continue;
            }
            let from = origin + row * input.row_pitch() + column * input.stride;
            let lines = square.chunks_exact_mut(2 * pair).take(slices);
            for (depth, slice) in lines.enumerate() {
                let from = from + depth * input.plane_pitch();
                for (phase, target) in slice.chunks_exact_mut(pair).take(rows).enumerate() {
                    let from = from + phase * input.row_pitch();
                    let source = &data[from..from + columns];
                    // One channel, as most volumes have: two values, too short for a call.
                    match (source, &mut *target) {
                        (&[a, b], [x, y]) => (*x, *y) = (a, b),
                        _ => target[..columns].copy_from_slice(source),
                    }
                }
            }
        }
    }

    /// Where a tile's outputs at one depth go; null for those outside the map.
    fn outputs(&self, tile: usize, depth: usize) -> [*mut f32; TILE * TILE] {
        let raster = self.raster;
        let [n, y, x] = self.place(tile);
        let [depths, height, width] = raster.spatial;
        let mut pixels = [ptr::null_mut(); TILE * TILE];
        for dy in 0..TILE.min(height - y) {
            let row = raster.row((n * depths + depth) * height + y + dy);
            for dx in 0..TILE.min(width - x) {
                let place = row + (x + dx) * raster.stride;
                pixels[dy * TILE + dx] = self.output.pointer(place, self.stem.weights.c_out);
            }
        }
        pixels
    }

    /// `product[row, o] = Σ_k rows[row · step + k] · kernel[k, o]` for one point of the transform.
    fn multiply(&self, point: usize, (rows, step): (&[f32], usize), product: &mut [f32]) {
        let w = self.stem.weights;
        let (k, width) = (w.rows(), w.shape.padded(w.c_out));
        let count = product.len() / width;
        assert!(rows.len() >= (count - 1) * step + k);
        let weight = &w.data[point * k * width..][..k * width];
        for (start, vectors) in w.shape.panels(w.c_out) {
            let panel = &weight[start * k..][..k * vectors * w.shape.lanes];
            let mr = w.shape.mr(vectors);
            for first in (0..count).step_by(mr) {
                let tile = Tile {
                    a: rows[first * step..].as_ptr(),
                    a_row: step,
                    a_k: 1,
                    taps: &[0],
                    b: panel.as_ptr(),
                    b_tap: 0,
                    b_k: vectors * w.shape.lanes,
                    k,
                    rows: mr.min(count - first),
                    vectors,
                };
                let target = Product {
                    start: product[first * width + start..].as_mut_ptr(),
                    row: width,
                    accumulate: false,
                };
                // SAFETY: `rows` holds `count` rows (asserted), the panel `k` rows of its registers, `product` `count`
                // rows of all panels' registers.
                unsafe { tile::compute(w.isa, &tile, &target) };
            }
        }
    }
}
