//! Tiles of two output pixels along each axis: where they lie, and Bᵀ of their patches with a norm applied on load.

use std::{array, mem::MaybeUninit, ptr};

use densenet_spec::Window;

use crate::{
    Raster,
    norm::Affine,
    simd::{Simd, load_some},
};

/// Pixels of a plane of a transformed patch.
pub const PLANE: usize = 16;

/// The tiles of a map.
pub struct Grid {
    /// Along each axis of a sample.
    tiles: [usize; 3],
    batch: usize,
    /// Whether they are two pixels deep instead of one.
    pub deep: bool,
}

impl Grid {
    pub fn new(window: &Window, output: &Raster) -> Self {
        let deep = window.kernel[0] == 3;
        Grid {
            tiles: array::from_fn(|axis| match (axis, deep) {
                (0, false) => output.spatial[0],
                _ => output.spatial[axis].div_ceil(2),
            }),
            batch: output.batch,
            deep,
        }
    }

    /// Tiles of all samples.
    pub fn total(&self) -> usize {
        self.tiles.iter().product::<usize>() * self.batch
    }

    /// Pixels of a transformed patch along the depth.
    pub fn depths(&self) -> usize {
        if self.deep { 4 } else { 1 }
    }

    /// `[sample, depth, height, width]` of a tile's first output pixel.
    pub fn corner(&self, tile: usize) -> [usize; 4] {
        let [td, th, tw] = self.tiles;
        let step = if self.deep { 2 } else { 1 };
        [
            tile / (td * th * tw),
            tile / (th * tw) % td * step,
            tile / tw % th * 2,
            tile % tw * 2,
        ]
    }

    /// The pixels of a tile's patch that one depth of the transform takes, each with `channels` elements behind it; null
    /// outside the map.
    pub fn patch(
        &self,
        (data, input, channels): (&[f32], &Raster, usize),
        tile: usize,
        depth: usize,
    ) -> Planes<*const f32, PLANE> {
        let [n, z, y, x] = self.corner(tile);
        let [planes, height, width] = input.spatial;
        // Of rows and columns, those that lie in the map; whole patches do, mostly.
        let inside = y > 0 && y + 3 <= height && x > 0 && x + 3 <= width;
        let plane = |dz: usize, padding: usize| -> [*const f32; PLANE] {
            let mut pixels = [ptr::null(); PLANE];
            let Some(z) = (z + dz).checked_sub(padding).filter(|z| *z < planes) else {
                return pixels;
            };
            if inside {
                let first = input.place([n, z, y - 1, x - 1]);
                let (pitch, stride) = (input.row_pitch(), input.stride);
                let data = data[first..][..3 * pitch + 3 * stride + channels].as_ptr();
                for dy in 0..4 {
                    for dx in 0..4 {
                        pixels[dy * 4 + dx] = data.wrapping_add(dy * pitch + dx * stride);
                    }
                }
                return pixels;
            }
            for dy in 0..4 {
                let Some(y) = (y + dy).checked_sub(1).filter(|y| *y < height) else {
                    continue;
                };
                for dx in 0..4 {
                    if let Some(x) = (x + dx).checked_sub(1).filter(|x| *x < width) {
                        let place = input.place([n, z, y, x]);
                        pixels[dy * 4 + dx] = data[place..][..channels].as_ptr();
                    }
                }
            }
            pixels
        };
        // Bᵀ along the depth.
        match (self.depths(), depth) {
            (1, _) => Planes::One(plane(0, 0)),
            (_, 0) => Planes::Difference(plane(0, 1), plane(2, 1)),
            (_, 1) => Planes::Sum(plane(1, 1), plane(2, 1)),
            (_, 2) => Planes::Difference(plane(2, 1), plane(1, 1)),
            _ => Planes::Difference(plane(1, 1), plane(3, 1)),
        }
    }
}

/// What a transform along the depth combines: one plane of pixels, or two.
#[derive(Clone, Copy)]
pub enum Planes<P, const N: usize> {
    One([P; N]),
    Sum([P; N], [P; N]),
    Difference([P; N], [P; N]),
}

/// A patch on its way into the product.
pub struct Input<'a> {
    pub pixels: &'a Planes<*const f32, PLANE>,
    /// Those of the next patch, to be fetched.
    pub ahead: &'a Planes<*const f32, PLANE>,
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
/// Every pixel that is not null has the patch's channels behind it, every place of the target room for whole registers,
/// and the processor has `S`.
#[inline(always)]
pub unsafe fn transform_input<S: Simd>(input: &Input<'_>) {
    // SAFETY: as ours.
    unsafe {
        match (input.pixels, input.ahead) {
            (Planes::One(p), Planes::One(ahead)) => input_planes::<S, 0>(input, [p, p], [ahead; 2]),
            (Planes::Sum(p, q), Planes::Sum(a, b)) => {
                input_planes::<S, 1>(input, [p, q], [a, b]);
            }
            (Planes::Difference(p, q), Planes::Difference(a, b)) => {
                input_planes::<S, 2>(input, [p, q], [a, b]);
            }
            _ => unreachable!("all patches of a task take the same planes"),
        }
    }
}

/// Bᵀ d B of a patch, of a sum (1) or a difference (2) of two, or of one (0).
///
/// # Safety
/// As [`transform_input`].
#[inline(always)]
unsafe fn input_planes<S: Simd, const SIGN: usize>(
    input: &Input<'_>,
    [first, second]: [&[*const f32; PLANE]; 2],
    ahead: [&[*const f32; PLANE]; 2],
) {
    // SAFETY: as ours.
    unsafe {
        for c in (0..input.channels).step_by(S::LANES) {
            let many = S::LANES.min(input.channels - c);
            let at = input.start + c;
            for plane in ahead.iter().take(if SIGN == 0 { 1 } else { 2 }) {
                for pixel in *plane {
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
            // Columns first, then rows.
            let mut half = MaybeUninit::<[[S::V; 4]; 4]>::uninit();
            let half = half.as_mut_ptr().cast::<S::V>();
            for x in 0..4 {
                let mut column = [S::zero(); 4];
                for (y, v) in column.iter_mut().enumerate() {
                    *v = load(first[y * 4 + x]);
                    if SIGN == 1 {
                        *v = S::add(*v, load(second[y * 4 + x]));
                    } else if SIGN == 2 {
                        *v = S::sub(*v, load(second[y * 4 + x]));
                    }
                }
                for (y, v) in patch_axis::<S>(column).into_iter().enumerate() {
                    half.add(y * 4 + x).write(v);
                }
            }
            for y in 0..4 {
                let row = half.add(y * 4).cast::<[S::V; 4]>().read();
                for (x, v) in patch_axis::<S>(row).into_iter().enumerate() {
                    S::store(input.target.add((y * 4 + x) * input.pitch + c), v);
                }
            }
        }
    }
}

/// Bᵀ of one axis.
///
/// # Safety
/// The processor has `S`.
#[inline(always)]
unsafe fn patch_axis<S: Simd>(d: [S::V; 4]) -> [S::V; 4] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        [
            S::sub(d[0], d[2]),
            S::add(d[1], d[2]),
            S::sub(d[2], d[1]),
            S::sub(d[1], d[3]),
        ]
    }
}
