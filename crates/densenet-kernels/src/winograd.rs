//! 3×3 and 3×3×3 convolutions with fewer multiplications, for inference.
//!
//! An output tile of m pixels along an axis needs m + 2 input pixels; after a linear transform of both the patch and the
//! kernel, m + 2 multiplications replace 3·m. The transform is one 1-D matrix per axis (`transform.rs`), applied along
//! each, so 2-D and 3-D are the same code:
//!
//! ```text
//! Y = Aᵀ [ (G g) ⊙ (Bᵀ d) ]        along every axis;        ⊙ summed over c_in: one small product per transformed pixel
//! ```
//!
//! F(4×4, 3×3) needs 36 instead of 144 multiplications for 16 outputs, F(2×4×4, 3×3×3) 144 instead of 864 for 32.
//!
//! # Numerics
//! f32; the transforms' larger constants cost some of the last bits (docs/numerics.md). A tile's result depends on its
//! place in the sample alone, so results have the same bits at any thread count and in any batch.
//!
//! # Source
//! Lavin & Gray, *Fast algorithms for convolutional neural networks*, arXiv:1509.09308.

mod transform;

use densenet_spec::Window;

use crate::{
    Isa, KernelError, Operand, Panels, Raster,
    error::{at_least, exactly},
    parallel::{MAX_TASKS, Shared, border, for_each, with_scratch},
    tile::{self, Tile, TileShape},
};
use transform::{Direction, Transform, along_axes};

/// A kernel's transform, packed: one set of panels for every pixel of a transformed patch.
pub struct WinogradWeights {
    isa: Isa,
    axes: [Transform; 3],
    c_in: usize,
    c_out: usize,
    /// In the order of the patch's pixels.
    panels: Vec<Panels>,
}

impl WinogradWeights {
    /// Whether a convolution with this window can be computed this way: 3 wide along height and width, 3 or 1 along
    /// depth, stride 1, padded to keep the size.
    pub fn fits(window: &Window) -> bool {
        let axis = |a: usize| {
            window.stride[a] == 1
                && matches!((window.kernel[a], window.padding[a]), (3, 1) | (1, 0))
        };
        (0..3).all(axis) && window.kernel[1] == 3 && window.kernel[2] == 3
    }

    /// Whether tiles are faster than the direct convolution for a sample's map of this size.
    ///
    /// On small maps the transformed kernel, 4 or 5 times as large, costs more to read than the products save. The
    /// limits are where the two met on a Zen 4 core with 1 MiB of second-level cache: 7×7 and 8×8×8.
    pub fn pays(window: &Window, spatial: [usize; 3]) -> bool {
        let smallest = if window.kernel[0] == 3 { 512 } else { 49 };
        Self::fits(window) && spatial.iter().product::<usize>() >= smallest
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
        const OP: &str = "winograd";
        exactly(OP, "window", 1, usize::from(Self::fits(window)))?;
        exactly(OP, "weight", window.taps() * c_in * c_out, weight.len())?;
        // Small tiles along depth: a 3-D tile of 4 would cost two more bits of precision.
        let depth = match window.kernel[0] {
            3 => Transform::F2,
            _ => Transform::Identity,
        };
        let axes = [depth, Transform::F4, Transform::F4];
        let patch: usize = axes.iter().map(Transform::patch).product();
        let mut transformed = vec![0.0f32; patch * c_in * c_out];
        // One input channel at a time: `[tap][c_out]` to `[patch][c_out]`, along width, height, depth.
        for c in 0..c_in {
            let taps = weight.chunks_exact(c_in * c_out);
            let mut kernel: Vec<f64> = taps
                .flat_map(|tap| &tap[c * c_out..(c + 1) * c_out])
                .map(|w| f64::from(*w))
                .collect();
            let mut sizes = window.kernel;
            for axis in (0..3).rev() {
                let inner = sizes[axis + 1..].iter().product::<usize>() * c_out;
                kernel = axes[axis].kernel(&kernel, inner);
                sizes[axis] = axes[axis].patch();
            }
            for (p, values) in kernel.chunks_exact(c_out).enumerate() {
                let target = &mut transformed[(p * c_in + c) * c_out..][..c_out];
                target
                    .iter_mut()
                    .zip(values)
                    .for_each(|(t, v)| *t = *v as f32);
            }
        }
        let panels = transformed
            .chunks_exact(c_in * c_out)
            .map(|w| Panels::packed(isa, w, [1, c_in, c_out], Operand::Forward))
            .collect::<Result<_, _>>()?;
        Ok(WinogradWeights {
            isa,
            axes,
            c_in,
            c_out,
            panels,
        })
    }

