//! 3×3 and 3×3×3 convolutions with fewer multiplications.
//!
//! An output tile of m pixels along an axis needs m + 2 input pixels; after a linear transform of both the patch and the
//! kernel, m + 2 multiplications replace 3·m. The transform is one 1-D matrix per axis (`transform.rs`), applied along
//! each, so 2-D and 3-D are the same code:
//!
//! ```text
//! Y = Aᵀ [ (G g) ⊙ (Bᵀ d) ]        along every axis;        ⊙ summed over c_in: one small product per transformed pixel
//! ```
//!
//! F(4×4, 3×3) needs 36 instead of 144 multiplications for 16 outputs, F(4×4×4, 3×3×3) 216 instead of 1,728 for 64.
//!
//! # Numerics
//! f32, but for the [`Tiles`] named after bf16; the transforms' larger constants cost some of the last bits (docs/numerics.md). A
//! tile's result depends on its place in the sample alone, so results have the same bits at any thread count and in any
//! batch.
//!
//! # Source
//! Lavin & Gray, *Fast algorithms for convolutional neural networks*, arXiv:1509.09308.

mod fused;
mod gradient;
mod grid;
mod product;
mod stem;
mod transform;
mod weights;

use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;

use crate::{
    KernelError, Raster,
    error::{at_least, exactly},
    panels::Element,
    parallel::{Shared, Tapered, for_each, with_scratch},
};
pub use fused::{FusedStore, FusedWeights, FusedWinograd};
pub use gradient::WinogradGradient;
pub use stem::{Stem, StemGradient, StemWeights};
use transform::{Input, Numbers, Output, Step, Transform};
pub use weights::{Factors, Tiles, WinogradWeights};

/// Most tiles handled at a time, a multiple of a register tile's rows where there is one: 36 transformed patches of 128
/// channels and their products then stay in a second-level cache of 1 MiB beside the kernel that streams by.
const TILES: usize = 18;

/// Channels transformed at a time where two depths of a patch are: as much memory as one depth of 128.
const PART: usize = 128;

/// Most pixels of a patch, and of a tile.
const MAX_PATCH: usize = 6 * 36;
const MAX_OUTPUTS: usize = 4 * 16;

/// A convolution by tiles; the output is as large as the input.
pub struct Winograd<'a> {
    /// The input. Its border is not read.
    pub source: (&'a [f32], Raster),
    /// Whether the input is bf16, two channels to an element as [`Store::AffineBf16`](crate::conv::Store::AffineBf16) left
    /// it: its raster then counts pairs.
    pub bf16: bool,
    /// The transformed kernel.
    pub weights: &'a WinogradWeights,
}

impl Winograd<'_> {
    /// Computes the convolution into `output`, whose pixels lie where `raster` says.
    ///
    /// # Errors
    /// A buffer or channel count does not fit.
    pub fn run(&self, output: &mut [f32], raster: &Raster) -> Result<(), KernelError> {
        const OP: &str = "winograd";
        let (data, input) = self.source;
        let w = self.weights;
        let in_pairs = w.element() == Element::Bf16Pair;
        exactly(
            OP,
            "map of f32 for bf16",
            0,
            usize::from(in_pairs && !self.bf16),
        )?;
        if self.bf16 {
            exactly(OP, "odd channels of pairs", 0, w.c_in() % 2)?;
        }
        at_least(OP, "input", input.len(), data.len())?;
        at_least(
            OP,
            "channels of the input",
            input.offset + self.elements(),
            input.stride,
        )?;
        at_least(OP, "output", raster.len(), output.len())?;
        at_least(
            OP,
            "channels of the output",
            raster.offset + w.c_out(),
            raster.stride,
        )?;
        exactly(OP, "batch of the output", input.batch, raster.batch)?;
        for axis in 0..3 {
            let sizes = (input.spatial[axis], raster.spatial[axis]);
            exactly(OP, "size of the output", sizes.0, sizes.1)?;
        }
        if raster.pixels() == 0 || w.c_out() == 0 {
            return Ok(());
        }
        let axes = w.axes();
        let tiles: [usize; 3] = std::array::from_fn(|a| raster.spatial[a].div_ceil(axes[a].tile()));
        let total = tiles.iter().product::<usize>() * raster.batch;
        let mr = w.widest_rows();
        let most = (TILES / mr).max(1) * mr;
        // A tile's result does not depend on its group.
        let groups = Tapered::new(total, (most, 1));
        let pass = Pass {
            winograd: self,
            tiles,
            output: Shared::new(output),
            raster,
        };
        for_each(groups.parts(), |group| pass.group(groups.part(group)));
        Ok(())
    }
}

