//! Aᵀ m A: products on their way to pixels.

use std::mem::MaybeUninit;

use super::{FAR, NEAR, Transform};
use crate::{
    isa::dispatch,
    simd::{Simd, load_some},
};

/// A product of transforms and the tile of outputs that it becomes.
pub(in crate::winograd) struct Output<'a> {
    /// The product's first pixel, and how far its `[depth][height][width]` pixels lie apart.
    pub product: *const f32,
    pub pitch: usize,
    /// The transform along the depth.
    pub deep: Transform,
    pub channels: usize,
    /// Where the outputs `[depth][height][width]` go; null where a tile reaches over the map's border.
    pub pixels: &'a [*mut f32],
    /// The norm after the convolution (`channels` values each), and whether to rectify.
    pub affine: Option<(&'a [f32], &'a [f32])>,
    pub relu: bool,
}

/// Aᵀ m A of one tile, for all channels.
///
/// # Safety
/// Every pixel of the product has `channels` elements rounded up to whole registers, every output that is not null room
/// for `channels`.
pub(in crate::winograd) unsafe fn output(
    isa: crate::Isa,
    plane: [Transform; 2],
    tile: &Output<'_>,
) {
    dispatch!(fn f2(tile: &Output<'_>) = f2_body);
    dispatch!(fn f2x4(tile: &Output<'_>) = f2x4_body);
    dispatch!(fn f3(tile: &Output<'_>) = f3_body);
    dispatch!(fn f4(tile: &Output<'_>) = f4_body);
    match plane {
        [Transform::F2, Transform::F2] => f2(isa, tile),
        [Transform::F2, _] => f2x4(isa, tile),
        [Transform::F3, _] => f3(isa, tile),
        _ => f4(isa, tile),
    }
}

macro_rules! bodies {
    ($($name:ident: [$($size:literal),*];)*) => {
        $(#[inline(always)]
        fn $name<S: Simd>(tile: &Output<'_>) {
            // SAFETY: the caller of `output` guarantees the operands; the shell around us has the instruction set.
            unsafe {
                match tile.affine.is_some() || tile.relu {
                    true => body::<S, $($size),*, true>(tile),
                    false => body::<S, $($size),*, false>(tile),
                }
            }
        })*
    };
}

// Pixels of the product along height and width, then of the outputs.
bodies! {
    f2_body: [4, 4, 2, 2];
    f2x4_body: [4, 6, 2, 4];
    f3_body: [6, 6, 3, 3];
    f4_body: [6, 6, 4, 4];
}

/// # Safety
/// As [`output`].
#[inline(always)]
unsafe fn body<
    S: Simd,
    const PY: usize,
    const PX: usize,
    const MY: usize,
    const MX: usize,
    const FINISH: bool,
>(
    tile: &Output<'_>,
) {
    // SAFETY: the caller guarantees whole registers behind every pixel of the product and room behind every output.
    unsafe {
        let mut c = 0;
        // Aᵀ along the depth: up to four planes.
        let mut deep = MaybeUninit::<[[[S::V; PX]; PY]; 4]>::uninit();
        let deep = deep.as_mut_ptr().cast::<S::V>();
        while c < tile.channels {
            let many = S::LANES.min(tile.channels - c);
            let place = |i: usize| tile.product.add(i * tile.pitch + c);
            let at = |depth: usize, i: usize| S::load(place(depth * PY * PX + i));
            for i in 0..PY * PX {
                match tile.deep {
                    Transform::Identity => break,
                    Transform::F2 => {
                        let m = [at(0, i), at(1, i), at(2, i), at(3, i)];
                        let y = output_axis::<S, 4, 2>(m);
                        (0..2).for_each(|z| deep.add(z * PY * PX + i).write(y[z]));
                    }
                    Transform::F3 | Transform::F4 => {
                        let m = [at(0, i), at(1, i), at(2, i), at(3, i), at(4, i), at(5, i)];
                        let y = output_axis::<S, 6, 4>(m);
                        (0..4).for_each(|z| deep.add(z * PY * PX + i).write(y[z]));
                    }
                }
            }
            for z in 0..tile.deep.tile() {
                let mut half = MaybeUninit::<[[S::V; PX]; MY]>::uninit();
                let half = half.as_mut_ptr().cast::<S::V>();
                for x in 0..PX {
                    let mut column = [S::zero(); PY];
                    for (y, v) in column.iter_mut().enumerate() {
                        *v = match tile.deep {
                            Transform::Identity => at(0, y * PX + x),
                            _ => deep.add((z * PY + y) * PX + x).read(),
                        };
                    }
                    let column = output_axis::<S, PY, MY>(column);
                    for (y, v) in column.iter().enumerate() {
                        half.add(y * PX + x).write(*v);
                    }
                }
                for y in 0..MY {
                    let row = half.add(y * PX).cast::<[S::V; PX]>().read();
                    let row = output_axis::<S, PX, MX>(row);
                    for (x, v) in row.iter().enumerate() {
                        let pixel = tile.pixels[(z * MY + y) * MX + x];
                        if pixel.is_null() {
                            continue;
                        }
                        let v = match FINISH {
                            true => finish::<S>(tile, *v, c, many),
                            false => *v,
                        };
                        if many == S::LANES {
                            S::store(pixel.add(c), v);
                        } else {
                            S::store_first(pixel.add(c), v, many);
                        }
                    }
                }
            }
            c += S::LANES;
        }
    }
}

/// The norm and ReLU behind a tile, for channels from `c` on.
///
/// # Safety
/// As [`output`].
#[inline(always)]
unsafe fn finish<S: Simd>(tile: &Output<'_>, mut v: S::V, c: usize, many: usize) -> S::V {
    // SAFETY: the affine map holds `channels` values, of which `many` are left.
    unsafe {
        if let Some((scale, shift)) = tile.affine {
            let scale = load_some::<S>(scale.as_ptr().add(c), many);
            v = S::fma(scale, v, load_some::<S>(shift.as_ptr().add(c), many));
        }
        if tile.relu { S::relu(v) } else { v }
    }
}

/// Aᵀ of one axis.
///
/// # Safety
/// The processor has `S`.
#[inline(always)]
pub(in crate::winograd) unsafe fn output_axis<S: Simd, const P: usize, const M: usize>(
    m: [S::V; P],
) -> [S::V; M] {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let mut y = [S::zero(); M];
        if P == 4 {
            y[0] = S::add(S::add(m[0], m[1]), m[2]);
            y[1] = S::sub(S::sub(m[1], m[2]), m[3]);
        } else {
            let (near, far) = (S::add(m[1], m[2]), S::add(m[3], m[4]));
            let (near_1, far_1) = (S::sub(m[1], m[2]), S::sub(m[3], m[4]));
            // Σ point^power of both pairs.
            let both = |power: i32, near: S::V, far: S::V, sum: S::V| {
                let sum = S::fma(S::set(NEAR.powi(power)), near, sum);
                S::fma(S::set(FAR.powi(power)), far, sum)
            };
            let zero = S::zero();
            y[0] = S::add(S::add(m[0], near), far);
            y[1] = both(1, near_1, far_1, zero);
            y[2] = both(2, near, far, if M == 3 { m[5] } else { zero });
            if M == 4 {
                y[3] = both(3, near_1, far_1, m[5]);
            }
        }
        y
    }
}