    /// Elements that a transformed kernel takes.
    pub fn elements(window: &Window, c_in: usize, c_out: usize) -> usize {
        let depth = if window.kernel[0] == 3 { 4 } else { 1 };
        depth * 36 * c_in * c_out
    }
}

/// Most tiles handled at a time: the rows of the largest register tile, so that 36 transformed patches of 128 channels stay
/// in a second-level cache of 1 MiB.
const TILES: usize = 14;

/// Places of a tile in its map and of its first input pixel.
#[derive(Clone, Copy, Default)]
struct Place {
    sample: usize,
    at: [usize; 3],
}

/// A convolution by tiles; the output is as large as the input.
pub struct Winograd<'a> {
    /// The input, in a raster whose halo (of zeros) is at least the window's padding.
    pub source: (&'a [f32], Raster),
    /// The transformed kernel.
    pub weights: &'a WinogradWeights,
}

impl Winograd<'_> {
    /// Computes the convolution into `output`, whose pixels lie where `raster` says.
    ///
    /// # Errors
    /// A buffer, halo or channel count does not fit.
    pub fn run(&self, output: &mut [f32], raster: &Raster) -> Result<(), KernelError> {
        const OP: &str = "winograd";
        let (data, input) = self.source;
        let w = self.weights;
        at_least(OP, "input", input.len(), data.len())?;
        at_least(
            OP,
            "channels of the input",
            input.offset + w.c_in,
            input.stride,
        )?;
        at_least(OP, "output", raster.len(), output.len())?;
        at_least(
            OP,
            "channels of the output",
            raster.offset + w.c_out,
            raster.stride,
        )?;
        exactly(OP, "batch of the output", input.batch, raster.batch)?;
        for axis in 0..3 {
            exactly(
                OP,
                "size of the output",
                input.spatial[axis],
                raster.spatial[axis],
            )?;
            at_least(
                OP,
                "halo of the input",
                w.axes[axis].padding(),
                input.halo[axis],
            )?;
        }
        if raster.pixels() == 0 {
            return Ok(());
        }
        let tiles: [usize; 3] =
            std::array::from_fn(|a| raster.spatial[a].div_ceil(w.axes[a].tile()));
        let per_sample: usize = tiles.iter().product();
        // Groups never mix samples, so that a sample's sums do not depend on its batch.
        let groups = per_sample.div_ceil(TILES);
        let total = groups * raster.batch;
        let tasks = total.min(MAX_TASKS);
        let shared = Shared::new(output);
        for_each(tasks, |task| {
            for group in border(total, tasks, task)..border(total, tasks, task + 1) {
                let part = group % groups;
                let first = border(per_sample, groups, part);
                let count = border(per_sample, groups, part + 1) - first;
                let mut places = [Place::default(); TILES];
                for (i, place) in places[..count].iter_mut().enumerate() {
                    let tile = first + i;
                    let [_, th, tw] = tiles;
                    let index = [tile / (th * tw), tile / tw % th, tile % tw];
                    *place = Place {
                        sample: group / groups,
                        at: std::array::from_fn(|a| index[a] * w.axes[a].tile()),
                    };
                }
                self.group(&places[..count], &shared, raster);
            }
        });
        Ok(())
    }

    /// Transforms a group of patches, multiplies, transforms back.
    fn group(&self, places: &[Place], output: &Shared<f32>, raster: &Raster) {
        let w = self.weights;
        let patch: usize = w.axes.iter().map(Transform::patch).product();
        let shape = TileShape::of(w.isa);
        let width = shape.padded(w.c_out);
        let count = places.len();
        let patches = patch * count * w.c_in;
        let products = patch * count * width;
        let temporary = patch * w.c_in.max(width);
        with_scratch(patches + products + 2 * temporary, |scratch| {
            let (patches, rest) = scratch.split_at_mut(patches);
            let (products, temporary) = rest.split_at_mut(products);
            for (t, place) in places.iter().enumerate() {
                self.load(place, temporary);
                let transformed = along_axes(w.isa, &w.axes, Direction::Input, w.c_in, temporary);
                for (p, pixel) in transformed.chunks_exact(w.c_in).enumerate() {
                    patches[(p * count + t) * w.c_in..][..w.c_in].copy_from_slice(pixel);
                }
            }
            for (p, panels) in w.panels.iter().enumerate() {
                let rows = &patches[p * count * w.c_in..][..count * w.c_in];
                let product = &mut products[p * count * width..][..count * width];
                multiply(w.isa, rows, panels, product, width);
            }
            for (t, place) in places.iter().enumerate() {
                for (p, pixel) in temporary.chunks_exact_mut(width).take(patch).enumerate() {
                    pixel.copy_from_slice(&products[(p * count + t) * width..][..width]);
                }
                let tile = along_axes(w.isa, &w.axes, Direction::Output, width, temporary);
                self.store(place, tile, width, output, raster);
            }
        });
    }

    /// Copies a patch; what lies behind the map's far borders is zero.
    fn load(&self, place: &Place, patch: &mut [f32]) {
        let (data, input) = self.source;
        let w = self.weights;
        let c = w.c_in;
        let [pd, ph, pw] = w.axes.map(|a| a.patch());
        // Pixels of the patch along an axis that lie in the map or its halo.
        let inside = |axis: usize, patch: usize| {
            let padding = w.axes[axis].padding();
            patch.min(input.spatial[axis] + 2 * padding - place.at[axis])
        };
        let (dz, dy, dx) = (inside(0, pd), inside(1, ph), inside(2, pw));
        let start = |axis: usize| place.at[axis] + input.halo[axis] - w.axes[axis].padding();
        let base = place.sample * input.sample_pitch()
            + start(0) * input.plane_pitch()
            + start(1) * input.row_pitch()
            + start(2) * input.stride
            + input.offset;
        for z in 0..pd {
            for y in 0..ph {
                let row = &mut patch[(z * ph + y) * pw * c..][..pw * c];
                if z >= dz || y >= dy {
                    row.fill(0.0);
                    continue;
                }
                let from = base + z * input.plane_pitch() + y * input.row_pitch();
                if input.stride == c {
                    row[..dx * c].copy_from_slice(&data[from..from + dx * c]);
                } else {
                    for (x, pixel) in row.chunks_exact_mut(c).take(dx).enumerate() {
                        pixel.copy_from_slice(&data[from + x * input.stride..][..c]);
                    }
                }
                row[dx * c..].fill(0.0);
            }
        }
    }

    /// Writes the pixels of an output tile that lie in the map.
    fn store(
        &self,
        place: &Place,
        tile: &[f32],
        width: usize,
        output: &Shared<f32>,
        raster: &Raster,
    ) {
        let w = self.weights;
        let [_, mh, mw] = w.axes.map(|a| a.tile());
        let [depth, height, columns] = raster.spatial;
        for (i, pixel) in tile.chunks_exact(width).enumerate() {
            let (z, y, x) = (
                place.at[0] + i / (mh * mw),
                place.at[1] + i / mw % mh,
                place.at[2] + i % mw,
            );
            if z < depth && y < height && x < columns {
                let row = raster.row((place.sample * depth + z) * height + y);
                // SAFETY: tiles do not overlap, and each belongs to one task; the output was checked to hold the raster.
                let target = unsafe { output.slice(row + x * raster.stride, w.c_out) };
                target.copy_from_slice(&pixel[..w.c_out]);
            }
        }
    }
}

