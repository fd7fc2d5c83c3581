//! Slices into a stack: in order, evenly spaced, each exactly once.

use super::{Plane, Space, dot, minus};
use crate::error::DataError;

/// How far a slice may lie from its place, as a share of the distance between slices.
const TOLERANCE: f64 = 0.05;

/// One slice and where it lies.
pub(super) struct Slice {
    pub name: String,
    pub plane: Plane,
    pub values: Vec<f32>,
}

/// A stack of slices.
pub(super) struct Stack {
    pub values: Vec<f32>,
    pub space: Space,
}

/// Order `slices` along their common normal, and check that none is missing, doubled or turned.
pub(super) fn stack(place: &str, mut slices: Vec<Slice>) -> Result<Stack, DataError> {
    let wrong = |what: String, cure: &str| Err(DataError::data(place, what, cure));
    let Some(first) = slices.first() else {
        return wrong("no slices".into(), "remove the folder");
    };
    let plane = first.plane;
    let normal = plane.normal();
    let norm = dot(normal, normal).sqrt();
    if !(0.9..1.1).contains(&norm) {
        return wrong(
            "rows and columns of the slices are not at right angles".into(),
            "convert the series to NIfTI",
        );
    }
    for slice in &slices {
        let other = slice.plane;
        let turned = |a: [f64; 3], b: [f64; 3]| a.iter().zip(b).any(|(x, y)| (x - y).abs() > 1e-3);
        if turned(plane.row, other.row) || turned(plane.column, other.column) {
            return wrong(
                format!(
                    "`{}` and `{}` are turned differently",
                    first.name, slice.name
                ),
                "give each series a folder of its own",
            );
        }
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-3 * a.abs().max(b.abs());
        if !close(plane.spacing[0], other.spacing[0]) || !close(plane.spacing[1], other.spacing[1])
        {
            return wrong(
                format!(
                    "`{}` and `{}` have pixels of different sizes",
                    first.name, slice.name
                ),
                "give each series a folder of its own",
            );
        }
    }
    let height = |slice: &Slice| dot(slice.plane.position, normal) / norm;
    slices.sort_by(|a, b| {
        height(a)
            .total_cmp(&height(b))
            .then_with(|| a.name.cmp(&b.name))
    });
    let gaps: Vec<f64> = slices
        .windows(2)
        .map(|w| height(&w[1]) - height(&w[0]))
        .collect();
    let mut sorted = gaps.clone();
    sorted.sort_by(f64::total_cmp);
    let usual = sorted.get(sorted.len() / 2).copied().unwrap_or(1.0);
    for (gap, pair) in gaps.iter().zip(slices.windows(2)) {
        if *gap < 1e-3 * usual.max(1e-3) {
            return wrong(
                format!(
                    "`{}` and `{}` lie in the same place",
                    pair[0].name, pair[1].name
                ),
                "keep one of them; several times or echoes each need a folder of their own",
            );
        }
        if (gap - usual).abs() > TOLERANCE * usual {
            return wrong(
                format!(
                    "{gap:.3} mm between `{}` and `{}`, elsewhere {usual:.3} mm: slices are missing, or unevenly spaced",
                    pair[0].name, pair[1].name
                ),
                "fetch the series again, or resample it to even slices",
            );
        }
    }
    let (Some(bottom), Some(top)) = (slices.first(), slices.last()) else {
        return wrong("no slices".into(), "remove the folder");
    };
    let count = slices.len();
    let step = if count < 2 {
        normal.map(|v| v / norm)
    } else {
        minus(top.plane.position, bottom.plane.position).map(|v| v / (count - 1) as f64)
    };
    let origin = bottom.plane.position;
    for (i, slice) in slices.iter().enumerate() {
        let expected = [0, 1, 2].map(|axis| origin[axis] + step[axis] * i as f64);
        let off = minus(slice.plane.position, expected);
        if dot(off, off).sqrt() > 2.0 * TOLERANCE * usual.abs() && count > 1 {
            return wrong(
                format!("`{}` lies beside the line of the other slices", slice.name),
                "resample the series to a straight stack",
            );
        }
    }
    let upright = dot(step, normal) / norm;
    if dot(step, step).sqrt() > upright * (1.0 + TOLERANCE) {
        return wrong(
            "the slices are staggered (a tilted gantry)".into(),
            "correct the tilt (`dcm2niix` does), then give the NIfTI file",
        );
    }
    let space = bottom.plane.space(step);
    let mut values = Vec::with_capacity(slices.iter().map(|s| s.values.len()).sum());
    for slice in slices {
        values.extend(slice.values);
    }
    Ok(Stack { values, space })
}
