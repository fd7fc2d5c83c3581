//! The 1-D transforms and their application along each axis of a patch.

use crate::{
    Isa,
    isa::dispatch,
    simd::{Simd, fma},
};

/// The transform along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    /// A kernel of one pixel: nothing to do.
    Identity,
    /// F(2, 3): interpolation points 0, 1, −1, ∞.
    F2,
    /// F(4, 3): interpolation points 0, 1, −1, 2, −2, ∞.
    F4,
}

impl Transform {
    /// Output pixels of a tile.
    pub(super) fn tile(&self) -> usize {
        match self {
            Transform::Identity => 1,
            Transform::F2 => 2,
            Transform::F4 => 4,
        }
    }

    /// Input pixels of a tile.
    pub(super) fn patch(&self) -> usize {
        self.tile() + 2 * self.padding()
    }

    /// The convolution's padding.
    pub(super) fn padding(&self) -> usize {
        usize::from(*self != Transform::Identity)
    }

    /// G along one axis of a kernel: `[outer][3][inner]` to `[outer][m + 2][inner]`, in f64.
    pub(super) fn kernel(&self, kernel: &[f64], inner: usize) -> Vec<f64> {
        let rows: &[[f64; 3]] = match self {
            Transform::Identity => return kernel.to_vec(),
            Transform::F2 => &[
                [1.0, 0.0, 0.0],
                [0.5, 0.5, 0.5],
                [0.5, -0.5, 0.5],
                [0.0, 0.0, 1.0],
            ],
            Transform::F4 => &[
                [1.0 / 4.0, 0.0, 0.0],
                [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
                [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
                [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
                [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
                [0.0, 0.0, 1.0],
            ],
        };
        let mut out = Vec::with_capacity(kernel.len() / 3 * rows.len());
        for taps in kernel.chunks_exact(3 * inner) {
            for row in rows {
                out.extend((0..inner).map(|i| {
                    row[0] * taps[i] + row[1] * taps[inner + i] + row[2] * taps[2 * inner + i]
                }));
            }
        }
        out
    }
}

/// Which of a transform's matrices is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Bᵀ: a patch to its transform.
    Input,
    /// Aᵀ: a product to the output tile.
    Output,
}

/// Applies a transform along every axis of a patch `[depth][height][width][channels]` at the start of `memory`, whose
/// second half is scratch. Returns where the result lies.
pub(super) fn along_axes<'a>(
    isa: Isa,
    axes: &[Transform; 3],
    direction: Direction,
    channels: usize,
    memory: &'a mut [f32],
) -> &'a [f32] {
    let mut sizes = axes.map(|a| a.patch());
    let half = memory.len() / 2;
    let (mut from, mut to) = memory.split_at_mut(half);
    for axis in 0..3 {
        let result = match direction {
            Direction::Input => axes[axis].patch(),
            Direction::Output => axes[axis].tile(),
        };
        if axes[axis] == Transform::Identity {
            continue;
        }
        let inner = sizes[axis + 1..].iter().product::<usize>() * channels;
        let outer: usize = sizes[..axis].iter().product();
        for block in 0..outer {
            let source = &from[block * sizes[axis] * inner..][..sizes[axis] * inner];
            let target = &mut to[block * result * inner..][..result * inner];
            match (axes[axis], direction) {
                (Transform::F2, Direction::Input) => input_f2(isa, source, target, inner),
                (Transform::F4, Direction::Input) => input_f4(isa, source, target, inner),
                (Transform::F2, Direction::Output) => output_f2(isa, source, target, inner),
                _ => output_f4(isa, source, target, inner),
            }
        }
        sizes[axis] = result;
        (from, to) = (to, from);
    }
    &from[..sizes.iter().product::<usize>() * channels]
}

/// Splits the rows of a transform's input or output.
macro_rules! rows {
    ($source:ident, $inner:ident, $($name:ident)*) => {
        let mut rows = $source.chunks_exact($inner);
        $(let $name = &rows.next().unwrap_or_default()[..$inner];)*
    };
    (mut $target:ident, $inner:ident, $($name:ident)*) => {
        let mut rows = $target.chunks_exact_mut($inner);
        $(let $name = &mut rows.next().unwrap_or_default()[..$inner];)*
    };
}

dispatch! { fn input_f2(source: &[f32], target: &mut [f32], inner: usize) = input_f2_body }

#[inline(always)]
fn input_f2_body<S: Simd>(source: &[f32], target: &mut [f32], inner: usize) {
    rows!(source, inner, d0 d1 d2 d3);
    rows!(mut target, inner, v0 v1 v2 v3);
    for i in 0..inner {
        v0[i] = d0[i] - d2[i];
        v1[i] = d1[i] + d2[i];
        v2[i] = d2[i] - d1[i];
        v3[i] = d1[i] - d3[i];
    }
}

dispatch! { fn input_f4(source: &[f32], target: &mut [f32], inner: usize) = input_f4_body }

#[inline(always)]
fn input_f4_body<S: Simd>(source: &[f32], target: &mut [f32], inner: usize) {
    rows!(source, inner, d0 d1 d2 d3 d4 d5);
    rows!(mut target, inner, v0 v1 v2 v3 v4 v5);
    for i in 0..inner {
        let (a, b) = (fma::<S>(-4.0, d2[i], d4[i]), fma::<S>(-4.0, d1[i], d3[i]));
        let (c, d) = (d4[i] - d2[i], 2.0 * (d3[i] - d1[i]));
        v0[i] = fma::<S>(4.0, d0[i], fma::<S>(-5.0, d2[i], d4[i]));
        v1[i] = a + b;
        v2[i] = a - b;
        v3[i] = c + d;
        v4[i] = c - d;
        v5[i] = fma::<S>(4.0, d1[i], fma::<S>(-5.0, d3[i], d5[i]));
    }
}

dispatch! { fn output_f2(source: &[f32], target: &mut [f32], inner: usize) = output_f2_body }

#[inline(always)]
fn output_f2_body<S: Simd>(source: &[f32], target: &mut [f32], inner: usize) {
    rows!(source, inner, m0 m1 m2 m3);
    rows!(mut target, inner, y0 y1);
    for i in 0..inner {
        y0[i] = m0[i] + m1[i] + m2[i];
        y1[i] = m1[i] - m2[i] - m3[i];
    }
}

dispatch! { fn output_f4(source: &[f32], target: &mut [f32], inner: usize) = output_f4_body }

#[inline(always)]
fn output_f4_body<S: Simd>(source: &[f32], target: &mut [f32], inner: usize) {
    rows!(source, inner, m0 m1 m2 m3 m4 m5);
    rows!(mut target, inner, y0 y1 y2 y3);
    for i in 0..inner {
        let (a, b) = (m1[i] + m2[i], m1[i] - m2[i]);
        let (c, d) = (m3[i] + m4[i], m3[i] - m4[i]);
        y0[i] = m0[i] + a + c;
        y1[i] = fma::<S>(2.0, d, b);
        y2[i] = fma::<S>(4.0, c, a);
        y3[i] = fma::<S>(8.0, d, b) + m5[i];
    }
}