/// `product[row, o] = Σ_c rows[row, c] · weight[c, o]`, `width` elements a row.
fn multiply(isa: Isa, rows: &[f32], panels: &Panels, product: &mut [f32], width: usize) {
    let shape = TileShape::of(isa);
    let c_in = panels.k();
    let count = rows.len() / c_in.max(1);
    for (start, vectors, b) in panels.iter() {
        assert!(b.len() == c_in * vectors * shape.lanes && start + vectors * shape.lanes <= width);
        for row in (0..count).step_by(shape.mr) {
            let height = shape.mr.min(count - row);
            let a = &rows[row * c_in..(row + height) * c_in];
            let c =
                &mut product[row * width + start..][..(height - 1) * width + vectors * shape.lanes];
            // SAFETY: `a` holds `height` rows of `c_in`, the panel `c_in` rows of its registers (asserted), and `c` runs
            // to the end of the last row's registers.
            unsafe {
                tile::compute(
                    isa,
                    &Tile {
                        a: a.as_ptr(),
                        a_row: c_in,
                        a_k: 1,
                        taps: &[0],
                        b: b.as_ptr(),
                        b_tap: 0,
                        b_k: vectors * shape.lanes,
                        k: c_in,
                        c: c.as_mut_ptr(),
                        c_row: width,
                        rows: height,
                        vectors,
                        accumulate: false,
                    },
                );
            }
        }
    }
}