impl Winograd<'_> {
    /// Elements of an input pixel.
    fn elements(&self) -> usize {
        match self.bf16 {
            false => self.weights.c_in(),
            true => self.weights.c_in().div_ceil(2),
        }
    }

    /// What patches are, and what they become.
    fn numbers(&self) -> Numbers {
        match (self.bf16, self.weights.element()) {
            (false, _) => Numbers::F32,
            (true, Element::F32) => Numbers::Widened,
            (true, Element::Bf16Pair) => Numbers::Bf16,
        }
    }

    /// The kernel's id in logs and benchmarks: `op.pass.dtype.tile.fusion.isa`.
    pub fn id(&self) -> String {
        let axes = self.weights.axes();
        let (op, tile) = match axes[0] {
            Transform::Identity => ("conv3x3", String::new()),
            depth => ("conv3x3x3", format!("{}x", depth.tile())),
        };
        let [high, wide] = [axes[1].tile(), axes[2].tile()];
        let isa = self.weights.isa().name();
        let (dtype, load) = match self.numbers() {
            Numbers::F32 => ("f32", ""),
            Numbers::Widened => ("f32", "bf16+"),
            Numbers::Bf16 => ("bf16", ""),
        };
        format!("{op}.forward.{dtype}.winograd{tile}{high}x{wide}.{load}store.{isa}")
    }
}

/// The planes of a patch that a step takes, `plane` pixels each.
fn planes<'a>(step: &Step, patch: &'a [*const f32], plane: usize) -> [&'a [*const f32]; 4] {
    let mut planes: [&[_]; 4] = [&[]; 4];
    for (pixels, depth) in planes.iter_mut().zip(step.planes) {
        *pixels = &patch[depth * plane..][..plane];
    }
    planes
}

/// A convolution under way.
struct Pass<'a> {
    winograd: &'a Winograd<'a>,
    /// Tiles along each axis of a sample.
    tiles: [usize; 3],
    output: Shared<f32>,
    raster: &'a Raster,
}

