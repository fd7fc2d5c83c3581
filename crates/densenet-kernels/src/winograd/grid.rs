//! The tiles of a training step: where they lie, and Bᵀ of their patches with a norm applied on load.

use std::{array, mem::MaybeUninit, ptr};

use super::transform::{Mix, Transform, input_axis};
use crate::{
    Isa, Raster,
    isa::dispatch,
    norm::Affine,
    simd::{Simd, load_some},
};

/// Most pixels of a plane of a transformed patch.
pub const MAX_PLANE: usize = 36;

/// The tiles of a map.
pub struct Grid {
    /// The transforms along depth (the identity or F(2)), height and width (both F(2) or both F(4)).
    pub axes: [Transform; 3],
    /// Along each axis of a sample.
    tiles: [usize; 3],
    batch: usize,
}

impl Grid {
    pub fn new(axes: [Transform; 3], output: &Raster) -> Self {
        Grid {
            axes,
            tiles: array::from_fn(|axis| output.spatial[axis].div_ceil(axes[axis].tile())),
            batch: output.batch,
        }
    }

    /// Tiles of all samples.
    pub fn total(&self) -> usize {
        self.tiles.iter().product::<usize>() * self.batch
    }

    /// Pixels of a transformed patch along the depth.
    pub fn depths(&self) -> usize {
        self.axes[0].patch()
    }

    /// Pixels of a plane of a transformed patch.
    pub fn plane(&self) -> usize {
        self.axes[1].patch() * self.axes[2].patch()
    }

    /// Output pixels of a tile.
    pub fn outputs(&self) -> usize {
        self.axes.iter().map(|axis| axis.tile()).product()
    }

    /// `[sample, depth, height, width]` of a tile's first output pixel.
    pub fn corner(&self, tile: usize) -> [usize; 4] {
        let [td, th, tw] = self.tiles;
        let [depth, height, width] = self.axes.map(Transform::tile);
        [
            tile / (td * th * tw),
            tile / (th * tw) % td * depth,
            tile / tw % th * height,
            tile % tw * width,
        ]
    }

    /// The pixels of a tile's patch that one depth of the transform takes, each with `channels` elements behind it; null
    /// outside the map.
    pub fn patch(
        &self,
        (data, input, channels): (&[f32], &Raster, usize),
        tile: usize,
        depth: usize,
    ) -> Patch {
        let [n, z, y, x] = self.corner(tile);
        let [planes, height, width] = input.spatial;
        let (side, padding) = (self.axes[1].patch(), self.axes[0].padding());
        // Whole patches lie in the map, mostly.
        let inside = y > 0 && y + side <= height + 1 && x > 0 && x + side <= width + 1;
        let step = &self.axes[0].steps()[depth];
        let mut patch = Patch {
            planes: [[ptr::null(); MAX_PLANE]; 2],
            mix: step.mix,
        };
        for (pixels, dz) in patch.planes.iter_mut().zip(step.planes) {
            let Some(z) = (z + dz).checked_sub(padding).filter(|z| *z < planes) else {
                continue;
            };
            if inside {
                let first = input.place([n, z, y - 1, x - 1]);
                let (pitch, stride) = (input.row_pitch(), input.stride);
                let reach = (side - 1) * (pitch + stride) + channels;
                let data = data[first..][..reach].as_ptr();
                for dy in 0..side {
                    for dx in 0..side {
                        pixels[dy * side + dx] = data.wrapping_add(dy * pitch + dx * stride);
                    }
                }
                continue;
            }
            for dy in 0..side {
                let Some(y) = (y + dy).checked_sub(1).filter(|y| *y < height) else {
                    continue;
                };
                for dx in 0..side {
                    if let Some(x) = (x + dx).checked_sub(1).filter(|x| *x < width) {
                        let place = input.place([n, z, y, x]);
                        pixels[dy * side + dx] = data[place..][..channels].as_ptr();
                    }
                }
            }
        }
        patch
    }
}

/// Where the pixels of a patch lie that one depth of the transform takes, and how it mixes their planes.
pub struct Patch {
    planes: [[*const f32; MAX_PLANE]; 2],
    mix: Mix,
}

