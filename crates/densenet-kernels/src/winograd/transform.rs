//! The 1-D transforms: Bᵀ of patches, G of kernels, Aᵀ of products.

mod outputs;
mod pairs;
mod patch;

pub(super) use outputs::{Output, output, output_axis};
pub(super) use patch::{Input, Mix, Numbers, Step, input, input_axis};

/// The transform along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    /// A kernel of one pixel: nothing to do.
    Identity,
    /// F(2, 3): interpolation points 0, 1, −1, ∞.
    F2,
    /// F(4, 3): interpolation points 0, ±[`NEAR`], ±[`FAR`], ∞.
    F4,
    /// F(3, 4): the same points, shared out between an output pixel less and a kernel pixel more.
    F3,
}

/// The points of F(4, 3) and F(3, 4): 0, ±3/4, ±3/2, ∞. Smaller than the usual ±1 and ±2, so that powers of theirs
/// neither grow nor cancel as much: a third of the error (docs/numerics.md).
pub(super) const NEAR: f32 = 0.75;
pub(super) const FAR: f32 = 1.5;
pub(super) const NEAR_2: f32 = NEAR * NEAR;
pub(super) const FAR_2: f32 = FAR * FAR;

/// A row of G for the point `x`: its powers over the product of its distances to the other points.
const fn at_point(x: f64, distances: f64) -> [f64; 4] {
    [
        1.0 / distances,
        x / distances,
        x * x / distances,
        x * x * x / distances,
    ]
}

/// G for the six points, as wide as F(3, 4) needs it. Its last row takes the kernel's last pixel, whichever that is.
const SIX_POINTS: [[f64; 4]; 5] = {
    let (near, far) = (NEAR as f64, FAR as f64);
    let (near_2, far_2) = (near * near, far * far);
    let at_near = 2.0 * near_2 * (near_2 - far_2);
    let at_far = 2.0 * far_2 * (far_2 - near_2);
    [
        at_point(0.0, near_2 * far_2),
        at_point(near, at_near),
        at_point(-near, at_near),
        at_point(far, at_far),
        at_point(-far, at_far),
    ]
};

/// [`SIX_POINTS`] and the point ∞ of a kernel of 3 pixels, and of 4.
const F4_KERNEL: [[f64; 4]; 6] = with_infinity([0.0, 0.0, 1.0, 0.0]);
pub(super) const F3_KERNEL: [[f64; 4]; 6] = with_infinity([0.0, 0.0, 0.0, 1.0]);

const fn with_infinity(last: [f64; 4]) -> [[f64; 4]; 6] {
    let [a, b, c, d, e] = SIX_POINTS;
    [a, b, c, d, e, last]
}

impl Transform {
    /// Output pixels of a tile.
    pub(super) fn tile(self) -> usize {
        match self {
            Transform::Identity => 1,
            Transform::F2 => 2,
            Transform::F3 => 3,
            Transform::F4 => 4,
        }
    }

    /// Input pixels of a tile.
    pub(super) fn patch(self) -> usize {
        match self {
            Transform::Identity => 1,
            Transform::F2 => 4,
            Transform::F3 | Transform::F4 => 6,
        }
    }

    /// The padding of a 3 or 1 wide convolution.
    pub(super) fn padding(self) -> usize {
        usize::from(self != Transform::Identity)
    }

    /// Pixels of the kernel.
    fn taps(self) -> usize {
        self.patch() + 1 - self.tile()
    }

    /// G: what each pixel of a transformed kernel takes of the kernel's pixels (three; four for F(3, 4)).
    pub(super) fn kernel(self) -> &'static [[f64; 4]] {
        match self {
            Transform::Identity => &[],
            Transform::F2 => &[
                [1.0, 0.0, 0.0, 0.0],
                [0.5, 0.5, 0.5, 0.0],
                [0.5, -0.5, 0.5, 0.0],
                [0.0, 0.0, 1.0, 0.0],
            ],
            Transform::F4 => &F4_KERNEL,
            Transform::F3 => &F3_KERNEL,
        }
    }
}

/// Kernels of adjacent columns, transformed together.
pub(super) const COLUMNS: usize = 8;

/// One pixel of [`COLUMNS`] kernels.
pub(super) type Column = [f64; COLUMNS];

/// G along every axis of [`COLUMNS`] kernels, in f64: `[depth][height][width]` at the start of `pixels` becomes the
/// transformed kernel. `spare` is as long.
pub(super) fn transform_kernel(
    axes: &[Transform],
    pixels: &mut Vec<Column>,
    spare: &mut Vec<Column>,
) {
    for axis in (0..axes.len()).rev() {
        let rows = axes[axis].kernel();
        if rows.is_empty() {
            continue;
        }
        // Axes behind this one have their new size.
        let inner: usize = axes[axis + 1..].iter().map(|a| a.patch()).product();
        spare.clear();
        let taps = axes[axis].taps();
        for kernel in pixels.chunks_exact(taps * inner) {
            for row in rows {
                spare.extend((0..inner).map(|i| -> Column {
                    let mut sum = [0.0; COLUMNS];
                    for (factor, tap) in row[..taps].iter().zip(kernel[i..].iter().step_by(inner)) {
                        for (s, v) in sum.iter_mut().zip(tap) {
                            *s += factor * v;
                        }
                    }
                    sum
                }));
            }
        }
        std::mem::swap(pixels, spare);
    }
}