impl Pass<'_> {
    /// Transforms a group of patches, multiplies, transforms back.
    fn group(&self, tiles: Range<usize>) {
        let w = self.winograd.weights;
        let axes = w.axes();
        let (count, width) = (tiles.len(), w.width());
        let plane = axes[1].patch() * axes[2].patch();
        let points = axes[0].patch() * plane;
        let steps = axes[0].steps();
        let twins = steps.iter().any(|step| step.mix.depths() > 1);
        let part = if twins { w.c_in().min(PART) } else { w.c_in() };
        // Rows of whole cache lines; the odd line keeps the pixels of a patch out of one set of the cache.
        let values = w.element().values();
        let row = part.div_ceil(values).next_multiple_of(16);
        let patch_pitch = count * row + 16;
        let product_pitch = count * width + 16;
        let sizes = [
            w.c_in().next_multiple_of(16),
            (1 + usize::from(twins)) * plane * patch_pitch,
            points * product_pitch,
        ];
        with_scratch(sizes.iter().sum(), |scratch| {
            let (zeros, rest) = scratch.split_at_mut(sizes[0]);
            let (patches, products) = rest.split_at_mut(sizes[1]);
            zeros.fill(0.0);
            // Not made whole: a plane's patches take a sixth of it.
            let mut places = [const { MaybeUninit::uninit() }; TILES * MAX_PATCH];
            let places = &mut places[..count * points];
            // SAFETY: every element that is left was written.
            let pixels: &mut [*const f32] = unsafe {
                places.fill(MaybeUninit::new(zeros.as_ptr()));
                std::slice::from_raw_parts_mut(places.as_mut_ptr().cast(), places.len())
            };
            for (pixels, tile) in pixels.chunks_exact_mut(points).zip(tiles.clone()) {
                self.patch(self.place(tile), pixels);
            }
            let mut depth = 0;
            for step in steps {
                for first in (0..w.c_in()).step_by(part) {
                    let channels = first..(first + part).min(w.c_in());
                    for (i, tile) in pixels.chunks_exact(points).enumerate() {
                        let next = pixels.chunks_exact(points).nth(i + 1);
                        let patch = Input {
                            planes: planes(step, tile, plane),
                            mix: step.mix,
                            ahead: next.map_or([&[]; 4], |next| planes(step, next, plane)),
                            channels: channels.clone(),
                            numbers: self.winograd.numbers(),
                            target: patches[i * row..].as_mut_ptr(),
                            pitch: patch_pitch,
                            twin: plane * patch_pitch,
                        };
                        // SAFETY: `patch` gives places with `c_in` elements; a row has whole registers, as 16 is a
                        // multiple of every register's lanes.
                        unsafe { transform::input(w.isa(), [axes[1], axes[2]], &patch) };
                    }
                    for point in 0..step.mix.depths() * plane {
                        let product = (depth * plane + point) * product_pitch;
                        w.point(depth * plane + point).multiply(
                            (&patches[point * patch_pitch..][..count * row], row),
                            channels.start / values..channels.end.div_ceil(values),
                            &mut products[product..][..count * width],
                        );
                    }
                }
                depth += step.mix.depths();
            }
            let mut pixels = [ptr::null_mut(); MAX_OUTPUTS];
            for (i, tile) in tiles.clone().enumerate() {
                self.outputs(self.place(tile), &mut pixels);
                let tile = Output {
                    product: products[i * width..].as_ptr(),
                    pitch: product_pitch,
                    deep: axes[0],
                    channels: w.c_out(),
                    pixels: &pixels,
                    affine: None,
                    relu: false,
                };
                // SAFETY: a product's row has whole registers; `outputs` gives null or places with room for `c_out`, and
                // every tile belongs to one group, each to one task.
                unsafe { transform::output(w.isa(), [axes[1], axes[2]], &tile) };
            }
        });
    }

    /// `[sample, depth, height, width]` of a tile's first output pixel.
    fn place(&self, tile: usize) -> [usize; 4] {
        let axes = self.winograd.weights.axes();
        let [td, th, tw] = self.tiles;
        let (row, x) = (tile / tw, tile % tw);
        let (plane, y) = (row / th, row % th);
        let (n, z) = match td {
            1 => (plane, 0),
            _ => (plane / td, plane % td),
        };
        [
            n,
            z * axes[0].tile(),
            y * axes[1].tile(),
            x * axes[2].tile(),
        ]
    }

    /// Where the pixels of a tile's patch lie; those outside the map are left alone.
    fn patch(&self, [n, z, y, x]: [usize; 4], pixels: &mut [*const f32]) {
        let (data, input) = self.winograd.source;
        let (axes, elements) = (self.winograd.weights.axes(), self.winograd.elements());
        let [pd, ph, pw] = axes.map(Transform::patch);
        let [depth, height, width] = input.spatial;
        for dz in 0..pd {
            for dy in 0..ph {
                let at = (z + dz)
                    .checked_sub(axes[0].padding())
                    .filter(|z| *z < depth)
                    .zip((y + dy).checked_sub(1).filter(|y| *y < height));
                let Some((z, y)) = at else {
                    continue;
                };
                // Of the patch's pixels, those from column `x − 1` on that lie in the map.
                let first = usize::from(x == 0);
                let many = pw.min(width + 1 - x) - first;
                let row = &data[input.place([n, z, y, x + first - 1])..];
                let row = row[..(many - 1) * input.stride + elements].as_ptr();
                let place = (dz * ph + dy) * pw + first;
                for (i, pixel) in pixels[place..place + many].iter_mut().enumerate() {
                    *pixel = row.wrapping_add(i * input.stride);
                }
            }
        }
    }

    /// Where the pixels of an output tile go; null for those outside the map.
    fn outputs(&self, [n, z, y, x]: [usize; 4], pixels: &mut [*mut f32; MAX_OUTPUTS]) {
        let raster = self.raster;
        let w = self.winograd.weights;
        let [md, mh, mw] = w.axes().map(Transform::tile);
        let [depth, height, width] = raster.spatial;
        let (deep, high, wide) = (md.min(depth - z), mh.min(height - y), mw.min(width - x));
        // Not array by array: that would be read as it is written, and wait for all stores of the tile before.
        if deep * high * wide < md * mh * mw {
            pixels[..md * mh * mw].fill(ptr::null_mut());
        }
        let pitch = raster.stride;
        for dz in 0..deep {
            for dy in 0..high {
                let row = raster.place([n, z + dz, y + dy, x]);
                let first = self.output.pointer(row, (wide - 1) * pitch + w.c_out());
                let at = (dz * mh + dy) * mw;
                for (dx, pixel) in pixels[at..at + wide].iter_mut().enumerate() {
                    *pixel = first.wrapping_add(dx * pitch);
                }
            }
        }
    }
}