/// A patch on its way into the product.
pub struct Input<'a> {
    pub patch: &'a Patch,
    /// The next one, to be fetched.
    pub ahead: &'a Patch,
    /// The first channel, and how many.
    pub start: usize,
    pub channels: usize,
    pub affine: Option<Affine<'a>>,
    /// Where the first pixel of the transform goes, and how far apart they lie.
    pub target: *mut f32,
    pub pitch: usize,
}

/// Bᵀ d B of a patch; whole registers are written.
///
/// # Safety
/// Every pixel that is not null has the patch's channels behind it, every place of the target room for whole registers.
pub unsafe fn transform_input(isa: Isa, plane: Transform, input: &Input<'_>) {
    dispatch!(fn f2(input: &Input<'_>) = f2_body);
    dispatch!(fn f4(input: &Input<'_>) = f4_body);
    match plane {
        Transform::F2 => f2(isa, input),
        _ => f4(isa, input),
    }
}

#[inline(always)]
fn f2_body<S: Simd>(input: &Input<'_>) {
    // SAFETY: the caller of `transform_input` guarantees the operands; the shell around us has the instruction set.
    unsafe { input_body::<S, 4>(input) }
}

#[inline(always)]
fn f4_body<S: Simd>(input: &Input<'_>) {
    // SAFETY: as above.
    unsafe { input_body::<S, 6>(input) }
}

/// # Safety
/// As [`transform_input`]; the processor has `S`.
#[inline(always)]
unsafe fn input_body<S: Simd, const P: usize>(input: &Input<'_>) {
    // SAFETY: as ours.
    unsafe {
        match input.patch.mix {
            Mix::One => input_planes::<S, P, { Mix::One as u8 }>(input),
            Mix::Sum => input_planes::<S, P, { Mix::Sum as u8 }>(input),
            Mix::Difference => input_planes::<S, P, { Mix::Difference as u8 }>(input),
            Mix::Edge | Mix::Near | Mix::Far => unreachable!("tiles two or one deep"),
        }
    }
}

/// Bᵀ d B of a plane, of a sum or of a difference of two.
///
/// # Safety
/// As [`input_body`].
#[inline(always)]
unsafe fn input_planes<S: Simd, const P: usize, const MIX: u8>(input: &Input<'_>) {
    let mix = |mix: Mix| MIX == mix as u8;
    let used = if mix(Mix::One) { 1 } else { 2 };
    let [first, second] = input.patch.planes.each_ref().map(|plane| &plane[..P * P]);
    // SAFETY: as ours.
    unsafe {
        for c in (0..input.channels).step_by(S::LANES) {
            let many = S::LANES.min(input.channels - c);
            let at = input.start + c;
            for plane in &input.ahead.planes[..used] {
                for pixel in &plane[..P * P] {
                    S::prefetch(pixel.wrapping_add(at));
                }
            }
            let affine = input.affine.map(|affine| {
                let scale = load_some::<S>(affine.scale.as_ptr().add(at), many);
                (scale, load_some::<S>(affine.shift.as_ptr().add(at), many))
            });
            let load = |pixel: *const f32| {
                if pixel.is_null() {
                    return S::zero();
                }
                let v = load_some::<S>(pixel.add(at), many);
                match affine {
                    Some((scale, shift)) => S::relu(S::fma(scale, v, shift)),
                    None => v,
                }
            };
            // Columns first, then rows. Not zeroed: that would be a call of its own.
            let mut half = MaybeUninit::<[[S::V; P]; P]>::uninit();
            let half = half.as_mut_ptr().cast::<S::V>();
            for x in 0..P {
                let mut column = [S::zero(); P];
                for (y, v) in column.iter_mut().enumerate() {
                    *v = load(first[y * P + x]);
                    if mix(Mix::Sum) {
                        *v = S::add(*v, load(second[y * P + x]));
                    } else if mix(Mix::Difference) {
                        *v = S::sub(*v, load(second[y * P + x]));
                    }
                }
                for (y, v) in input_axis::<S, P>(column).into_iter().enumerate() {
                    half.add(y * P + x).write(v);
                }
            }
            for y in 0..P {
                let row = half.add(y * P).cast::<[S::V; P]>().read();
                for (x, v) in input_axis::<S, P>(row).into_iter().enumerate() {
                    S::store(input.target.add((y * P + x) * input.pitch + c), v);
                }
            }
        }
    }
}
